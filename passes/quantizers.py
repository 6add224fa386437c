"""What constants QuantizeLinear and DequantizeLinear round by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import DTypeLike

from sardonyx.passes.fused import MICROSOFT, is_standard, rank
from sardonyx.passes.origin import behind
from sardonyx.passes.weights import values_of
from sardonyx.runtime_ops.coded import Floats
from sardonyx.runtime_ops.linear_quantizer import LinearQuantizer

QUANTIZE = "QuantizeLinear"
DEQUANTIZE = "DequantizeLinear"

_SHIFT = 128
"""From int8 codes to uint8 ones."""


@dataclass(frozen=True, eq=False)
class Quantizer:
    """The constants of a QuantizeLinear or DequantizeLinear.

    ``layout``: the axis and the block that scales belong to, None of one for the whole tensor.
    """

    linear: LinearQuantizer
    layout: tuple[int, int] | None

    def equals(self, other: Quantizer) -> bool:
        """Whether codes of one are those of the other, wherever they stand."""
        return self.layout == other.layout and self.linear.equals(other.linear)


def is_op(node: gs.Node, op: str) -> bool:
    """Whether a node is a QuantizeLinear or DequantizeLinear, the standard's or onnxruntime's."""
    return bool(node.op == op and (is_standard(node) or node.domain == MICROSOFT))


def source_of(tensor: gs.Tensor, op: str) -> gs.Node | None:
    """The QuantizeLinear or DequantizeLinear that makes a tensor, if one does."""
    node = tensor.inputs[0] if tensor.inputs else None
    return node if node is not None and is_op(node, op) else None


def quantizer_of(node: gs.Node) -> Quantizer | None:
    """The constants of a QuantizeLinear or DequantizeLinear of integers; None where they are
    computed, no positive float32 or float16 numbers, or of a type that is not known."""
    return quantizer_from(node.op, node.attrs, node.inputs)


def quantizer_from(
    op: str, attrs: Mapping[str, Any], inputs: Sequence[gs.Tensor]
) -> Quantizer | None:
    """The same of a node's op, attributes and inputs."""
    scale, *rest = (None if t.is_empty() else behind(t)[0] for t in inputs[1:])
    zero = rest[0] if rest else None
    dtype = codes_dtype(op, attrs, inputs[0], zero)
    if not isinstance(scale, gs.Constant) or not isinstance(zero, gs.Constant | None):
        return None
    if dtype is None or not dtype.name.startswith(("int", "uint")):
        return None
    if "precision" in attrs or scale.dtype not in (np.float32, np.float16):
        return None
    ends = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    scales: Floats = np.asarray(values_of(scale), scale.dtype)
    zeros = np.zeros(scales.shape, np.int64) if zero is None else values_of(zero).astype(np.int64)
    if zeros.size != scales.size or not np.all((scales > 0) & np.isfinite(scales)):
        return None
    layout = (axis_of(attrs, inputs[0]), attrs.get("block_size", 0))
    if scales.size == 1:
        scales, zeros = scales.reshape(()), zeros.reshape(())
    linear = LinearQuantizer(scales, zeros.reshape(scales.shape), int(ends.min), int(ends.max))
    return Quantizer(linear, layout if scales.ndim else None)


def axis_of(attrs: Mapping[str, Any], x: gs.Tensor) -> int:
    """The axis that scales belong to, counted from the first where the rank is known."""
    axis, axes = int(attrs.get("axis", 1)), rank(x)
    return axis % axes if axes else axis


def codes_dtype(
    op: str, attrs: Mapping[str, Any], x: gs.Tensor, zero: gs.Tensor | None
) -> np.dtype[np.generic] | None:
    """The type of the codes that an op makes of x, or reads there; None: it is not known."""
    known: DTypeLike | None = None if zero is None else zero.dtype
    if known is None and op == DEQUANTIZE:
        known = x.dtype
    elif zero is None:
        kind = attrs.get("output_dtype", 0) or onnx.TensorProto.UINT8
        known = onnx.helper.tensor_dtype_to_np_dtype(kind)
    return None if known is None else np.dtype(known)


def unsigned(zero: gs.Constant) -> gs.Constant:
    """Of int8 codes the zero point, or whatever is among them, as uint8 codes have it: codes of
    either type stand for the same where both are 128 higher."""
    values = np.array(values_of(zero).astype(np.int16) + _SHIFT, np.uint8)
    return gs.Constant(f"{zero.name}/Unsigned", values)
