"""Quantized products in standard ops: a MatMul of what was dequantized, or a MatMulInteger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import is_standard, operand
from sardonyx.passes.lower.quantized_operands import (
    Activation,
    Weight,
    activation_of,
    checked,
    codes_of,
    weight_of,
)
from sardonyx.passes.origin import label, maker, named
from sardonyx.passes.quantize.integer_sums import IntegerSums
from sardonyx.passes.weights import values_of
from sardonyx.passes.within import Within


@dataclass(frozen=True)
class Product:
    """``name``: of the product's node. ``nodes``: from it to what makes the result. ``bias``: a
    vector of N, taken in from a sum. ``dynamic``: its activation's range is found at run time."""

    name: str
    nodes: tuple[gs.Node, ...]
    activation: Activation
    weight: Weight
    bias: gs.Constant | None
    dynamic: bool


def candidates(scope: gs.Graph) -> Iterator[gs.Node]:
    """Nodes of a graph that look like a quantized product."""
    for node in scope.nodes:
        if not is_standard(node):
            continue
        if node.op == "MatMulInteger" or (node.op == "MatMul" and _is_dequantized(node)):
            yield node


def _is_dequantized(product: gs.Node) -> bool:
    """Whether both operands come from DequantizeLinear, the second perhaps through a Transpose."""
    first, second = map(maker, product.inputs)
    if second is not None and second.op == "Transpose":
        second = maker(second.inputs[0])
    return all(node is not None and node.op == "DequantizeLinear" for node in (first, second))


def product_at(node: gs.Node, within: Within) -> Product:
    """The product at a candidate; raises Unfit, with the reason, where it has another form."""
    if node.op == "MatMul":
        activation, weight = activation_of(node.inputs[0]), weight_of(node.inputs[1])
        product = Product(label(node), (node,), activation, weight, None, False)
    else:
        product = _dynamic(node, within)
    return _with_bias(product, within)


def _dynamic(node: gs.Node, within: Within) -> Product:
    """``Cast(MatMulInteger(q, codes, z)) * (s * scale)``, q, s, z from a DynamicQuantizeLinear."""
    source = maker(node.inputs[0])
    zero = operand(node, 2)
    if source is None or source.op != "DynamicQuantizeLinear" or zero is not source.outputs[2]:
        raise Unfit(f"{named(node.inputs[0])} is no DynamicQuantizeLinear")
    sums = IntegerSums.at(node, within)
    q, scale, zero = source.outputs
    constant, codes = codes_of(node.inputs[1]), node.inputs[1]
    weight = Weight(codes, constant, False, sums.beside(scale), operand(node, 3))
    activation = Activation(q, scale, zero)
    return Product(label(node), sums.nodes, activation, checked(weight), None, True)


def _with_bias(product: Product, within: Within) -> Product:
    """The same with the sum behind it, if it adds a vector to each row and nothing else reads the
    product."""
    value = product.nodes[-1].outputs[0]
    total = within.only_reader(value, "Add")
    if total is None:
        return product
    others = [t for t in total.inputs if t is not value]
    bias = _vector(others[0]) if len(others) == 1 else None
    if bias is None or list(bias.shape) != [product.weight.columns] or bias.dtype != np.float32:
        return product
    return replace(product, nodes=(*product.nodes, total), bias=bias)


def _vector(tensor: gs.Tensor) -> gs.Constant | None:
    """The constant that a bias is, or that a DequantizeLinear of constant integers makes."""
    if isinstance(tensor, gs.Constant):
        return tensor
    node = maker(tensor)
    if node is None or node.op != "DequantizeLinear":
        return None
    held = [t for t in node.inputs if not t.is_empty()]
    if not all(isinstance(t, gs.Constant) and len(t.shape) < 2 for t in held):
        return None
    codes, scale, *zero = held
    if any(np.any(values_of(t)) for t in zero):
        return None
    values = values_of(codes).astype(np.float32) * values_of(scale).astype(np.float32)
    return gs.Constant(f"{codes.name}/Float", values)
