"""unfuse-qlinear-matmul: a product rounded to codes for floats alone shows where it is rounded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.cleanup.code_readers import only_for_floats
from sardonyx.passes.fused import is_standard
from sardonyx.passes.journal import Journal
from sardonyx.passes.quantizers import DEQUANTIZE, QUANTIZE
from sardonyx.passes.rewrite import Draft, Replacements, replace_nodes
from sardonyx.passes.scopes import scopes
from sardonyx.passes.weights import values_of
from sardonyx.passes.within import Within


@dataclass(frozen=True)
class UnfuseQLinearMatMul(Pass):
    """``QLinearMatMul(a, b)``  ->  ``QuantizeLinear(MatMul(DequantizeLinear(a),
    DequantizeLinear(b)))``, where only DequantizeLinears for floats read the codes.

    `dequantize-sums` takes out the QuantizeLinear then; onnxruntime makes MatMulIntegerToFloat of
    the rest. Codes may change by one: the sums are scaled in another order. Does not fire

    1. where an integer op reads the codes, or what they are dequantized to (as `dequantize-sums`),
       or they are an output of the graph, or read in one inside it,
    2. where a scale or zero point is not constant, or a scale not float32, or those of a or of the
       result are not one number,
    3. where b has a scale or zero point for each column, and is no constant matrix.
    """

    name: ClassVar[str] = "unfuse-qlinear-matmul"
    settles: ClassVar[bool] = True
    rounds_less: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Take every one apart."""
        replacements: Replacements = {}
        for scope in scopes(graph):
            within = Within.of(scope)
            for node in scope.nodes:
                if is_standard(node) and node.op == "QLinearMatMul" and _is_separable(node, within):
                    replacements[id(node)] = _apart(node)
        replace_nodes(graph, replacements)
        return len(replacements)


def _is_separable(node: gs.Node, within: Within) -> bool:
    (codes,) = node.outputs
    if not codes.outputs or not within.owns(codes) or not only_for_floats(list(codes.outputs)):
        return False
    held = [node.inputs[slot] for slot in (1, 2, 4, 5, 6, 7)]
    if not all(isinstance(t, gs.Constant) and len(t.shape) < 2 for t in held):
        return False
    matrix = isinstance(node.inputs[3], gs.Constant) and len(node.inputs[3].shape) == 2
    single = held[:2] + held[4:] if matrix else held
    known = all(t.dtype == np.float32 for t in held[::2])
    return known and all(math.prod(t.shape) == 1 for t in single)


def _apart(node: gs.Node) -> list[gs.Node]:
    a, b, result = (_grid(node, start) for start in (1, 4, 6))
    draft = Draft.of(node, np.float32)
    first = draft.add(DEQUANTIZE, "A", [node.inputs[0], *a])
    second = draft.add(DEQUANTIZE, "B", [node.inputs[3], *b], axis=1)
    product = draft.add("MatMul", "Product", [first, second])
    draft.add(QUANTIZE, "Quantize", [product, *result])
    draft.dtype = result[1].dtype
    return draft.take_place(node, UnfuseQLinearMatMul.name)


def _grid(node: gs.Node, start: int) -> list[gs.Constant]:
    """Scale and zero point of one shape: a single number of any rank is one for the tensor."""
    pair = node.inputs[start], node.inputs[start + 1]
    values = [values_of(t) for t in pair]
    values = [v.reshape(()) if v.size == 1 else v for v in values]
    whole = np.broadcast_arrays(*values)
    same = [list(t.shape) == list(v.shape) for t, v in zip(pair, whole, strict=True)]
    return [
        t if kept else gs.Constant(f"{t.name}/Grid", np.array(v))
        for t, v, kept in zip(pair, whole, same, strict=True)
    ]
