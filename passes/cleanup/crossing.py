"""QuantizeLinear or DequantizeLinear changing places with movements: what both directions share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.cleanup.movements import (
    is_movement,
    need_codes_moved,
    need_zero_padding,
    pads_with_constant,
)
from sardonyx.passes.cleanup.scaling import Scaling
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import annotate, inherit
from sardonyx.passes.quantizers import is_op
from sardonyx.passes.rewrite import Replacements, release, replace_nodes
from sardonyx.passes.scopes import all_nodes, scopes
from sardonyx.passes.sizes import Sizes
from sardonyx.passes.within import Within


@dataclass
class Crossing(ABC):
    """Nodes of one op that cross movements of one graph. ``by``: the pass that lets them.

    ``moved``: what takes the place of each movement; ``gone``: nodes that nothing reads any more,
    perhaps of those; ``misses``: by id of the movement that is not crossed.
    """

    op: ClassVar[str]
    by: str
    scope: gs.Graph
    sizes: Sizes
    moved: Replacements = field(default_factory=dict)
    gone: dict[int, gs.Node] = field(default_factory=dict)
    misses: dict[int, tuple[gs.Node, Unfit]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.within = Within.of(self.scope)

    @abstractmethod
    def fit(self, node: gs.Node) -> list[gs.Node]:
        """The movements next to a node that it is to cross."""

    @abstractmethod
    def cross(self, movement: gs.Node) -> list[gs.Node]:
        """Let a movement move codes; the nodes at its other side."""

    def cross_all(self) -> int:
        """Cross until there is nothing left to cross; how many movements now move codes."""
        pending = [node for node in self.scope.nodes[::-1] if is_op(node, self.op)]
        while pending:
            for movement in self.fit(pending.pop()):
                self.misses.pop(id(movement), None)
                pending += self.cross(movement)
        return len(self.moved)

    def miss(self, movement: gs.Node, reason: Unfit) -> None:
        """Note why a movement is not crossed."""
        self.misses[id(movement)] = movement, reason

    def need_codes_cheaper(self, movement: gs.Node, scaling: Scaling) -> None:
        """Raise Unfit where codes cannot be moved in place of floats, or are no smaller."""
        floats = movement.inputs[0].dtype or scaling.scale.dtype
        if scaling.codes.itemsize >= (2 if floats is None else np.dtype(floats).itemsize):
            raise Unfit(f"{scaling.codes.name} is no smaller than the floats it stands for")
        need_codes_moved(movement, scaling.codes, self.sizes.opset)
        need_zero_padding(movement)
        zero = scaling.zero_point
        if pads_with_constant(movement) and zero is not None and self.sizes.shape(zero) != ():
            raise Unfit("it pads, and the zero point is no scalar")

    def codes_of(self, floats: gs.Tensor, scaling: Scaling) -> gs.Variable:
        """A tensor for the codes of another."""
        return gs.Variable(f"{floats.name}/codes", scaling.codes, floats.shape)

    def put(
        self,
        movement: gs.Node,
        data: list[gs.Tensor],
        outputs: list[gs.Tensor],
        scaling: Scaling,
    ) -> None:
        """Let a movement of codes take the place of one of floats."""
        operands = [*data, *movement.inputs[len(data) :]]
        if pads_with_constant(movement):
            operands[2:3] = [scaling.zero_point or gs.Variable.empty()]
        name, attrs, domain = movement.name, dict(movement.attrs), movement.domain
        release(movement)
        node = gs.Node(movement.op, name, attrs, operands, outputs, domain=domain)
        annotate(node, **{"pass": self.by})
        self.moved[id(movement)] = [node]

    def add(self, movement: gs.Node, like: gs.Node, node: gs.Node, *, ahead: bool) -> gs.Node:
        """A node that scales like another, before or after what took a movement's place."""
        inherit(node, like)
        annotate(node, **{"pass": self.by})
        self.within.nodes.add(id(node))
        place = self.moved[id(movement)]
        place.insert(len(place) - 1 if ahead else len(place), node)
        return node

    def drop(self, node: gs.Node) -> None:
        """Take a node away that nothing reads."""
        release(node)
        self.gone[id(node)] = node

    def replaced(self) -> Replacements:
        """What takes the place of nodes of the graph."""
        kept = {
            old: [node for node in nodes if id(node) not in self.gone]
            for old, nodes in self.moved.items()
        }
        return {old: [] for old in self.gone} | kept


def cross_movements(kind: type[Crossing], by: str, graph: gs.Graph, journal: Journal) -> int:
    """Let all nodes of an op cross what movements they can, in every graph by itself."""
    scaling = (node for node in all_nodes(graph) if is_op(node, kind.op))
    near = (n for s in scaling for n in (*s.inputs[0].inputs, *s.outputs[0].outputs))
    if not any(map(is_movement, near)):
        return 0
    sizes = journal.sizes(graph)
    crossings = [kind(by, scope, sizes) for scope in scopes(graph)]
    rewrites = sum(crossing.cross_all() for crossing in crossings)
    replaced: Replacements = {}
    for crossing in crossings:
        replaced |= crossing.replaced()
    replace_nodes(graph, replaced)
    for movement, reason in (each for crossing in crossings for each in crossing.misses.values()):
        journal.miss(by, movement, reason)
    return rewrites
