"""onnxruntime's fused ops that hold weight matrices, and what stands against taking one apart."""

import onnx_graphsurgeon as gs

from sardonyx.passes.scopes import all_nodes

MICROSOFT = "com.microsoft"
"""onnxruntime's domain."""

FUSED: dict[str, tuple[int, ...]] = {
    "Attention": (1,),
    "EmbedLayerNormalization": (2, 3, 4),
    "FusedGemm": (0, 1),
    "FusedMatMul": (0, 1),
    "GemmFastGelu": (1,),
    "LongformerAttention": (1, 4),
    "PackedAttention": (1,),
    "QAttention": (1,),
}
"""Inputs that may be weights, by op of onnxruntime's domain."""

_SPECIAL = ("do_rotary", "past_present_share_buffer")
"""Attributes of Attention that MultiHeadAttention has not."""


def obstacle(node: gs.Node) -> str:
    """Why a fused op cannot be taken apart without changing what it computes; empty if it can."""
    judge = {"Attention": _attention, "EmbedLayerNormalization": _embeddings}.get(node.op)
    return judge(node) if judge else "nothing is known of its parts"


def separable(graph: gs.Graph, op: str) -> list[gs.Node]:
    """Every node of a fused op, wherever it is, that can be taken apart."""
    fused = [node for node in all_nodes(graph) if (node.domain, node.op) == (MICROSOFT, op)]
    return [node for node in fused if not obstacle(node)]


def operand(node: gs.Node, slot: int) -> gs.Tensor | None:
    """An input of a node, None where it was left out."""
    given = slot < len(node.inputs) and not node.inputs[slot].is_empty()
    return node.inputs[slot] if given else None


def _attention(node: gs.Node) -> str:
    weights, mask = node.inputs[1], operand(node, 3)
    special = [name for name in _SPECIAL if node.attrs.get(name, 0)]
    if special:
        return f"it has {special[0]}"
    if not isinstance(weights, gs.Constant) or len(weights.shape) != 2:
        return "its weights are no constant matrix"
    if operand(node, 2) is None:
        return "it has no bias, on which onnxruntime's own kernel crashes"
    if mask is not None and not _is_usual(mask, node.inputs[0]):
        return "its mask has another form than lengths, [batch, keys] or [batch, queries, keys]"
    return ""


def _is_usual(mask: gs.Tensor, x: gs.Tensor) -> bool:
    """Whether a mask is sure to have a form that MultiHeadAttention takes too."""
    if mask.shape is None or len(mask.shape) != 1:
        rank = len(mask.shape or ())
        return rank == 3 or (rank == 2 and mask.shape[1] != 1)  # [batch, 1] masks nothing
    counted = bool(mask.inputs) and mask.inputs[0].op in ("ReduceSum", "EmbedLayerNormalization")
    batch = x.shape[0] if x.shape else None  # None: unknown, and equal to nothing
    return counted or (batch is not None and mask.shape[0] == batch)


def _embeddings(node: gs.Node) -> str:
    tables = [table for slot in (2, 3, 4) if (table := operand(node, slot)) is not None]
    if not all(isinstance(table, gs.Constant) and len(table.shape) == 2 for table in tables):
        return "its tables are no constant matrices"
    return ""
