"""``A @ W`` by integers: what ``compute = "int8"`` means on an op whose weights are a codebook.

Each row of A is rounded to 8 bits on a scale of its own (``a ~ s (u - z)``), each table of
centroids to 7 bits (``c ~ t q``: two products of u and q fit 16 bits), so that

    y[m, n] = s[m] (t[n] sum over k of (u[m, k] - z[m]) Q[k, n]
                    + sum over outliers of (u[m, k] - z[m]) (w - t[n] Q[k, n]))

with Q[k, n] the integer of a weight's index, which is 0 at an outlier w: outliers are multiplied as
they are. The first sum is exact in int32; all else is float32, rounded once an operation.
"""

import numpy as np
from numpy.typing import NDArray

from sardonyx.runtime_ops.gobo import GoboTensor

MOST_ROWS = 1 << 17
"""Rows K of W up to which the sum fits int32: 255 * 63 * 2^17 < 2^31."""

_LEVELS = np.float32(255)
_LARGEST = np.float32(63)
_LEAST_SCALE = np.float32(2.0**-120)
"""Of a row: its inverse is finite."""

Floats = NDArray[np.float32]


def quantize_rows(a: Floats) -> tuple[NDArray[np.uint8], Floats, NDArray[np.int32]]:
    """Rows of float32 [..., K] as codes u [..., K], scales s and zero points z [..., 1].

    ``a ~ s (u - z)``, 0 exactly. A row that holds NaN, or whose range is infinite, gets s = NaN
    and codes 0.
    """
    zero = np.float32(0)
    low = np.minimum(zero, a.min(axis=-1, keepdims=True))
    high = np.maximum(zero, a.max(axis=-1, keepdims=True))
    with np.errstate(over="ignore", invalid="ignore"):
        spread = high - low
    sound = np.isfinite(spread)
    scale = np.maximum(np.where(sound, spread, zero) / _LEVELS, _LEAST_SCALE)
    inverse = np.float32(1) / scale
    zero_point = np.rint(-np.where(sound, low, zero) * inverse)
    codes = np.rint(np.where(sound, a, zero) * inverse) + zero_point
    return (
        np.clip(codes, 0, 255).astype(np.uint8),
        np.where(sound, scale, np.float32(np.nan)),
        zero_point.astype(np.int32),
    )


def integer_centroids(centroids: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Tables of centroids [groups, 2^bits] as integers q of -63 to 63, and their scales t [groups].

    ``c ~ t q``. The integers of a table whose scale would be 0 are 0.
    """
    scale = np.abs(centroids).max(axis=1) / _LARGEST
    divisor = np.where(scale > 0, scale, np.float32(1))
    steps = np.where(scale > 0, centroids.T, np.float32(0)) / divisor
    # a subnormal scale is coarse: without the clip, steps could be as many as 94
    return np.clip(np.rint(steps.T), -_LARGEST, _LARGEST).astype(np.int8), scale


def integer_weights(tensor: GoboTensor) -> tuple[NDArray[np.int8], Floats]:
    """Q [K, N] and the scale t [N] of each column."""
    tables, scales = integer_centroids(tensor.centroids.astype(np.float32))
    return tables[tensor.tables, tensor.unpacked()], scales[tensor.tables]


def integer_product(
    codes: NDArray[np.uint8], zero_points: NDArray[np.int32], weights: NDArray[np.int8]
) -> NDArray[np.int32]:
    """``sum over k of (u - z) Q``: of codes [..., K], zero points [..., 1] and Q [K, N].

    Exact for K up to `MOST_ROWS`; computed in float64, which holds every sum exactly.
    """
    steps = codes.astype(np.float64) - zero_points
    sums: NDArray[np.int32] = np.matmul(steps, weights.astype(np.float64)).astype(np.int32)
    return sums


def int8_product(a: Floats, tensor: GoboTensor) -> Floats:
    """``A @ W`` of float32 [..., K] by integers: [..., N].

    The order in which outliers are added is not part of the meaning, nor whether z is taken from
    each u or, times the sum of their values, from the sum of their products.
    """
    codes, scale, zero_points = quantize_rows(a)
    weights, column_scales = integer_weights(tensor)
    k, n = tensor.outlier_places()
    outliers = np.zeros(weights.shape, np.float32)
    outliers[k, n] = tensor.values - column_scales[n] * weights[k, n]
    plain = integer_product(codes, zero_points, weights).astype(np.float32) * column_scales
    exact = np.matmul((codes - zero_points).astype(np.float32), outliers)
    product: Floats = scale * (plain + exact)
    return product
