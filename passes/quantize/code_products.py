"""The matrices that codes of an activation are multiplied by: what its rounding is judged on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import is_standard, operand
from sardonyx.passes.lower.quantized_operands import weight_of
from sardonyx.passes.origin import constant
from sardonyx.passes.quantize.integer_sums import IntegerSums
from sardonyx.passes.weights import values_of
from sardonyx.passes.within import Within

Matrix = NDArray[np.float32]


def matrices(codes: gs.Tensor, scale: gs.Tensor, within: Within) -> Iterator[Matrix]:
    """Every constant W [K, N] by which a MatMulInteger multiplies codes, or a MatMul what a
    DequantizeLinear makes of them. ``scale``: of the codes."""
    for node in codes.outputs:
        if not is_standard(node) or node.inputs[0] is not codes:
            continue
        if node.op == "MatMulInteger":
            yield from _integers(node, scale, within)
        elif node.op == "DequantizeLinear":
            products = [r for r in node.outputs[0].outputs if r.op == "MatMul" and is_standard(r)]
            for product in (p for p in products if p.inputs[0] is node.outputs[0]):
                yield from _floats(product.inputs[1])


def _integers(node: gs.Node, scale: gs.Tensor, within: Within) -> Iterator[Matrix]:
    held, zero = _constant(node.inputs[1]), operand(node, 3)
    if held is None or held.ndim != 2 or (zero is not None and _constant(zero) is None):
        return
    zeros = np.zeros(()) if zero is None else _constant(zero)
    try:
        scales = _constant(IntegerSums.at(node, within).beside(scale))
    except Unfit:
        scales = None  # of one product the share of noise is the same by any scale
    steps = held.astype(np.float32) - np.asarray(zeros, np.float32)
    yield steps if scales is None else (steps * scales).astype(np.float32, copy=False)


def _floats(tensor: gs.Tensor) -> Iterator[Matrix]:
    held = _constant(tensor)
    if held is not None and held.ndim == 2:
        yield held.astype(np.float32, copy=False)
        return
    try:
        weight = weight_of(tensor)
    except Unfit:
        return
    codes = values_of(weight.constant)
    transposed = weight.codes is not weight.constant
    codes = codes.T if transposed else codes
    columns = codes.T if weight.turned else codes
    zero = 0 if weight.zero_point is None else values_of(weight.zero_point).astype(np.float32)
    yield (columns.astype(np.float32) - zero) * values_of(weight.scale).astype(np.float32)


def _constant(tensor: gs.Tensor) -> NDArray[Any] | None:
    held = constant(tensor)
    return None if held is None else values_of(held)
