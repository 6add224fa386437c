"""Exact k-means against another package's."""

from __future__ import annotations

import kmeans1d
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sardonyx.runtime_ops import optimal_codebook
from sardonyx.runtime_ops.codebook import fit
from sardonyx.runtime_ops.optimal_codebook import fit_optimal
from sardonyx.runtime_ops.outliers import band

ROUNDING = 1e-11
"""Of the total spread: both sides decide by differences of running sums."""


@pytest.fixture(scope="module", autouse=True, params=["branch and bound", "by size"])
def _solver(request):
    """Small cases too by branch and bound, then by whatever their size asks for."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "branch and bound":
            patch.setattr(optimal_codebook, "_FEW", 0)
            patch.setattr(optimal_codebook, "_MANY", 1 << 30)
        yield


def clustering_error(values, clusters):
    parts = [values[clusters == j] for j in np.unique(clusters)]
    return sum(((part - part.mean()) ** 2).sum() for part in parts)


def check(values, bits):
    """The centroids err as little as an optimal clustering does, and no less."""
    wide = values.astype(np.float64)
    centroids = fit(values, bits, "optimal").centroids
    assert np.all(np.diff(centroids) >= 0)
    found = (np.abs(wide[:, None] - centroids).min(axis=1) ** 2).sum()
    relative = wide - wide.mean()  # the package keeps fewer digits of values far from 0
    clusters = np.array(kmeans1d.cluster(relative, 2**bits).clusters)
    least = clustering_error(wide, clusters)
    assert abs(found - least) <= ROUNDING * (relative**2).sum()


@st.composite
def tied(draw):
    """Values on a coarse or fine grid, of any scale, some far from 0, some with heavy tails."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.standard_t(draw(st.sampled_from([1, 2, 5, 100])), draw(st.integers(1, 300)))
    values = np.round(values, draw(st.integers(0, 9))) + draw(st.sampled_from([0, 0, -5, 1000]))
    scaled = values * 10.0 ** draw(st.sampled_from([-30, -3, 0, 0, 30]))
    return scaled.astype(draw(st.sampled_from([np.float32, np.float64])))


@settings(max_examples=150, deadline=None)
@given(tied(), st.integers(2, 4))
@example(np.array([-3.0, -2, -1, 0, 0, 0, 0, 5, 9]), 2)
@example(np.append(np.random.default_rng(0).standard_normal(200), 1e6), 4)
def test_least_error(values, bits):
    check(values, bits)


@settings(max_examples=4, deadline=None)
@given(tied(), st.integers(5, 6))
def test_least_error_with_many_centroids(values, bits):
    check(values, bits)


@pytest.mark.parametrize(("bits", "size"), [(7, 140), (8, 264)])
def test_nearly_as_many_centroids_as_values(bits, size):
    check(np.random.default_rng(bits).standard_t(3, size), bits)


@pytest.mark.parametrize("seed", range(4))
def test_tiles_of_512(seed):
    check(np.random.default_rng(seed).standard_t(4, 512).astype(np.float32), 3)


@pytest.mark.parametrize(("bits", "cut"), [(3, False), (3, True), (4, True)])
def test_many_values_with_heavy_tails(bits, cut):
    values = np.random.default_rng(0).standard_t(3, 100_000).astype(np.float32) * np.float32(0.04)
    check(values[~band(values, "logpdf", None).outliers(values)] if cut else values, bits)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-20, 20), min_size=9, max_size=40),
    st.lists(st.integers(-25, 25), min_size=4, max_size=4).map(sorted),
)
def test_any_start_leads_to_the_optimum(values, start):
    ordered = np.sort(np.array(values, np.float64))
    centroids = fit_optimal(ordered, 4, np.array(start, np.float64))
    assert np.all(np.diff(centroids) >= 0)
    found = (np.abs(ordered[:, None] - centroids).min(axis=1) ** 2).sum()
    clusters = np.array(kmeans1d.cluster(ordered, 4).clusters)
    tolerance = ROUNDING * max(1.0, (ordered**2).sum())
    assert abs(found - clustering_error(ordered, clusters)) <= tolerance
