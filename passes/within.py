"""What is in a graph itself: its nodes and outputs, not those of the graphs inside it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from sardonyx.passes.fused import is_standard


@dataclass(frozen=True)
class Within:
    """Nodes and outputs of a graph, by ``id``."""

    nodes: set[int]
    outputs: set[int]

    @classmethod
    def of(cls, graph: gs.Graph) -> Within:
        """Those of a graph as it is now."""
        return cls(set(map(id, graph.nodes)), set(map(id, graph.outputs)))

    def needs(self, tensor: gs.Tensor) -> bool:
        """Whether something reads a tensor, or it is an output of the graph."""
        return bool(tensor.outputs) or id(tensor) in self.outputs

    def owns(self, tensor: gs.Tensor) -> bool:
        """Whether a tensor is no output of the graph, and no graph inside it reads it."""
        return id(tensor) not in self.outputs and all(id(r) in self.nodes for r in tensor.outputs)

    def only_reader(self, tensor: gs.Tensor, *ops: str) -> gs.Node | None:
        """The one reader of a tensor that the graph owns, if it is one of some standard ops."""
        if len(tensor.outputs) != 1 or not self.owns(tensor):
            return None
        (node,) = tensor.outputs
        return node if node.op in ops and is_standard(node) else None
