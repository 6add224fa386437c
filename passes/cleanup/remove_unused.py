"""remove-unused: nodes, and outputs of nodes, that nothing needs go."""

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.fused import MICROSOFT, STANDARD
from sardonyx.passes.journal import Journal
from sardonyx.passes.rewrite import release_all
from sardonyx.passes.scopes import all_nodes, bodies, scopes

_OPTIONAL = {
    "Dropout": (1,),
    "GRU": (0, 1),
    "LSTM": (0, 1, 2),
    "LayerNormalization": (1, 2),
    "MaxPool": (1,),
    "RNN": (0, 1),
    "SimplifiedLayerNormalization": (1,),
    "SkipLayerNormalization": (1, 2, 3),
    "SkipSimplifiedLayerNormalization": (1, 2, 3),
    "Unique": (1, 2, 3),
}
"""Outputs that may be left out in every operator set, with no other effect, by op. Not those of
BatchNormalization, whose number once said whether it trains, nor the presents of attention, without
which onnxruntime's kernel is wrong about the past."""


@dataclass(frozen=True)
class RemoveUnused(Pass):
    """A node none of whose outputs is read or is an output of the graph  ->  nothing.

    Also ``y, mean = Op(x)``, where nothing reads mean and Op may leave it out  ->  ``y = Op(x)``:
    it need not be computed, and hides from no pass that y alone is wanted. Initializers that
    nothing reads go with it: only what nodes read is written. Does not fire on

    1. a node that a subgraph (If, Loop, Scan) reads from outside,
    2. outputs of ops that must make all, or that mean something else by making fewer,
    3. inputs of the graph, and initializers that are inputs too, which callers may give.
    """

    name: ClassVar[str] = "remove-unused"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Remove nodes from the end of the graph to its start, so that whole chains go."""
        graph.toposort()
        return sum(map(_sweep, reversed(list(scopes(graph)))))


def _sweep(graph: gs.Graph) -> int:
    outputs = {tensor.name for tensor in graph.outputs}
    gone: dict[int, gs.Node] = {}

    def is_needed(tensor: gs.Tensor) -> bool:
        read = any(id(reader) not in gone for reader in tensor.outputs)
        return read or (tensor.name in outputs and not tensor.is_empty())

    kept: list[gs.Node] = []
    shortened = 0
    for node in reversed(graph.nodes):
        needed = list(map(is_needed, node.outputs))
        if any(needed):
            kept.append(node)
            shortened += _leave_out(node, needed)
        else:
            inside = [inner for body in bodies(node) for inner in all_nodes(body)]
            gone |= {id(held): held for held in (node, *inside)}
    removed = len(graph.nodes) - len(kept)
    release_all(list(gone.values()))
    graph.nodes = kept[::-1]
    return removed + shortened


def _leave_out(node: gs.Node, needed: list[bool]) -> bool:
    """Let a node not make what it need not; whether there was such an output."""
    optional = _OPTIONAL.get(node.op, ()) if node.domain in (*STANDARD, MICROSOFT) else ()
    unused = [
        (slot, tensor)
        for slot, tensor in enumerate(node.outputs)
        if slot in optional and not needed[slot] and not tensor.is_empty()
    ]
    for slot, tensor in unused:
        list.clear(tensor.inputs)
        list.__setitem__(node.outputs, slot, gs.Variable.empty())
    while unused and node.outputs[-1].is_empty():
        list.pop(node.outputs)
    return bool(unused)
