"""An attempt to find a formula: what it found so far, and why the best one failed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import onnx_graphsurgeon as gs


@dataclass
class Trail:
    """The reason for which the attempt that came farthest failed.

    ``anchor``: a node without which an attempt came nowhere near. ``rank``: how far it came.
    """

    anchor: gs.Node | None = None
    rank: tuple[bool, bool, int] = (False, False, -1)
    reason: str = ""

    def miss(self, state: State, reason: str, found: bool = False) -> None:
        """Take down a reason, unless an attempt came farther before. ``found``: the formula stands
        there but is of no use."""
        rank = any(node is self.anchor for node in state.nodes), found, len(state.nodes)
        if rank > self.rank:
            self.rank, self.reason = rank, reason


@dataclass(frozen=True)
class State:
    """What an attempt found: tensors and numbers by name, nodes from the last to the first."""

    trail: Trail
    values: dict[str, gs.Tensor] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    nodes: tuple[gs.Node, ...] = ()

    def past(self, *nodes: gs.Node) -> State:
        """With more nodes."""
        return replace(self, nodes=(*self.nodes, *nodes))
