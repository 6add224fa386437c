"""Which nodes lose their last reader when something else makes a tensor."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_graphsurgeon as gs


def dying(graph: gs.Graph, freed: Iterable[gs.Node], kept: Iterable[gs.Tensor]) -> set[int]:
    """Ids of the nodes of ``graph`` that nobody reads once ``freed`` have lost their outputs.

    ``freed`` among them. A node that makes an output of the graph or one of the tensors ``kept``,
    or that a graph inside it reads, lives on.
    """
    needed = {id(tensor) for tensor in (*graph.outputs, *kept)}
    gone = {id(node) for node in freed}
    near = set(gone)
    for node in reversed(graph.nodes):
        if id(node) not in near:
            continue
        if id(node) not in gone:
            read = [reader for tensor in node.outputs for reader in tensor.outputs]
            if any(id(r) not in gone for r in read) or needed & set(map(id, node.outputs)):
                continue
            gone.add(id(node))
        near |= {id(producer) for tensor in node.inputs for producer in tensor.inputs}
    return gone
