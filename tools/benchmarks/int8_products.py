"""Products in the graph that onnxruntime runs, and how many multiplications each does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from session_graph import optimized

Shape = tuple[int, ...]
Shapes = dict[str, Shape]


@dataclass(frozen=True)
class Product:
    """``macs``: multiplications. ``by_weight``: of a constant; what an attention op holds is cut in
    its parts."""

    op: str
    integer: bool
    by_weight: bool
    macs: int


INTEGER = {
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
    "QLinearMatMul": 3,
    "QGemm": 3,
}
FLOAT = {"MatMul": 1, "FusedMatMul": 1, "Gemm": 1, "FusedGemm": 1}
SECOND = INTEGER | FLOAT
"""Where each op has its second factor."""


def products(path: Path, feed: dict[str, NDArray[np.int64]]) -> list[Product]:
    """All products of a file as onnxruntime runs it on ``feed``."""
    model = optimized(path)
    shapes = shapes_of(model, feed)
    constants = constants_of(model)
    found: list[Product] = []
    for node in model.graph.node:
        if node.op_type in SECOND:
            second = node.input[SECOND[node.op_type]]
            integer = node.op_type in INTEGER
            macs = math.prod(shapes[node.output[0]]) * depth(node, shapes)
            found.append(Product(node.op_type, integer, second in constants, macs))
        elif node.op_type in INSIDE:
            found += INSIDE[node.op_type](node, shapes)
    return found


def constants_of(model: onnx.ModelProto) -> set[str]:
    """Names of all that no input decides, as what DequantizeLinear makes of a weight."""
    constants = {tensor.name for tensor in model.graph.initializer} | {""}
    for node in model.graph.node:
        if constants.issuperset(node.input):
            constants.update(node.output)
    return constants


def shapes_of(model: onnx.ModelProto, feed: dict[str, NDArray[np.int64]]) -> Shapes:
    """Shapes of everything at products and attention ops, seen in a run as the graph stands."""
    nodes = [node for node in model.graph.node if node.op_type in SECOND.keys() | INSIDE.keys()]
    names = {name for node in nodes for name in (*node.input, *node.output[:1]) if name}
    known = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    wanted = sorted(names - known.keys())
    outputs = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in wanted if n not in outputs)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    session = ort.InferenceSession(model.SerializeToString(), options, providers=providers)
    inputs = {value.name: feed[value.name] for value in session.get_inputs()}
    values = dict(zip(wanted, session.run(wanted, inputs), strict=True))
    return known | {name: value.shape for name, value in values.items()}


def depth(node: onnx.NodeProto, shapes: Shapes) -> int:
    """How many multiplications an element of a product takes."""
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return shapes[node.input[0]][-2 if transposed else -1]


def fused_attention(node: onnx.NodeProto, shapes: Shapes) -> list[Product]:
    """Attention of onnxruntime's own: the projection of X [B, S, K] by W [K, 3 H], then scores and
    context in floating point."""
    batch, length, width = shapes[node.input[0]]
    integer = node.op_type == "QAttention"
    projected = batch * length * width * shapes[node.input[1]][-1]
    hidden = shapes[node.output[0]][-1]
    inside = Product(node.op_type, False, False, 2 * batch * length * length * hidden)
    return [Product(node.op_type, integer, True, projected), inside]


def bare_attention(node: onnx.NodeProto, shapes: Shapes) -> list[Product]:
    """Scores and context of Q, K and V [B, S, H] or [B, heads, S, H / heads], in floating point."""
    query, key = shapes[node.input[0]], shapes[node.input[1]]
    output = math.prod(shapes[node.output[0]])
    scores = math.prod(query) * key[-2]
    return [Product(node.op_type, False, False, scores + output * key[-2])]


def attention(node: onnx.NodeProto, shapes: Shapes) -> list[Product]:
    """The op of that name in onnxruntime's domain or in the standard one."""
    return (fused_attention if node.domain else bare_attention)(node, shapes)


INSIDE: dict[str, Callable[[onnx.NodeProto, Shapes], list[Product]]] = {
    "Attention": attention,
    "QAttention": fused_attention,
    "MultiHeadAttention": bare_attention,
}
