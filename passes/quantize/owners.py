"""Who reads a weight: it can be changed for some products only if nobody else does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from sardonyx.passes.quantize.products import product_uses
from sardonyx.passes.scopes import scopes
from sardonyx.passes.tied import TiedWeight, tied_weights
from sardonyx.passes.weights import WeightUse, weight_uses


@dataclass(frozen=True)
class Owners:
    """The uses of all weights of a graph.

    ``uses``: of products directly in it, by ``id`` of the node, without misfits. ``tied``: all uses
    of the matrix that an input reads, by ``id`` of the node and slot. ``outputs``: of the graph and
    those inside it.
    """

    uses: dict[int, WeightUse]
    tied: dict[tuple[int, int], TiedWeight]
    outputs: tuple[gs.Tensor, ...]

    @classmethod
    def of(cls, graph: gs.Graph) -> Owners:
        """The owners as the graph stands."""
        uses = {id(use.node): use for use in product_uses(graph) if not use.misfit}
        weights = tied_weights(weight_uses(graph))
        tied = {(id(use.node), use.slot): weight for weight in weights for use in weight.uses}
        return cls(uses, tied, tuple(out for scope in scopes(graph) for out in scope.outputs))

    def obstacle(self, uses: Sequence[WeightUse]) -> str:
        """Why the weights of some uses cannot be changed for these alone; empty if they can."""
        ours = {(id(use.node), use.slot) for use in uses}
        for use in uses:
            reason = self._obstacle(use, ours)
            if reason:
                return f"weight '{use.view.constant.name}' {reason}"
        return ""

    def _obstacle(self, use: WeightUse, ours: set[tuple[int, int]]) -> str:
        weight, constant = self.tied[id(use.node), use.slot], use.view.constant
        for other in weight.uses:
            if (id(other.node), other.slot) not in ours:
                same = other.view.constant is constant
                tie = "" if same else f", as '{other.view.constant.name}'"
                return f"is also read by {other.node.op} '{other.node.name}'{tie}"
        reader = weight.other_reader(self.outputs)
        if reader:
            return f"is also read by {reader}"
        if use.view.dtype != constant.dtype:
            return f"is stored as {constant.dtype} and read as {use.view.dtype}"
        return ""
