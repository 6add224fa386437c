"""onnxruntime's own ops: which of them hold weights, and what stands against taking one apart."""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import DTypeLike

from sardonyx.passes.scopes import all_nodes

MICROSOFT = "com.microsoft"
"""onnxruntime's domain."""

STANDARD = (None, "", "ai.onnx")
"""The standard domain, as it is written."""

STANDARD_FROM = {"LayerNormalization": 17, "SimplifiedLayerNormalization": 1000}
"""Ops that onnxruntime writes into the standard domain, with the operator set in which onnx has
them; of the second it has none."""

OLDEST_OPSET = 13
"""The first operator set that the parts are written for."""

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

ACTIVATIONS: dict[str, dict[str, str]] = {
    "Elu": {"alpha": "activation_alpha"},
    "HardSigmoid": {"alpha": "activation_alpha", "beta": "activation_beta"},
    "LeakyRelu": {"alpha": "activation_alpha"},
    "Relu": {},
    "Selu": {"alpha": "activation_alpha", "gamma": "activation_gamma"},
    "Sigmoid": {},
    "Softplus": {},
    "Softsign": {},
    "Tanh": {},
    "ThresholdedRelu": {"alpha": "activation_alpha"},
}
"""Activations of FusedGemm that are a standard op of that name: attributes there and here."""

_SPECIAL = ("do_rotary", "past_present_share_buffer")
"""Attributes of Attention that MultiHeadAttention has not."""

_FLOATS = ("float16", "float32", "float64", "bfloat16")


def is_standard(node: gs.Node) -> bool:
    """Whether a node is an op of the standard domain."""
    return node.domain in STANDARD


def is_contrib(node: gs.Node, opset: int) -> bool:
    """Whether an op is onnxruntime's own and not the standard's."""
    known = node.domain not in STANDARD or opset >= STANDARD_FROM.get(node.op, 0)
    return bool(node.domain == MICROSOFT or not known)


def obstacle(node: gs.Node) -> str:
    """Why a fused op cannot be taken apart without changing what it computes; empty if it can."""
    judge = _JUDGES.get(node.op)
    return judge(node) if judge else "nothing is known of its parts"


def separable(graph: gs.Graph, *ops: str) -> list[gs.Node]:
    """Every node of some fused ops, wherever it is, that can be taken apart."""
    if graph.opset < OLDEST_OPSET:
        return []
    fused = [n for n in all_nodes(graph) if n.op in ops and is_contrib(n, graph.opset)]
    return [node for node in fused if not obstacle(node)]


def operand(node: gs.Node, slot: int) -> gs.Tensor | None:
    """An input of a node, None where it was left out."""
    given = slot < len(node.inputs) and not node.inputs[slot].is_empty()
    return node.inputs[slot] if given else None


def result(node: gs.Node, slot: int) -> gs.Tensor | None:
    """An output of a node, None where nobody wants it."""
    given = slot < len(node.outputs) and not node.outputs[slot].is_empty()
    return node.outputs[slot] if given else None


def float_type(node: gs.Node) -> DTypeLike | None:
    """The type of the floats that a node computes with, told from those whose type is known."""
    known = (t.dtype for t in (*node.inputs, *node.outputs) if t.dtype is not None)
    return next((dtype for dtype in known if np.dtype(dtype).name in _FLOATS), None)


def rank(tensor: gs.Tensor) -> int | None:
    """How many axes a tensor has; None: it is not known."""
    return None if tensor.shape is None else len(tensor.shape)


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
    if rank(mask) == 2:
        return bool(mask.shape[1] != 1)  # [batch, 1] masks nothing
    return rank(mask) == 3 or _is_lengths(mask, x)


def _is_lengths(mask: gs.Tensor, x: gs.Tensor) -> bool:
    """Whether a mask is sure to hold one number for each sequence of the batch."""
    if rank(mask) != 1:
        return False
    counted = bool(mask.inputs) and mask.inputs[0].op in ("ReduceSum", "EmbedLayerNormalization")
    batch = x.shape[0] if x.shape else None  # None: unknown, and equal to nothing
    return counted or (batch is not None and mask.shape[0] == batch)


def _embeddings(node: gs.Node) -> str:
    tables = [table for slot in (2, 3, 4) if (table := operand(node, slot)) is not None]
    if not all(isinstance(table, gs.Constant) and len(table.shape) == 2 for table in tables):
        return "its tables are no constant matrices"
    return ""


def _multi_head_attention(node: gs.Node) -> str:
    mask, bias = operand(node, 4), operand(node, 3)
    packed = any(operand(node, slot) is None for slot in range(3))
    presents = [result(node, slot) is not None for slot in (1, 2)]
    reasons = {
        "query, key and value are packed in one tensor": packed,
        "it keeps the past in a buffer": any(operand(node, slot) is not None for slot in (8, 9)),
        "its scores are read": result(node, 3) is not None,
        "it has a past and not both presents, on which onnxruntime's own kernel is wrong": (
            operand(node, 6) is not None and not all(presents)
        ),
        "how wide its query, key and value are is not known": not packed and not _splits(node),
        "its mask has another form than lengths, [batch, keys] or [batch, queries, keys]": (
            mask is not None and rank(mask) not in (2, 3) and not _is_lengths(mask, node.inputs[0])
        ),
        "its bias is not known to be a vector": bias is not None and rank(bias) != 1,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _splits(node: gs.Node) -> bool:
    """Whether query, key and value are known to be as wide as a number of heads, or split into
    heads."""
    heads, tensors = node.attrs["num_heads"], node.inputs[:3]
    if float_type(node) is None or [rank(t) for t in tensors] not in ([3, 3, 3], [3, 4, 4]):
        return False
    widths = [tensor.shape[2] for tensor in tensors if rank(tensor) == 3]
    return all(isinstance(width, int) and width % heads == 0 for width in widths)


def _normalization(node: gs.Node) -> str:
    if any(result(node, slot) is not None for slot in _STATISTICS[node.op]):
        return "its mean or deviation is read"
    if float_type(node) is None:
        return "the type of its input is not known"
    if "Skip" not in node.op and node.inputs[0].dtype != node.inputs[1].dtype:
        return "its input and its scale are not known to be of one type"
    axis, axes = node.attrs.get("axis", -1), rank(node.inputs[0])
    if axis != -1 and (axes is None or axis != axes - 1):
        return "it normalizes over more than the last axis"
    return ""


_STATISTICS = {
    "LayerNormalization": (1, 2),
    "SimplifiedLayerNormalization": (1,),
    "SkipLayerNormalization": (1, 2),
    "SkipSimplifiedLayerNormalization": (1, 2),
}
"""Outputs that only training reads, by op."""


def _gelu(node: gs.Node) -> str:
    return "" if float_type(node) else "the type of its input is not known"


def _matmul(node: gs.Node) -> str:
    if float_type(node) is None:
        return "the type of its operands is not known"
    for tensor, side in zip(node.inputs, "AB", strict=True):
        turned, batch = (node.attrs.get(f"trans{what}{side}", 0) for what in ("", "Batch"))
        if (turned or batch) and rank(tensor) is None:
            return f"it turns operand {side}, whose rank is not known"
        if batch and len(tensor.shape) < 3:
            return f"it turns the batch of operand {side}, which has none"
    return ""


def _gemm(node: gs.Node) -> str:
    activation = node.attrs.get("activation")
    if float_type(node) is None:
        return "the type of its operands is not known"
    if activation not in ACTIVATIONS:
        return f"no standard op is its activation '{activation}'"
    if not set(ACTIVATIONS[activation].values()) <= node.attrs.keys():
        return f"its activation '{activation}' lacks an argument"
    return ""


def _quantized(_: gs.Node) -> str:
    return "it computes with quantized weights"


_JUDGES: dict[str, Callable[[gs.Node], str]] = {
    "Attention": _attention,
    "BiasGelu": _gelu,
    "DynamicQuantizeMatMul": _quantized,
    "EmbedLayerNormalization": _embeddings,
    "FastGelu": _gelu,
    "FusedGemm": _gemm,
    "FusedMatMul": _matmul,
    "Gelu": _gelu,
    "LayerNormalization": _normalization,
    "MatMulBnb4": _quantized,
    "MatMulIntegerToFloat": _quantized,
    "MatMulNBits": _quantized,
    "MultiHeadAttention": _multi_head_attention,
    "QAttention": _quantized,
    "QuickGelu": _gelu,
    "SimplifiedLayerNormalization": _normalization,
    "SkipLayerNormalization": _normalization,
    "SkipSimplifiedLayerNormalization": _normalization,
}
"""What stands against taking an op apart, by op."""
