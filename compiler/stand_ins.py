"""Standard ops in place of onnxruntime's own, for onnx.checker and shape inference.

onnx knows nothing of contrib ops, so that all behind one would have no type. What stands in makes
outputs of the same type and shape; it is never run.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import onnx

from sardonyx.compiler.messages import default_opset, graphs
from sardonyx.passes.fused import MICROSOFT, STANDARD_FROM


class _StandIn(NamedTuple):
    """A standard op on some of the inputs, by their places."""

    op: str
    inputs: tuple[int, ...] = (0,)
    attrs: Mapping[str, str] = {}


_SAME = _StandIn("Identity")
_ROWS = _StandIn("Gather", (2, 0))
_LENGTHS = _StandIn("Einsum", (0,), {"equation": "bs->b"})

_STAND_INS: dict[str, dict[int, _StandIn]] = {
    "BiasGelu": {0: _SAME},
    "EmbedLayerNormalization": {0: _ROWS, 1: _LENGTHS, 2: _ROWS},
    "FastGelu": {0: _SAME},
    "Gelu": {0: _SAME},
    "GroupQueryAttention": {0: _SAME},
    "MultiHeadAttention": {0: _SAME},
    "QuickGelu": {0: _SAME},
    "RotaryEmbedding": {0: _SAME},
    "SimplifiedLayerNormalization": {0: _SAME},
    "SkipLayerNormalization": {0: _SAME, 3: _SAME},
    "SkipSimplifiedLayerNormalization": {0: _SAME, 3: _SAME},
}
"""By op and output."""


def _attention(node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    """A third of the product with the packed weight, unless its parts differ in width."""
    if any(attribute.name == "qkv_hidden_sizes" for attribute in node.attribute):
        return [node]
    packed, *thirds = (f"{node.output[0]}//{part}" for part in ("packed", "query", "key"))
    attrs = {"axis": 2} | ({"num_outputs": 3} if opset >= _WITH_NUM_OUTPUTS else {})
    return [
        _node("MatMul", node.input[:2], [packed]),
        _node("Split", [packed], [*thirds, node.output[0]], attrs),
    ]


def _fused_matmul(node: onnx.NodeProto, _: int) -> list[onnx.NodeProto]:
    """An Einsum of rows i and k, columns j and k; a MatMul if nothing is turned."""
    turned = _turned(node)
    if not turned:
        return [_node("MatMul", node.input, node.output)]
    operands = []
    for side, axes in (("A", ("i", "j")), ("B", ("j", "k"))):
        first, second = axes[::-1] if f"trans{side}" in turned else axes
        batch_inside = f"transBatch{side}" in turned
        operands.append(f"{first}...{second}" if batch_inside else f"...{first}{second}")
    equation = f"{','.join(operands)}->...ik"
    return [_node("Einsum", node.input, node.output, {"equation": equation})]


def _fused_gemm(node: onnx.NodeProto, _: int) -> list[onnx.NodeProto]:
    return [_node("Gemm", node.input[:2], node.output, dict.fromkeys(_turned(node), 1))]


def _dequantize(node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    return _cast_like(node, 1, opset)


def _quantize(node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    return _cast_like(node, 2, opset)


def _cast_like(node: onnx.NodeProto, slot: int, opset: int) -> list[onnx.NodeProto]:
    """The first input in the type of another: contrib ops take types that the standard's do not."""
    if len(node.input) <= slot or not node.input[slot] or opset < _WITH_CAST_LIKE:
        return [node]
    return [_node("CastLike", [node.input[0], node.input[slot]], node.output)]


def _dynamic_quantize_matmul(node: onnx.NodeProto, _: int) -> list[onnx.NodeProto]:
    """A MatMul by the codes as floats."""
    codes = f"{node.output[0]}//codes"
    cast = _node("Cast", node.input[1:2], [codes], {"to": onnx.TensorProto.FLOAT})
    return [cast, _node("MatMul", [node.input[0], codes], node.output)]


def _matmul_integer_to_float(node: onnx.NodeProto, _: int) -> list[onnx.NodeProto]:
    """A MatMulInteger, its sums as floats."""
    sums = f"{node.output[0]}//sums"
    product = _node("MatMulInteger", node.input[:2], [sums])
    return [product, _node("Cast", [sums], node.output, {"to": onnx.TensorProto.FLOAT})]


def _turned(node: onnx.NodeProto) -> list[str]:
    """The attributes that say what of the operands is turned."""
    return [a.name for a in node.attribute if a.name.startswith("trans") and a.i]


def _node(
    op: str, inputs: Sequence[str], outputs: Sequence[str], attrs: Mapping[str, Any] | None = None
) -> onnx.NodeProto:
    return onnx.helper.make_node(op, inputs, outputs, **(attrs or {}))


_COMPOSED = {
    "Attention": _attention,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeMatMul": _dynamic_quantize_matmul,
    "FusedGemm": _fused_gemm,
    "FusedMatMul": _fused_matmul,
    "MatMulIntegerToFloat": _matmul_integer_to_float,
    "QuantizeLinear": _quantize,
}
"""What stands in for ops whose weights or attributes say which shape they make."""

_WITH_NUM_OUTPUTS = 18
"""The first operator set in which Split is told how many parts to make."""

_WITH_CAST_LIKE = 15


def with_stand_ins(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a standard op for each output of each contrib op that the table knows."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    _replace(changed.graph, default_opset(model))
    return changed


def uses_unknown_ops(model: onnx.ModelProto) -> bool:
    """Whether the standard domain holds an op that only onnxruntime knows."""
    opset = default_opset(model)
    nodes = (node for graph in graphs(model.graph) for node in graph.node)
    return any(_is_unknown(node, opset) for node in nodes)


def _is_unknown(node: onnx.NodeProto, opset: int) -> bool:
    return not node.domain and opset < STANDARD_FROM.get(node.op_type, 0)


def _replace(graph: onnx.GraphProto, opset: int) -> None:
    nodes = [new for node in graph.node for new in _nodes(node, opset)]
    del graph.node[:]
    graph.node.extend(nodes)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _replace(attribute.g, opset)


def _nodes(node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    unknown = _is_unknown(node, opset)
    if node.domain != MICROSOFT and not unknown:
        return [node]
    if node.op_type in _COMPOSED:
        return _COMPOSED[node.op_type](node, opset)
    parts = {0: _SAME} if unknown else _STAND_INS.get(node.op_type)
    if parts is None:
        return [node]
    return [
        _node(part.op, [node.input[i] for i in part.inputs], [node.output[output]], part.attrs)
        for output, part in parts.items()
        if output < len(node.output) and node.output[output]
    ]
