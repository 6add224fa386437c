"""Small moves that every pass makes."""

import onnx_graphsurgeon as gs

Replacements = dict[int, list[gs.Node]]
"""By ``id`` of an old node, the nodes that take its place."""


def take_outputs(node: gs.Node) -> list[gs.Tensor]:
    """Free a node from its inputs and outputs, so that another can produce its outputs."""
    outputs = list(node.outputs)
    node.inputs.clear()
    node.outputs.clear()
    return outputs


def replace_nodes(graph: gs.Graph, replacements: Replacements) -> None:
    """Put new nodes where the old ones stood; new tensors whose names are taken get others."""
    owners = {t.name: t for g in graph.subgraphs(recursive=True) for t in g.tensors().values()}
    owners |= graph.tensors()
    for new in (node for nodes in replacements.values() for node in nodes):
        for tensor in (*new.inputs, *new.outputs):
            while owners.setdefault(tensor.name, tensor) is not tensor and tensor.name:
                tensor.name += "_"
    graph.nodes = [new for old in graph.nodes for new in replacements.get(id(old), [old])]
