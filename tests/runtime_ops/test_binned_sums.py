"""Sums over clusters against the sorted array, and thresholds against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sardonyx.runtime_ops.binned_sums import BinnedSums, chunks, energy, midpoints

SMALL = st.sampled_from([np.float32, np.float64]).flatmap(
    lambda dtype: hnp.arrays(
        dtype, st.integers(1, 300), elements=st.integers(-50, 50).map(lambda i: i / 7)
    )
)
ROUNDING = 1e-12
"""Relative to the sum of magnitudes: sums of at most 300,000 float64 terms in two orders."""


def large(kind):
    """More values than one bin takes, shaped to fill the bins evenly, in a heap, or at the ends."""
    rng = np.random.default_rng(0)
    make = {
        "normal": lambda: rng.standard_normal(200_000).astype(np.float32),
        "heavy tails": lambda: rng.standard_t(1, 100_000),
        "steps": lambda: rng.integers(-40, 40, 70_000).astype(np.float32),
        "one far away": lambda: np.append(rng.standard_normal(70_000), 1e9).astype(np.float32),
        "subnormal": lambda: (rng.standard_normal(70_000) * 1e-42).astype(np.float32),
        "constant": lambda: np.full(70_000, 0.1, np.float32),
        "greatest": lambda: rng.choice([-3.4e38, 1.0, 3.4e38], 70_000).astype(np.float32),
    }
    return make[kind]()


KINDS = ["normal", "heavy tails", "steps", "one far away", "subnormal", "constant", "greatest"]


def check(sums, values, centroids):
    """Every answer against a sort, a nearest-centroid search and plain sums."""
    ordered = np.sort(values).astype(np.float64)
    middles = midpoints(centroids, values.dtype).astype(np.float64)
    owner = np.searchsorted(middles, ordered, side="left")
    edges = np.searchsorted(owner, np.arange(centroids.size + 1))
    np.testing.assert_array_equal(sums.edges(centroids), edges)
    scale = np.abs(ordered).sum() + np.finfo(np.float64).tiny
    parts = np.split(ordered, edges[1:-1])
    means = [part.mean() if part.size else 99.0 for part in parts]
    got = sums.means(edges.astype(np.float64), np.full(centroids.size, 99.0))
    sizes = np.maximum(np.diff(edges), 1)
    assert np.all(np.abs(got - means) * sizes <= ROUNDING * scale)
    error = np.abs(ordered - centroids[owner])
    span = np.abs(centroids).max() + np.abs(ordered).max()
    assert abs(sums.l1(centroids) - error.sum()) <= ROUNDING * (scale + span * ordered.size)
    assert abs(sums.squared(centroids) - (error**2).sum()) <= ROUNDING * span**2 * ordered.size


@settings(max_examples=150, deadline=None)
@given(SMALL, st.lists(st.floats(-8, 8), min_size=1, max_size=9).map(sorted))
@example(np.float32([1.0]), [1.0])
@example(np.float32([1, 2, 3]), [2.0, 2.0, 2.0])
@example(np.float32([1, 2, 3]), [-5.0, 1.5, 2.5])
def test_small_arrays(values, centroids):
    check(BinnedSums(values), values, np.array(centroids))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rehearse", [False, True])
def test_large_arrays(kind, rehearse):
    values = large(kind)
    sums = BinnedSums(values)
    starts = [np.sort(np.random.default_rng(s).choice(values, 16)) for s in range(3)]
    several = [centroids.astype(np.float64) for centroids in starts]
    if rehearse:
        sums.rehearse(lambda: [sums.l1(centroids) for centroids in several[:2]])
    for centroids in several:
        check(sums, values, centroids)


@pytest.mark.parametrize("kind", ["normal", "heavy tails"])
def test_rehearsal_fetches_what_is_asked_next(kind):
    """After one, the same questions need no further pass over the values."""
    sums = BinnedSums(large(kind))
    centroids = np.sort(np.random.default_rng(0).choice(sums.values, 8)).astype(np.float64)
    sums.rehearse(lambda: sums.l1(centroids))
    sums.values = sums.values[:0]
    before = set(sums._fetched)
    expected = BinnedSums(large(kind)).l1(centroids)
    assert sums.l1(centroids) == expected
    assert set(sums._fetched) == before


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 600), st.integers(1, 8))
def test_bins_of_equal_population(size, log_count):
    count = 2**log_count
    values = np.random.default_rng(size).standard_normal(size)
    sums = BinnedSums(values)
    edges = sums.even_edges(count)
    sizes = np.diff(edges)
    assert (edges[0], edges[-1], sizes.max() - sizes.min() <= 1) == (0, size, True)
    means = sums.means(edges, np.full(count, 7.0))
    parts = np.split(np.sort(values), edges[1:-1].astype(int))
    expected = [part.mean() if part.size else 7.0 for part in parts]
    np.testing.assert_allclose(means, expected, rtol=0, atol=1e-12)  # order of float64 sums


@pytest.mark.parametrize(("size", "count"), [(512, 8), (96, 4), (100_000, 16)])
def test_even_bins_are_those_of_array_split(size, count):
    values = np.random.default_rng(0).standard_normal(size)
    sums = BinnedSums(values)
    expected = [part.mean() for part in np.array_split(np.sort(values), count)]
    means = sums.means(sums.even_edges(count), np.zeros(count))
    np.testing.assert_allclose(means, expected, rtol=0, atol=1e-12)  # order of float64 sums


def test_chunks_and_energy():
    values = np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
    assert np.array_equal(np.concatenate(list(chunks(values))), values)
    exact = np.dot(values.astype(np.float64), values.astype(np.float64))
    assert energy(values) == pytest.approx(exact, rel=1e-12)  # order of float64 sums
    assert energy(np.float32([3e38])) == float(np.float32(3e38)) ** 2
    assert energy(values[:0]) == 0.0


def around(value, dtype):
    """A value of the dtype and its neighbours; bfloat16 computes in float32, as the codec does."""
    value = np.asarray(value).astype(dtype)
    return [np.nextafter(value, dtype(-np.inf)), value, np.nextafter(value, dtype(np.inf))]


def decides_exactly(low, high, dtype):
    """Comparing with the midpoint picks what exact distances pick, next to it and far from it."""
    (middle,) = midpoints(np.array([low, high]), np.dtype(dtype))
    assert middle.dtype == dtype
    exact_low, exact_high = Fraction(float(low)), Fraction(float(high))
    centre = float((exact_low + exact_high) / 2)
    candidates = [w for near in (low, high, middle, centre) for w in around(near, dtype)]
    for weight in filter(np.isfinite, candidates):
        exact = Fraction(float(weight))
        assert (weight > middle) == (exact - exact_low > exact_high - exact)


def pairs(width):
    """Two finite floats, ascending, below a quarter of the greatest: far apart, or a few steps."""
    dtype = {16: np.float16, 32: np.float32, 64: np.float64}[width]
    most = float(np.finfo(dtype).max) / 4
    one = st.floats(-float(dtype(most)), float(dtype(most)), width=width)

    def steps(value, count):
        bits = np.array(abs(value), dtype).view(f"i{width // 8}") + count
        return sorted([abs(value), float(bits.view(dtype))])

    close = st.builds(steps, one, st.integers(0, 5))
    return st.one_of(st.tuples(one, one).map(sorted), close)


@settings(max_examples=300, deadline=None)
@given(pairs(32))
def test_float32_midpoints(pair):
    decides_exactly(*np.float32(pair), np.float32)


@settings(max_examples=300, deadline=None)
@given(pairs(64))
@example([1 + 2**-52, 1 + 2**-51])
def test_float64_midpoints(pair):
    decides_exactly(*np.float64(pair), np.float64)


@settings(max_examples=300, deadline=None)
@given(pairs(64).filter(lambda pair: max(map(abs, pair)) < 1e38))
@example([1 + 2**-52, 1 + 2**-51])
@example([1 - 2**-53, 1 + 2**-52])
def test_float64_centroids_of_float32_weights(pair):
    decides_exactly(*np.float64(pair), np.float32)


@settings(max_examples=100, deadline=None)
@given(pairs(16))
def test_float16_weights_as_float32(pair):
    decides_exactly(*np.float16(pair).astype(np.float32), np.float32)


@settings(max_examples=100, deadline=None)
@given(pairs(32).filter(lambda pair: max(map(abs, pair)) < 1e38))
def test_bfloat16_weights_as_float32(pair):
    decides_exactly(*np.array(pair).astype(ml_dtypes.bfloat16).astype(np.float32), np.float32)
