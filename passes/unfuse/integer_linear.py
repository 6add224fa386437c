"""unfuse-integer-linear: products of 8 bits, in one op of onnxruntime, become standard ops."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.fused import MICROSOFT, OLDEST_OPSET, operand
from sardonyx.passes.journal import Journal
from sardonyx.passes.rewrite import Draft, replace_nodes
from sardonyx.passes.scopes import all_nodes


@dataclass(frozen=True)
class UnfuseIntegerLinear(Pass):
    """``DynamicQuantizeMatMul(x, codes, scale, zero, bias)``  ->
    ``Cast(MatMulInteger(q, codes, z, zero)) * (s * scale) + bias``, q, s and z from a
    DynamicQuantizeLinear of x.

    Also ``MatMulIntegerToFloat(q, codes, s, scale, z, zero, bias)``. That is the form in which
    ranges can be frozen. Does not fire

    1. on a MatMulIntegerToFloat of another type than float32,
    2. on one whose s is not known to be one number,
    3. below opset 13.
    """

    name: ClassVar[str] = "unfuse-integer-linear"
    bound: ClassVar[float] = 1e-6
    """onnxruntime's kernels round the sum with the bias in one step where the processor can."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Take every one apart that the cases allow."""
        if graph.opset < OLDEST_OPSET:
            return 0
        found = [n for n in all_nodes(graph) if n.domain == MICROSOFT and n.op in _PARTS]
        fitting = [node for node in found if _fits(node)]
        replace_nodes(graph, {id(node): _PARTS[node.op](node) for node in fitting})
        return len(fitting)


def _fits(node: gs.Node) -> bool:
    if node.op == "DynamicQuantizeMatMul":  # which has no other type than float32
        return True
    scale = node.inputs[2]
    known = scale.shape is not None and all(isinstance(size, int) for size in scale.shape)
    return bool(scale.dtype == np.float32 and known and math.prod(scale.shape) == 1)


def _dynamic(node: gs.Node) -> list[gs.Node]:
    draft = Draft.of(node, np.float32)
    q = draft.add("DynamicQuantizeLinear", "Quantize", [node.inputs[0]], dtype=np.uint8)
    scale = gs.Variable(f"{q.name.removesuffix(':0')}/Scale:0", np.float32, [])
    zero = gs.Variable(f"{q.name.removesuffix(':0')}/ZeroPoint:0", np.uint8, [])
    draft.nodes[0].outputs += [scale, zero]
    _, codes, factor = node.inputs[:3]
    return _scaled(draft, node, [q, codes, zero, operand(node, 3)], [scale, factor], 4)


def _given(node: gs.Node) -> list[gs.Node]:
    draft = Draft.of(node, np.float32)
    q, codes, scale, factor = node.inputs[:4]
    operands = [q, codes, operand(node, 4), operand(node, 5)]
    return _scaled(draft, node, operands, [scale, factor], 6)


def _scaled(
    draft: Draft,
    node: gs.Node,
    operands: list[gs.Tensor | None],
    factors: list[gs.Tensor],
    bias: int,
) -> list[gs.Node]:
    """The integers' sums by the product of both factors; with the input ``bias`` added, if any."""
    while operands[-1] is None:
        operands.pop()
    given = [gs.Variable.empty() if each is None else each for each in operands]
    sums = draft.add("MatMulInteger", "Product", given, dtype=np.int32)
    both = draft.add("Mul", "Scale", factors)
    total = draft.add("Mul", "Scaled", [draft.cast("Sums", sums, np.float32), both])
    added = operand(node, bias)
    if added is not None:
        draft.add("Add", "Bias", [total, added])
    return draft.take_place(node, UnfuseIntegerLinear.name)


_PARTS = {"DynamicQuantizeMatMul": _dynamic, "MatMulIntegerToFloat": _given}
