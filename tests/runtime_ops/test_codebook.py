"""The paper's loop against a plain re-implementation; both solvers on awkward data."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sardonyx.runtime_ops.codebook import fit

SOLVERS = ("paper", "optimal")
ROUNDING = 1e-9
"""Relative: means taken from differences of prefix sums against means of the members."""


def squared_error(values, centroids):
    return (np.abs(values.astype(np.float64)[:, None] - centroids).min(axis=1) ** 2).sum()


def naive_loop(values, count):
    """Equal-population bins; nearest centroid, mean of members; stop when the L1 does not fall."""
    ordered = np.sort(values).astype(np.float64)
    bounds = [ordered.size * j // count for j in range(count + 1)]
    best = np.array([ordered[a:b].mean() for a, b in itertools.pairwise(bounds)])
    best_error = np.abs(ordered[:, None] - best).min(axis=1).sum()
    iterations = 0
    while True:
        iterations += 1
        nearest = np.abs(ordered[:, None] - best).argmin(axis=1)
        members = [ordered[nearest == j] for j in range(count)]
        means = [m.mean() if m.size else c for m, c in zip(members, best, strict=True)]
        error = np.abs(ordered[:, None] - np.array(means)).min(axis=1).sum()
        if error >= best_error:
            return best, iterations
        best, best_error = np.array(means), error


def samples(seed, size, dtype=np.float64):
    """Values that do not tie, so that no rounding decides an assignment."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-30, 30)
    return ((rng.standard_t(rng.integers(2, 9), size) + rng.normal()) * scale).astype(dtype)


def check_paper(values, bits):
    centroids, iterations = naive_loop(values, 2**bits)
    book = fit(values, bits)
    tolerance = ROUNDING * np.abs(values).max()
    np.testing.assert_allclose(book.centroids, centroids, rtol=0, atol=tolerance)
    assert book.iterations == iterations


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(300, 900),
    st.integers(2, 8),
    st.sampled_from([np.float32, np.float64]),
)
def test_paper_loop(seed, size, bits, dtype):
    check_paper(samples(seed, size, dtype), bits)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_paper_loop_on_many_values(bits):
    """More than are sorted at once: binned sums and their rehearsal take part."""
    check_paper(np.random.default_rng(bits).standard_t(4, 100_000).astype(np.float32) * 0.04, bits)


def test_empty_clusters_keep_their_centroids():
    """Equal population starts with 0, 0, 0, 15/11. The last gives up 1 and then 2; the third pass
    has the L1 error of the second, 5, and is not kept."""
    book = fit(np.append(np.zeros(40), [8.0, 1.0, 2.0, 4.0]), 2)
    assert book.centroids.tolist() == [0, 0, 1, 14 / 3]
    assert book.iterations == 3


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("size", "dtype"), [(5000, np.float64), (100_000, np.float32)])
def test_order_of_values_does_not_matter(solver, size, dtype):
    values = np.random.default_rng(0).standard_normal(size).astype(dtype)
    orders = (values, np.sort(values), values[::-1])
    first, *others = (fit(v, 3, solver).centroids.astype(dtype) for v in orders)
    for other in others:
        assert np.array_equal(first, other)


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.integers(-9, 9), min_size=1, max_size=60), bits=st.integers(2, 4))
def test_few_distinct_values_are_the_centroids(solver, values, bits):
    distinct = np.unique(values)[: 2**bits]
    kept = np.array([v for v in values if v in distinct], np.float32)
    book = fit(kept, bits, solver)
    padding = np.full(2**bits - distinct.size, distinct[-1])
    assert book.centroids.tolist() == [*distinct, *padding]
    assert book.iterations == 0


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_values_give_zeros(solver):
    assert fit(np.empty(0, np.float32), 3, solver).centroids.tolist() == [0.0] * 8


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_value(solver):
    assert fit(np.float32([-2.5]), 2, solver).centroids.tolist() == [-2.5] * 4


@pytest.mark.parametrize("distinct", [8, 9])
def test_distinct_values_that_come_late(distinct):
    """The first thousands are equal; only the end tells whether 8 centroids hold them all."""
    values = np.concatenate([np.zeros(10_000), np.arange(distinct)])
    book = fit(values, 3)
    assert (squared_error(values, book.centroids) == 0) == (distinct == 8)
    assert (book.iterations == 0) == (distinct == 8)


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(20, 300), places=st.integers(0, 3))
@example(seed=384, size=20, places=1)  # two clusters of 0.9, whose sums round differently
def test_centroids_ascend_within_the_values(solver, seed, size, places):
    values = np.round(np.random.default_rng(seed).standard_t(2, size), places)
    centroids = fit(values, 4, solver).centroids
    assert centroids.shape == (16,)
    assert np.all(np.diff(centroids) >= 0)
    slack = ROUNDING * np.abs(values).max()
    assert values.min() - slack <= centroids[0]
    assert centroids[-1] <= values.max() + slack


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(20, 400), st.integers(2, 4))
def test_optimal_is_never_worse_than_the_paper(seed, size, bits):
    values = samples(seed, size)
    paper, optimal = (squared_error(values, fit(values, bits, s).centroids) for s in SOLVERS)
    total = ((values - values.mean()) ** 2).sum()
    assert optimal <= paper + 1e-12 * total  # rounding of sums of squares


def test_optimal_gains_on_tiles_of_512():
    """Codebooks a tile, as hardware with small tiles keeps them: the loop stops early there."""
    tiles = np.random.default_rng(0).standard_t(4, (8, 512)).astype(np.float32)
    errors = {s: sum(squared_error(t, fit(t, 3, s).centroids) for t in tiles) for s in SOLVERS}
    assert errors["optimal"] < 0.98 * errors["paper"]
