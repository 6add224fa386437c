"""Numpy meanings of onnxruntime's contrib ops on 8-bit integers.

As in `contrib`. These are exact, bit for bit: sums are of integers, and the few float operations on
them are done in the order written here.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Optional = Array | None


def quantize_linear(
    x: Array, scale: Array, zero_point: Optional = None, *, axis: int = 1, **attributes: Any
) -> tuple[Array]:
    """x / scale + zero point, half to even and saturated, of the zero point's type; uint8 where it
    is left out. ``scale``: one, or one for each place of ``axis``."""
    _need_no_blocks(attributes)
    zero = np.zeros((), np.uint8) if zero_point is None else zero_point
    ends = np.iinfo(zero.dtype)
    codes = np.rint(x / _along(scale, x, axis)) + _along(zero, x, axis).astype(np.float32)
    return (np.clip(codes, ends.min, ends.max).astype(zero.dtype),)


def dequantize_linear(
    codes: Array, scale: Array, zero_point: Optional = None, *, axis: int = 1, **attributes: Any
) -> tuple[Array]:
    """scale (codes - zero point), of the scale's type."""
    _need_no_blocks(attributes)
    steps = codes.astype(scale.dtype)
    if zero_point is not None:
        steps = steps - _along(zero_point, codes, axis).astype(scale.dtype)
    return (steps * _along(scale, codes, axis),)


def _need_no_blocks(attributes: dict[str, Any]) -> None:
    if attributes.get("block_size"):
        raise NotImplementedError("a scale for each block has no numpy meaning here")


def _along(values: Array, x: Array, axis: int) -> Array:
    """A vector, shaped to meet an axis of x; one element as it is."""
    if values.size == 1 and values.ndim < 2:
        return values.reshape(())
    shape = [1] * x.ndim
    shape[axis] = -1
    return values.reshape(shape)


def matmul_integer_to_float(
    a: Array,
    b: Array,
    a_scale: Array,
    b_scale: Array,
    a_zero_point: Optional = None,
    b_zero_point: Optional = None,
    bias: Optional = None,
) -> tuple[Array]:
    """float((A - zero point) (B - zero point)) (a_scale b_scale) + bias, in float32.

    A [..., K] and B [K, N] are int8 or uint8, sums int32; scale and zero point of B, bias: vectors
    [N], or one number.
    """
    total = _centered(a, a_zero_point) @ _centered(b, b_zero_point)
    product = total.astype(np.float32) * (a_scale.reshape(-1) * b_scale.reshape(-1))
    return (product if bias is None else product + bias,)


def _centered(codes: Array, zero_point: Optional) -> NDArray[np.int32]:
    wide = codes.astype(np.int32)
    return wide if zero_point is None else wide - zero_point.astype(np.int32)


def dynamic_quantize_matmul(
    a: Array, b: Array, b_scale: Array, b_zero_point: Optional = None, bias: Optional = None
) -> tuple[Array]:
    """`matmul_integer_to_float` of A as DynamicQuantizeLinear rounds it: uint8 over the range from
    its least to its largest element, and 0."""
    codes, scale, zero = dynamic_quantize_linear(a)
    return matmul_integer_to_float(codes, b, scale, b_scale, zero, b_zero_point, bias)


def dynamic_quantize_linear(x: Array) -> tuple[Array, Array, Array]:
    """The standard op: codes, scale, zero point; the scale is 1 where all elements are 0."""
    low, high = np.float32(min(x.min(initial=0), 0)), np.float32(max(x.max(initial=0), 0))
    scale = np.float32(1) if low == high else (high - low) / np.float32(255)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    codes = np.clip(np.rint(x / scale) + zero, 0, 255)
    return codes.astype(np.uint8), np.array(scale), np.array(zero, np.uint8)
