"""dequantize-sums: sums of integer products that floats take on are not rounded between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.cleanup.code_readers import PRODUCTS, is_integer_product, only_for_floats
from sardonyx.passes.fused import MICROSOFT, is_standard
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import annotate, inherit
from sardonyx.passes.origin import maker
from sardonyx.passes.quantizers import QUANTIZE, is_op, quantizer_of
from sardonyx.passes.rewrite import Replacements, detach, replace_nodes
from sardonyx.passes.scopes import is_constant, scopes
from sardonyx.passes.within import Within
from sardonyx.runtime_ops.linear_quantizer import LinearQuantizer

_INTEGER_PRODUCTS = ("MatMulInteger", "ConvInteger")
"""Ops that make INT32 sums, cast to floats and scaled after."""

_LEAST_CODES = 256


@dataclass(frozen=True)
class DequantizeSums(Pass):
    """``y = DequantizeLinear(QuantizeLinear(sums))``  ->  ``y = Identity(sums)``, which
    `remove-no-ops` takes out.

    Sums are those of an integer product, of which both operands are dequantized, scaled and perhaps
    with a constant added. INT32 goes straight to floats: onnxruntime makes MatMulIntegerToFloat of
    the product in place of QLinearMatMul and DequantizeLinear. Values change by half a step at
    most, and become those that the product has; what the codes' range cut off is no longer cut.
    Does not fire

    1. where an integer op reads y: a product of operands that are all dequantized, an op between
       dequantized values and a QuantizeLinear, a QuantizeLinear itself,
    2. where an op only moves y: it moves codes at a quarter of the bytes (`sink-dequantize`),
    3. where something else needs the codes,
    4. where what is rounded are no sums of integers: a table or an activation is meant to be so,
    5. where scale, zero point or type of the two differ, are computed, or are more than one for
       the tensor, or of less than 8 bits.
    """

    name: ClassVar[str] = "dequantize-sums"
    settles: ClassVar[bool] = True
    rounds_less: ClassVar[bool] = True
    bound: ClassVar[float] = 1 / 255
    """Half a step, of a range at least one end of which is 128 steps from 0, and a rounding."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Every pair, in every graph by itself."""
        replacements: Replacements = {}
        removed = 0
        for scope in scopes(graph):
            within = Within.of(scope)
            for node in scope.nodes:
                pairs = _needless(node, within)
                for pair in pairs:
                    replacements[id(pair)] = [_passing_on(node.inputs[0], pair)]
                if pairs:
                    detach(node)
                    replacements[id(node)] = []
                    removed += 1
        replace_nodes(graph, replacements)
        return removed


def _needless(node: gs.Node, within: Within) -> list[gs.Node]:
    """The DequantizeLinears of codes that a QuantizeLinear makes for them alone, and for floats."""
    if not is_op(node, QUANTIZE) or not within.owns(node.outputs[0]):
        return []
    readers = list(node.outputs[0].outputs)
    if not only_for_floats(readers) or not _are_sums(node.inputs[0]):
        return []
    quantizer = quantizer_of(node)
    if quantizer is None or quantizer.layout or not _is_wide(quantizer.linear):
        return []
    back = [quantizer_of(reader) for reader in readers]
    if not all(each and each.equals(quantizer) for each in back):
        return []
    return readers


def _passing_on(sums: gs.Tensor, node: gs.Node) -> gs.Node:
    """An Identity in the place of a DequantizeLinear."""
    outputs = list(node.outputs)
    detach(node)
    made = gs.Node("Identity", f"{node.name or outputs[0].name}/Sums", {}, [sums], outputs)
    inherit(made, node)
    annotate(made, **{"pass": DequantizeSums.name})
    return made


def _is_wide(linear: LinearQuantizer) -> bool:
    return linear.scale.dtype == np.float32 and linear.high - linear.low + 1 >= _LEAST_CODES


def _are_sums(tensor: gs.Tensor) -> bool:
    """Whether floats are scaled sums of an integer product, and perhaps a constant."""
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or node.domain == MICROSOFT:
        return bool(node is not None and node.op == "MatMulIntegerToFloat")
    if not is_standard(node):
        return False
    if node.op in PRODUCTS:
        return is_integer_product(node)
    if node.op == "Mul":
        return any(map(_are_scaled, node.inputs))
    if node.op != "Add":
        return False
    held = [is_constant(t) for t in node.inputs]
    return any(held) and any(_are_sums(t) for t in node.inputs)


def _are_scaled(tensor: gs.Tensor) -> bool:
    """Whether a Cast makes floats of INT32 sums."""
    cast = maker(tensor)
    product = maker(cast.inputs[0]) if cast is not None and cast.op == "Cast" else None
    return product is not None and product.op in _INTEGER_PRODUCTS
