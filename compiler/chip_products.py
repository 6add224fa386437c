"""Products of a graph as a chip takes them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from sardonyx.compiler.chip_sizes import itemsize
from sardonyx.compiler.chip_values import ChipValues, element_bits
from sardonyx.passes.fused import is_standard, operand
from sardonyx.passes.weights import values_of
from sardonyx.runtime_ops.accelerator.work import COLUMNS, Format, Product
from sardonyx.runtime_ops.ops import INPUTS, OPS
from sardonyx.runtime_ops.packing import LAYOUTS


@dataclass(frozen=True)
class Multiplied:
    """A product and what is done to its sums before they are the node's result.

    a, w: its operands as it reads them, which are codes where it is one of integers. before: the
    op that makes codes of A, if the node does that itself. after: for each step behind it, what it
    is called, operations for a sum, and constants that it reads.
    """

    work: Product
    a: gs.Tensor
    w: gs.Tensor
    before: str = ""
    after: tuple[tuple[str, int, tuple[gs.Tensor, ...]], ...] = ()

    @property
    def operands(self) -> tuple[gs.Tensor, gs.Tensor]:
        """A and W."""
        return self.a, self.w


def product_of(values: ChipValues, node: gs.Node) -> Multiplied | None:
    """The product that a node is; None where it is none."""
    return _PRODUCTS[op_name(node)](values, node) if is_product(node) else None


def is_product(node: gs.Node) -> bool:
    """Whether `product_of` finds one."""
    return op_name(node) in _PRODUCTS


def op_name(node: gs.Node) -> str:
    """Its op, of another domain than the standard one with that in front."""
    return str(node.op) if is_standard(node) else f"{node.domain}.{node.op}"


def codes(tensor: gs.Tensor) -> gs.Tensor:
    """What a tensor is decoded from; itself where it is of floats. Between a weight and its codes
    there may be a Transpose."""
    found = tensor
    while found.inputs and found.inputs[0].op == "Transpose":
        found = found.inputs[0].inputs[0]
    if not found.inputs or found.inputs[0].op != "DequantizeLinear":
        return tensor
    coded: gs.Tensor = found.inputs[0].inputs[0]
    turned = found is not tensor and not isinstance(coded, gs.Constant)
    return tensor if turned else coded


def _gobo(values: ChipValues, node: gs.Node) -> Multiplied:
    rows, columns = (int(size) for size in node.attrs["shape"])
    bits = OPS[node.op].bits
    parts = dict(zip(INPUTS, node.inputs[1:], strict=False))
    work = Product(
        values.sizes.elements(node.inputs[0]) // rows,
        rows,
        columns,
        True,
        "codebook",
        bits,
        outliers=_blocks(parts["positions"], bits, rows, columns),
        table_bytes=4 * values.sizes.elements(parts["centroids"]),
    )
    bias = node.inputs[1 + len(INPUTS) :]
    after = (("Bias", 1, tuple(bias)),) if bias else ()
    return Multiplied(work, node.inputs[0], parts["indices"], after=after)


def _blocks(positions: gs.Tensor, bits: int, rows: int, columns: int) -> tuple[int, ...]:
    """Outliers of each block of 16 columns."""
    gaps: NDArray[np.generic] = values_of(positions)
    _, n = LAYOUTS[bits].weight(np.cumsum(gaps, dtype=np.int64), rows)
    return tuple(np.bincount(n // COLUMNS, minlength=-(-columns // COLUMNS)).tolist())


def _floats(values: ChipValues, node: gs.Node) -> Multiplied:
    """MatMul or Gemm: of integers, where both operands are decoded from such."""
    a, w = codes(node.inputs[0]), codes(node.inputs[1])
    integers = a is not node.inputs[0] and w is not node.inputs[1]
    if not integers:
        a, w = node.inputs[:2]
    after: list[tuple[str, int, tuple[gs.Tensor, ...]]] = []
    if integers:
        after.append(("Rescale", 2, tuple(_scales(node.inputs[1]))))
    bias = operand(node, 2)
    if bias is not None:
        after.append(("Bias", 1, (bias,)))
    shapes = values.sizes.shape(node.inputs[0]), values.sizes.shape(node.inputs[1])
    return Multiplied(_work(values, node, a, w, shapes, integers), a, w, after=tuple(after))


def _scales(tensor: gs.Tensor) -> list[gs.Tensor]:
    """Scale and zero point of a decoded tensor."""
    while tensor.inputs[0].op != "DequantizeLinear":
        tensor = tensor.inputs[0].inputs[0]
    return list(tensor.inputs[0].inputs[1:])


def _integers(values: ChipValues, node: gs.Node) -> Multiplied:
    """Ops whose operands are codes."""
    before, slot, name = _CODED[node.op]
    a, w = node.inputs[0], node.inputs[slot]
    shapes = values.sizes.shape(a), values.sizes.shape(w)
    after = ((name, 2, tuple(node.inputs[2:])),) if name else ()
    return Multiplied(_work(values, node, a, w, shapes, True), a, w, before, after)


_CODED = {
    "MatMulInteger": ("", 1, ""),
    "MatMulIntegerToFloat": ("", 1, "Rescale"),
    "DynamicQuantizeMatMul": ("DynamicQuantizeLinear", 1, "Rescale"),
    "QLinearMatMul": ("", 3, "Requantize"),
}
"""What is done to A before, which input W is, what is done to sums after."""


def _convolution(values: ChipValues, node: gs.Node) -> Multiplied:
    """A Conv, as the product of its unfolded input."""
    w, groups = node.inputs[1], node.attrs.get("group", 1)
    outer, *inner = values.sizes.shape(w)
    batch, _, *places = values.sizes.shape(node.outputs[0])
    m, k = batch * math.prod(places), math.prod(inner)
    work = Product(m, k, outer // groups, values.is_stored(w), "float32", element_bits(w), groups)
    bias = operand(node, 2)
    after = (("Bias", 1, (bias,)),) if bias is not None else ()
    return Multiplied(work, node.inputs[0], w, after=after)


def _work(
    values: ChipValues,
    node: gs.Node,
    a: gs.Tensor,
    w: gs.Tensor,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    integers: bool,
) -> Product:
    left, right = ((1, *shapes[0])[-max(2, len(shapes[0])) :], shapes[1])
    right = (*right, 1) if len(right) == 1 else right
    m, k = left[-2:][:: -1 if node.attrs.get("transA", 0) else 1]
    n = right[-2:][:: -1 if node.attrs.get("transB", 0) else 1][1]
    count = math.prod(np.broadcast_shapes(left[:-2], right[:-2]))
    if math.prod(right[:-2]) == 1:  # one W for all
        m, count = m * count, 1
    form: Format = "float32"
    if integers:
        made = node.op == "DynamicQuantizeMatMul"  # codes of A, of 8 bits
        form = "int8" if itemsize(w) == 1 and (made or itemsize(a) == 1) else "int16"
    return Product(m, k, n, values.is_stored(w), form, element_bits(w), count)


_PRODUCTS: dict[str, Callable[[ChipValues, gs.Node], Multiplied]] = {
    "MatMul": _floats,
    "Gemm": _floats,
    "Conv": _convolution,
    "MatMulInteger": _integers,
    "QLinearMatMul": _integers,
    "com.microsoft.MatMulIntegerToFloat": _integers,
    "com.microsoft.DynamicQuantizeMatMul": _integers,
    **{f"sardonyx.{name}": _gobo for name in OPS if not name.startswith("GoboGather")},
}
"""By op; ops of other domains with the domain in front."""
