"""Which tensors are a graph's own: nothing outside its nodes needs them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx_graphsurgeon as gs


@dataclass(frozen=True)
class Within:
    """Nodes and outputs of a graph, by ``id``, without the graphs inside it."""

    nodes: Collection[int]
    outputs: Collection[int]

    @classmethod
    def of(cls, graph: gs.Graph) -> Within:
        """Those of a graph as it is now."""
        return cls(frozenset(map(id, graph.nodes)), frozenset(map(id, graph.outputs)))

    def owns(self, tensor: gs.Tensor) -> bool:
        """Whether a tensor is no output of the graph, and no graph inside it reads it."""
        return id(tensor) not in self.outputs and all(id(r) in self.nodes for r in tensor.outputs)
