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
    """Put new nodes where the old ones stood."""
    graph.nodes = [new for old in graph.nodes for new in replacements.get(id(old), [old])]
