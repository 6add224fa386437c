"""unfuse-matmul-integer: products of codes by constant scales become MatMuls of what they mean."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import is_standard, operand, rank
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import annotate, inherit
from sardonyx.passes.origin import behind, constant, maker
from sardonyx.passes.quantize.integer_sums import IntegerSums
from sardonyx.passes.rewrite import Draft, Replacements, release, replace_nodes, take_outputs
from sardonyx.passes.scopes import scopes
from sardonyx.passes.weights import values_of
from sardonyx.passes.within import Within

_PER_CHANNEL_FROM = 13
"""The first operator set whose DequantizeLinear has an axis."""


@dataclass(frozen=True)
class UnfuseMatMulInteger(Pass):
    """``Cast(MatMulInteger(q, codes, z, wz)) * (s * ws)``  ->
    ``MatMul(DequantizeLinear(q, s, z), DequantizeLinear(codes, ws, wz))``, all scales and zero
    points constants.

    That is the form which onnxruntime, and the passes here, know to compute by integers in one op:
    the first it leaves as four. Codes stay as they are, byte for byte; what is dequantized for
    several products is so once. ``codes`` may be a second activation. Products whose range is
    found as they run are passed over. Does not fire where

    1. the sums are not cast to float32 and then scaled by the product of two constants, or
       something else reads them before that,
    2. the first operand has more than one scale or zero point, or so has a second that is no
       constant matrix, or not one for each of its columns,
       or a scale has more axes than the product may have,
    3. columns have scales of their own and the operator set is older than 13.
    """

    name: ClassVar[str] = "unfuse-matmul-integer"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-5
    """Sums of floats are rounded at each of K terms, those of integers are exact."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Take every one apart."""
        replacements: Replacements = {}
        count = 0
        for scope in scopes(graph):
            within, writer = Within.of(scope), _Writer()
            for node in scope.nodes:
                if node.op != "MatMulInteger" or not is_standard(node) or not _is_static(node):
                    continue
                try:
                    sums = IntegerSums.at(node, within)
                    operands = _operands(sums, graph.opset)
                except Unfit as reason:
                    journal.miss(self.name, node, reason)
                else:
                    replacements[id(node)] = writer.product(sums, operands)
                    replacements |= {id(old): [] for old in sums.nodes[1:]}
                    count += 1
        replace_nodes(graph, replacements)
        return count


def _is_static(node: gs.Node) -> bool:
    """Whether no operand's range is found at run time."""
    sources = [maker(behind(tensor)[0]) for tensor in node.inputs[:2]]
    dynamic = any(source is not None and source.op == "DynamicQuantizeLinear" for source in sources)
    zeros = [operand(node, slot) for slot in (2, 3)]
    return not dynamic and all(zero is None or constant(zero) is not None for zero in zeros)


@dataclass(frozen=True)
class _Codes:
    """``scale (tensor - zero)``: one number each, or one each for a column; None stands for 0."""

    tensor: gs.Tensor
    scale: gs.Constant
    zero: gs.Constant | None


def _operands(sums: IntegerSums, opset: int) -> tuple[_Codes, _Codes]:
    """Both operands of a product; raises Unfit where DequantizeLinear has no such form."""
    node = sums.nodes[0]
    for factor in sums.factors:
        held = constant(factor)
        if held is None or held.dtype != np.float32:
            raise Unfit(f"its scale '{factor.name}' is no constant of float32")
        if len(held.shape) > max(1, rank(node.inputs[0]) or 0):
            raise Unfit(f"its scale '{factor.name}' may give the product more axes")
    scale = _scale_of_first(sums)
    scales = scale, sums.beside(scale)
    first, second = (
        _codes(node.inputs[slot], constant(scales[slot]), operand(node, slot + 2), slot)
        for slot in (0, 1)
    )
    if second.scale.shape and opset < _PER_CHANNEL_FROM:
        raise Unfit(f"opset {opset} has no DequantizeLinear by columns: it needs 13")
    return first, second


def _scale_of_first(sums: IntegerSums) -> gs.Tensor:
    """Of the two factors the scale of the first operand: that which its QuantizeLinear has; else
    the first that is one number."""
    source = maker(behind(sums.nodes[0].inputs[0])[0])
    if source is not None and source.op == "QuantizeLinear":
        for factor in sums.factors:
            if _same(factor, source.inputs[1]):
                return factor
    single = [t for t in sums.factors if math.prod(constant(t).shape) == 1]  # type: ignore[union-attr]
    return [*single, sums.factors[0]][0]


def _same(first: gs.Tensor, second: gs.Tensor) -> bool:
    a, b = constant(first), constant(second)
    return a is not None and b is not None and np.array_equal(values_of(a), values_of(b))


def _codes(
    tensor: gs.Tensor, scale: gs.Constant | None, zero: gs.Tensor | None, slot: int
) -> _Codes:
    """An operand, its scale and zero point in one shape: [] or, of columns, [N]."""
    assert scale is not None
    held = None if zero is None else constant(zero)
    given = [scale] if held is None else [scale, held]
    columns = _columns(tensor) if slot == 1 else None
    for each in given:
        size = math.prod(each.shape)
        if size != 1 and (columns is None or list(each.shape[-1:]) != [columns] or size != columns):
            raise Unfit(f"'{each.name}' {list(each.shape)} is not one number for '{tensor.name}'")
    single = columns is None or all(math.prod(each.shape) == 1 for each in given)
    shape: tuple[int, ...] = () if columns is None or single else (columns,)
    if held is not None and slot == 1 and not values_of(held).any():
        held = None
    return _Codes(tensor, _shaped(scale, shape), None if held is None else _shaped(held, shape))


def _columns(tensor: gs.Tensor) -> int | None:
    """Columns of a constant matrix."""
    is_matrix = isinstance(tensor, gs.Constant) and len(tensor.shape) == 2
    return int(tensor.shape[1]) if is_matrix else None


def _shaped(constant: gs.Constant, shape: tuple[int, ...]) -> gs.Constant:
    """The same numbers in another shape; a single one as often as is asked for."""
    if tuple(constant.shape) == shape:
        return constant
    flat = values_of(constant).reshape(-1)
    values = flat.reshape(shape) if flat.size == math.prod(shape) else np.full(shape, flat[0])
    return gs.Constant(f"{constant.name}/{'Columns' if shape else 'One'}", values)


@dataclass
class _Writer:
    """Writes the products of one graph; ``made``: what was dequantized, by what it was made of."""

    made: dict[tuple[object, ...], gs.Tensor] = field(default_factory=dict)

    def product(self, sums: IntegerSums, operands: tuple[_Codes, _Codes]) -> list[gs.Node]:
        """The nodes in the place of a MatMulInteger; those behind it are released."""
        node, _, total = sums.nodes
        nodes: list[gs.Node] = []
        floats = [self._dequantized(codes, nodes) for codes in operands]
        for old in sums.nodes[:-1]:
            release(old)
        matmul = gs.Node("MatMul", node.name, {}, floats, take_outputs(total))
        matmul.outputs[0].dtype = np.dtype(np.float32)
        inherit(matmul, node)
        for each in (*nodes, matmul):
            annotate(each, **{"pass": UnfuseMatMulInteger.name})
        return [*nodes, matmul]

    def _dequantized(self, codes: _Codes, nodes: list[gs.Node]) -> gs.Tensor:
        """What codes mean; a new node ahead of the first product that reads it."""
        held = [each for each in (codes.scale, codes.zero) if each is not None]
        key = id(codes.tensor), *(values_of(each).tobytes() for each in held)
        if key not in self.made:
            draft = Draft(codes.tensor.name, np.float32)
            self.made[key] = draft.add("DequantizeLinear", "Dequantize", [codes.tensor, *held])
            if codes.scale.shape:
                draft.nodes[0].attrs["axis"] = 1
            nodes += draft.nodes
        return self.made[key]
