"""What is left of ops that no ONNX standard knows, and why."""

from collections.abc import Container

import onnx_graphsurgeon as gs

from sardonyx.passes.fused import MICROSOFT, OLDEST_OPSET, STANDARD, is_contrib, obstacle
from sardonyx.passes.journal import Kept
from sardonyx.passes.origin import label
from sardonyx.passes.scopes import all_nodes
from sardonyx.runtime_ops.ops import DOMAIN

_ONNX = "ai.onnx"
"""How the names of ONNX's own domains begin."""


def kept_ops(graph: gs.Graph, functions: Container[tuple[str, str]]) -> list[Kept]:
    """Every node of an op that is neither the standard's nor ours, nor one of the model's
    ``functions`` (domain and name), in the graph and in those inside it."""
    return [
        Kept(label(node), node.op, _reason(node, graph.opset))
        for node in all_nodes(graph)
        if _is_foreign(node, graph.opset) and (node.domain, node.op) not in functions
    ]


def _is_foreign(node: gs.Node, opset: int) -> bool:
    if node.domain in STANDARD or node.domain == MICROSOFT:
        return is_contrib(node, opset)
    return node.domain != DOMAIN and not node.domain.startswith(_ONNX)


def _reason(node: gs.Node, opset: int) -> str:
    if node.domain not in (*STANDARD, MICROSOFT):
        return f"nothing is known of domain '{node.domain}'"
    if opset < OLDEST_OPSET:
        return f"the model uses opset {opset}; ops are taken apart from {OLDEST_OPSET} on"
    return obstacle(node) or "no pass took it apart"
