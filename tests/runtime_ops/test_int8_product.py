"""The product by integers, held against onnxruntime's DynamicQuantizeLinear and MatMulInteger."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sardonyx.runtime_ops.gobo import Settings, encode
from sardonyx.runtime_ops.int8_product import (
    MOST_ROWS,
    int8_product,
    integer_centroids,
    integer_product,
    integer_weights,
    quantize_rows,
)

NUMBERS = st.floats(-(2.0**99), 2.0**99, width=32)
ROWS = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=NUMBERS)
SEEDS = st.integers(0, 2**32)


def spread(seed, *shape, scale=1.0):
    return (np.random.default_rng(seed).standard_t(4, shape) * scale).astype(np.float32)


def encoded(rows, columns, bits=3, share=0.02, seed=0, groups=1):
    settings = Settings(bits, "share", share, groups=groups)
    return encode(spread(seed, rows, columns, scale=0.04), settings)[0]


@given(ROWS)
def test_a_row_comes_back_within_half_a_step(a):
    codes, scale, zero_points = quantize_rows(a)
    assert (codes.dtype, scale.dtype, zero_points.dtype) == (np.uint8, np.float32, np.int32)
    assert (codes.shape, scale.shape, zero_points.shape) == (a.shape, (len(a), 1), (len(a), 1))
    assert np.all((zero_points >= 0) & (zero_points <= 255))
    assert np.all(codes[a == 0] == np.broadcast_to(zero_points, a.shape)[a == 0])
    wide = scale.astype(np.float64)
    back = wide * (codes - zero_points.astype(np.float64))
    # half a step for the code, half for the zero point at which the ends are cut off, and what
    # float32 makes of 255 steps
    assert np.all(np.abs(back - a) <= wide * (1 + 255 * 2.0**-22))


@pytest.fixture(scope="module")
def dynamic_quantize_linear(text_model, run_ort):
    model = text_model(
        """g (float[K] a) => (uint8[K] u, float s, uint8 z) {
          u, s, z = DynamicQuantizeLinear (a)
        }"""
    )
    return lambda a: run_ort(model, {"a": a})


@given(seed=SEEDS, width=st.integers(2, 300), scale=st.sampled_from([1e-20, 0.03, 1.0, 1e20]))
def test_a_row_is_a_dynamically_quantized_tensor(dynamic_quantize_linear, seed, width, scale):
    """Where nothing lies near the middle of two codes: there a quotient and a product by the
    inverse may be rounded apart."""
    a = spread(seed, width, scale=scale)
    codes, (step,), (zero_point,) = quantize_rows(a)
    theirs = dynamic_quantize_linear(a)
    assert step == theirs[1]
    exact = a.astype(np.float64) / step
    clear = np.abs(exact % 1 - 0.5) > 1e-3
    if abs(max(-exact.min(), 0) % 1 - 0.5) > 1e-3:
        assert zero_point == theirs[2]
        np.testing.assert_array_equal(codes[clear], theirs[0][clear])


@pytest.mark.parametrize(
    ("row", "codes", "zero_point"),
    [
        ([0, 255, 2.5, 3.5], [0, 255, 2, 4], 0),  # halves go to the even one
        ([-2, 0, -1], [0, 255, 128], 255),
        ([3, 3, 3], [255, 255, 255], 0),
        ([-1, 0, 254], [0, 1, 255], 1),
        ([0, -0.0, 0], [0, 0, 0], 0),
        ([2.0**-130, 0, 0], [0, 0, 0], 0),  # below the least step
        ([2.0**-120, 0, -(2.0**-119)], [3, 2, 0], 2),
    ],
)
def test_rows_by_hand(row, codes, zero_point):
    found, _, zero_points = quantize_rows(np.float32(row))
    assert (found.tolist(), zero_points.tolist()) == (codes, [zero_point])


@given(arrays(np.float32, (3, 8), elements=NUMBERS))
def test_centroids(centroids):
    integers, scale = integer_centroids(centroids)
    assert (integers.dtype, scale.dtype, integers.shape) == (np.int8, np.float32, (3, 8))
    assert np.abs(integers.astype(int)).max() <= 63
    for table, q, t in zip(centroids.astype(np.float64), integers, scale, strict=True):
        if t > 1e-30:  # a step has all the digits of a float32
            assert np.abs(q.astype(int)).max() == 63
            assert np.all(np.abs(q * float(t) - table) <= float(t) * (0.5 + 1e-4))


@pytest.mark.parametrize("largest", [0, 1, 30, 62, 63, 94, 95])
def test_the_least_centroids(largest):
    """In units of the least float32: a step is none, or one or more whole units."""
    unit = np.float32(2.0**-149)
    integers, scale = integer_centroids(np.float32([[0, largest * unit, -largest * unit, 0]]))
    assert np.abs(integers.astype(int)).max() <= 63
    assert (scale[0] > 0) == integers.any()


@given(seed=SEEDS, k=st.integers(1, 200), n=st.integers(1, 40))
def test_the_sums_are_those_of_matmul_integer(text_model, run_ort, seed, k, n):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (3, k), np.uint8)
    zero_points = rng.integers(0, 256, (3, 1), np.int32)
    weights = rng.integers(-63, 64, (k, n)).astype(np.int8)
    model = text_model(
        """g (uint8[1,K] u, int8[K,N] q, uint8 z) => (int32[1,N] y) {
          y = MatMulInteger (u, q, z)
        }"""
    )
    feeds = [
        {"u": u[None], "q": weights, "z": np.array(z, np.uint8)}
        for u, (z,) in zip(codes, zero_points, strict=True)
    ]
    theirs = np.concatenate([run_ort(model, feed)[0] for feed in feeds])
    np.testing.assert_array_equal(integer_product(codes, zero_points, weights), theirs, strict=True)


@pytest.mark.parametrize(("code", "zero_point"), [(255, 0), (0, 255)])
@pytest.mark.parametrize("weight", [63, -63])
def test_the_largest_sums(code, zero_point, weight):
    codes = np.full((1, MOST_ROWS), code, np.uint8)
    weights = np.full((MOST_ROWS, 1), weight, np.int8)
    found = integer_product(codes, np.int32([[zero_point]]), weights)
    assert found.tolist() == [[(code - zero_point) * weight * MOST_ROWS]]


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("groups", [1, 5])
def test_weights_are_rounded_centroids(bits, share, groups):
    tensor = encoded(40, 24, bits, share, groups=groups)
    weights, scale = integer_weights(tensor)
    mask = np.zeros(weights.shape, bool)
    mask[tensor.outlier_places()] = True
    tables, _ = integer_centroids(tensor.centroids)
    k, n = tensor.outlier_places()
    assert np.all(weights[k, n] == tables[tensor.tables[n], 0])
    assert len(set(scale)) == (groups if share < 1 else 1)
    error = np.abs(weights * scale - tensor.decode()) / np.maximum(scale, 1e-30)
    assert np.all(error[~mask] <= 0.501)


@given(
    seed=SEEDS,
    k=st.integers(1, 90),
    n=st.integers(1, 40),
    share=st.sampled_from([0, 0.1, 1]),
    groups=st.integers(1, 9),
)
def test_the_product(seed, k, n, share, groups):
    """No farther from that of the weights than codes and integer centroids may be."""
    tensor, a = encoded(k, n, 3, share, seed, groups), spread(seed + 1, 4, k)
    weights, column_scales = integer_weights(tensor)
    _, scale, _ = quantize_rows(a)
    found = int8_product(a, tensor)
    assert (found.dtype, found.shape) == (np.float32, (4, n))
    decoded, size = tensor.decode().astype(np.float64), np.abs(a).astype(np.float64)
    inside = np.ones(decoded.shape)
    inside[tensor.outlier_places()] = 0
    bound = 0.501 * (size @ inside) * column_scales
    used = np.where(inside, weights * column_scales, decoded)
    bound += 1.01 * scale * np.abs(used).sum(axis=0)
    bound += 1e-6 * (size @ np.abs(decoded))  # float32 sums
    assert np.all(np.abs(found - a.astype(np.float64) @ decoded) <= bound + 1e-12)


def test_rows_do_not_know_each_other():
    tensor, a = encoded(50, 30), spread(1, 2, 3, 50)
    together = int8_product(a, tensor)
    for place in np.ndindex(2, 3):
        np.testing.assert_allclose(
            # the float32 sums of outliers may be in another order
            together[place], int8_product(a[place], tensor), rtol=0, atol=1e-6
        )  # fmt: skip
    assert int8_product(a[:0], tensor).shape == (0, 3, 30)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(
    "spoilt", [[np.nan, 0], [np.inf, 0], [-np.inf, 0], [3e38, -3e38], [np.inf, np.nan]]
)
def test_a_row_without_a_range_is_not_a_number(share, spoilt):
    tensor, a = encoded(20, 10, 3, share), spread(1, 3, 20)
    sound = int8_product(a[[0, 2]], tensor)
    a[1, 4:6] = spoilt
    found = int8_product(a, tensor)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[[0, 2]], sound)


def test_all_weights_alike():
    tensor = replace(encoded(20, 10), centroids=np.zeros((1, 8), np.float32))
    codes, scale, zero_points = quantize_rows(spread(1, 3, 20))
    rounded = scale * (codes - zero_points)
    found = int8_product(spread(1, 3, 20), tensor)
    np.testing.assert_allclose(found, rounded @ tensor.decode(), rtol=0, atol=1e-6)
