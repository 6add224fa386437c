"""remove-unused: nodes that nothing needs go."""

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.journal import Journal
from sardonyx.passes.rewrite import release
from sardonyx.passes.scopes import all_nodes, scopes


@dataclass(frozen=True)
class RemoveUnused(Pass):
    """A node none of whose outputs is read or is an output of the graph  ->  nothing.

    Initializers that nothing reads go with it: only what nodes read is written. Does not fire on

    1. a node that a subgraph (If, Loop, Scan) reads from outside.
    """

    name: ClassVar[str] = "remove-unused"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Remove nodes from the end of the graph to its start, so that whole chains go."""
        graph.toposort()
        return sum(map(_sweep, reversed(list(scopes(graph)))))


def _sweep(graph: gs.Graph) -> int:
    before = len(graph.nodes)
    kept_names = {tensor.name for tensor in graph.outputs}
    kept: list[gs.Node] = []
    for node in reversed(graph.nodes):
        if any(out.outputs or out.name in kept_names for out in node.outputs):
            kept.append(node)
        else:
            _release(node)
    graph.nodes = kept[::-1]
    return before - len(kept)


def _release(node: gs.Node) -> None:
    """Let go of all that a node reads, also inside its own graphs."""
    for inner in (node, *(n for body in node.subgraphs() for n in all_nodes(body))):
        release(inner)
