"""Which ops of dequantized values run on the codes, and which on floats."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from sardonyx.passes.cleanup.movements import is_movement
from sardonyx.passes.fused import is_standard
from sardonyx.passes.origin import maker
from sardonyx.passes.quantizers import DEQUANTIZE, QUANTIZE, is_op, source_of

PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose")
"""Ops that multiply integers where both operands are dequantized."""


def only_for_floats(readers: list[gs.Node]) -> bool:
    """Whether all that reads codes are DequantizeLinears, and what reads those are no ops that run
    on codes."""
    taking = [r for reader in readers for r in reader.outputs[0].outputs]
    return all(is_op(r, DEQUANTIZE) for r in readers) and not any(map(_takes_codes, taking))


def is_integer_product(node: gs.Node) -> bool:
    """Whether a product is of dequantized operands, so that runtimes multiply the codes."""
    return all(_is_dequantized(t) for t in node.inputs[:2])


def _is_dequantized(tensor: gs.Tensor) -> bool:
    """Whether a DequantizeLinear makes a tensor, a Transpose perhaps behind it."""
    node = maker(tensor)
    if node is not None and node.op == "Transpose":
        tensor = node.inputs[0]
    return source_of(tensor, DEQUANTIZE) is not None


def _takes_codes(node: gs.Node) -> bool:
    """Whether an op of dequantized values runs on their codes, or moves them."""
    if is_op(node, QUANTIZE) or is_movement(node):
        return True
    if not is_standard(node):
        return False
    if node.op in PRODUCTS:
        return is_integer_product(node)
    read = [r for t in node.outputs for r in t.outputs]
    rounded = bool(read) and all(is_op(r, QUANTIZE) for r in read)
    return rounded and all(_is_dequantized(t) for t in node.inputs)
