"""The fast model is the scalar definition, bit for bit; lookups are the file's rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sardonyx.runtime_ops.accelerator.functional import lookup, product, read, transcode
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.gobo import Settings, encode


def stored(tensor):
    """A weight as the chip reads it, through the bytes of its containers."""
    return read(transcode(tensor), tensor)


def wide(m, k, seed=0):
    """Activations of very different sizes: another order of additions gives other bits."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((m, k)) * 10 ** rng.uniform(-3, 3, (m, k))).astype(np.float32)


def assert_same_bits(found, expected):
    """Equal down to the sign of 0; all NaN are one, whose bits are the processor's."""
    np.testing.assert_array_equal(found, expected, strict=True)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found[numbers]), np.signbit(expected[numbers]))


@settings(max_examples=150)
@given(
    m=st.integers(0, 5),
    k=st.integers(1, 60),
    n=st.integers(1, 40),
    bits=st.integers(2, 8),
    share=st.sampled_from([None, 0.0, 0.05, 0.5, 1.0]),
    groups=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
@example(m=1, k=700, n=2, bits=2, share=0.02, groups=1, seed=0)
@example(m=2, k=1200, n=1, bits=3, share=0.3, groups=1, seed=0)
@example(m=129, k=40, n=2, bits=3, share=0.05, groups=2, seed=0)
@example(m=257, k=5, n=1, bits=4, share=None, groups=1, seed=0)
@example(m=1, k=3, n=70, bits=8, share=0.05, groups=1, seed=0)
def test_bit_for_bit(encoded, scalar_product, m, k, n, bits, share, groups, seed):
    tensor, a = encoded(k, n, bits, share, groups=groups), wide(m, k, seed)
    assert_same_bits(product(a, stored(tensor)), scalar_product(a, tensor))


@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_order_of_additions_shows(encoded, scalar_product, m):
    """The comparison can fail: the same sums from the last k to the first have other bits."""
    tensor, a = encoded(700, 3, 2, 0.0), wide(m, 700)
    found = product(a, stored(tensor))
    assert_same_bits(found, scalar_product(a, tensor))
    turned = stored(tensor).codes[:, ::-1]
    from_the_end = product(a[:, ::-1], _with(stored(tensor), turned))
    assert not np.array_equal(found, from_the_end)
    np.testing.assert_allclose(found, from_the_end, rtol=1e-3)


def _with(weight, codes):
    return type(weight)(codes, weight.tables, weight.centroids, weight.values, weight.starts)


@settings(max_examples=30)
@given(st.data())
def test_what_is_no_number(encoded, scalar_product, data):
    """Infinities, NaN, zeros of both signs and sums that overflow."""
    odd = st.sampled_from([0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-45])
    a = np.array([data.draw(st.lists(odd, min_size=9, max_size=9)) for _ in range(2)], np.float32)
    tensor = encoded(9, 4, 2, 0.2)
    assert_same_bits(product(a, stored(tensor)), scalar_product(a, tensor))


def test_no_output_is_minus_zero(scalar_product, normal):
    """Sums of 0 by centroids below 0 are all -0; what they are added to starts at 0."""
    tensor, _ = encode(-np.abs(normal(20, 5)), Settings())
    a = np.zeros((2, 20), np.float32)
    assert tensor.centroids.max() < 0
    assert_same_bits(product(a, stored(tensor)), scalar_product(a, tensor))


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("share", [None, 0.1])
def test_the_bound_of_the_error(encoded, bits, share):
    """Against exact products: an addition an activation, 2^bits and an outlier, each within half
    a step of float32 of what is added so far, and a product each."""
    tensor, a = encoded(600, 30, bits, share), wide(4, 600).astype(np.float64)
    w = tensor.decode().astype(np.float64)
    steps = tensor.rows + (1 << bits) + 2
    bound = steps * 2.0**-24 * (np.abs(a) @ np.abs(w)) * 1.01
    found = product(a.astype(np.float32), stored(tensor))
    assert np.all(np.abs(found - a @ w) <= bound)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (2, 0, 3)])
def test_leading_axes(encoded, shape):
    tensor = encoded(40, 7, 3, 0.05)
    a = wide(int(np.prod(shape)), 40).reshape(*shape, 40)
    found = product(a, stored(tensor))
    assert found.shape == (*shape, 7)
    assert_same_bits(found.reshape(-1, 7), product(a.reshape(-1, 40), stored(tensor)))


def test_other_memory_orders(encoded):
    tensor, a = encoded(40, 7, 3, 0.05), wide(6, 40)
    expected = product(a, stored(tensor))
    assert_same_bits(product(np.asfortranarray(a), stored(tensor)), expected)
    assert_same_bits(product(a[::-2], stored(tensor)), expected[::-2])


def test_half_precision_is_computed_in_float32(encoded, scalar_product):
    tensor = encoded(40, 7, 3, 0.05, dtype=np.float16)
    a = wide(3, 40).astype(np.float16)
    expected = scalar_product(a.astype(np.float32), _single(tensor))
    found = product(a, stored(tensor))
    np.testing.assert_array_equal(found, expected.astype(np.float16), strict=True)


def _single(tensor):
    single = type(tensor)(**vars(tensor))
    object.__setattr__(single, "centroids", tensor.centroids.astype(np.float32))
    object.__setattr__(single, "values", tensor.values.astype(np.float32))
    return single


def test_double_precision_is_refused(encoded):
    with pytest.raises(InputError, match="computes in float32, not in float64"):
        transcode(encoded(40, 7, 3, 0.05, dtype=np.float64))


@settings(max_examples=80)
@given(
    k=st.integers(1, 40),
    n=st.integers(1, 40),
    bits=st.integers(2, 8),
    share=st.sampled_from([None, 0.0, 0.05, 0.5, 1.0]),
    groups=st.integers(1, 3),
    data=st.data(),
)
def test_lookups(encoded, k, n, bits, share, groups, data):
    """Rows of the table in any order, repeated, counted from the end, none at all."""
    tensor = encoded(k, n, bits, share, groups=groups)
    ids = np.array(data.draw(st.lists(st.integers(-n, n - 1), max_size=9)), np.int64)
    np.testing.assert_array_equal(lookup(ids, stored(tensor)), tensor.decode().T[ids], strict=True)


def test_ids_of_any_shape(encoded):
    tensor = encoded(24, 11, 4, 0.1)
    ids = np.array([[[3, -1], [0, 3]]], np.int32)
    np.testing.assert_array_equal(lookup(ids, stored(tensor)), tensor.decode().T[ids], strict=True)
    with pytest.raises(IndexError):
        lookup(np.array([11]), stored(tensor))


def test_containers(encoded):
    """One for each table of centroids: 3 bits, 5 bytes an outlier, a count a sub-matrix."""
    tensor = encoded(40, 50, 3, 0.05, groups=2)
    first, second = transcode(tensor)
    assert len(first) + len(second) == 2 * 32 + (6 + 6) * (1 + 96) + 5 * tensor.outliers
