"""What a weight tells of the values beside it: how wide they are, or which rows it has."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import DTypeLike

from sardonyx.compiler.region import Record
from sardonyx.passes.quantizers import QUANTIZE, quantizer_from
from sardonyx.runtime_ops.ops import DOMAIN


@dataclass(frozen=True)
class Operand:
    """What is known of a tensor that meets a weight.

    ``width``: size of its last axis. ``limit``: it holds row numbers below this. ``type``: one that
    fits where nothing is known of the tensor.
    """

    width: int | None
    limit: int | None
    type: onnx.TypeProto


def operands(records: Iterable[Record]) -> dict[str, Operand]:
    """By name of tensor, what the weights that meet it tell."""
    known: dict[str, Operand] = {}
    for name, operand in (found for record in records for found in _of(record)):
        known.setdefault(name, operand)
    return known


def ranges(records: Iterable[Record]) -> Iterator[tuple[str, tuple[float, float]]]:
    """Tensors that are rounded by constants, and the ends of what does not saturate."""
    for record in records:
        if record.op == QUANTIZE:
            quantizer = quantizer_from(record.op, record.attrs, record.inputs)
            if quantizer is not None:
                linear = quantizer.linear
                ends = linear.values(linear.low).max(), linear.values(linear.high).min()
                yield record.inputs[0].name, (float(ends[0]), float(ends[1]))


def _of(record: Record) -> Iterator[tuple[str, Operand]]:
    first, second = [*record.inputs[:2], None, None][:2]
    if first is None or second is None:
        return
    if record.domain == DOMAIN:
        lookup = record.op.startswith("GoboGather")
        size = record.attrs["shape"][lookup]  # type: ignore[index]
        yield first.name, _rows(size) if lookup else _values(record.inputs[2].dtype, size, 3)
    elif record.op == "Gather" and isinstance(first, gs.Constant):
        yield second.name, _rows(first.shape[record.attrs.get("axis", 0)])
    elif record.op == "MatMul" and isinstance(second, gs.Constant):
        yield first.name, _values(second.dtype, second.shape[max(len(second.shape) - 2, 0)], 3)
    elif record.op == "Gemm" and isinstance(second, gs.Constant) and not record.attrs.get("transA"):
        yield first.name, _values(second.dtype, second.shape[bool(record.attrs.get("transB"))], 2)


def _rows(limit: int) -> Operand:
    shape = ("rows_0", "rows_1")
    return Operand(None, limit, onnx.helper.make_tensor_type_proto(onnx.TensorProto.INT64, shape))


def _values(dtype: DTypeLike, width: int, rank: int) -> Operand:
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shape: list[str | int] = [*(f"implied_{axis}" for axis in range(rank - 1)), width]
    return Operand(width, None, onnx.helper.make_tensor_type_proto(kind, shape))
