"""The exact solver for few values or many centroids, against an independent package."""

import kmeans1d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sardonyx.runtime_ops.divide_and_conquer import optimal_edges


def edges_of(values, count):
    ordered = np.sort(values)
    first = np.concatenate([[0.0], np.cumsum(ordered)])
    second = np.concatenate([[0.0], np.cumsum(ordered * ordered)])
    return ordered, optimal_edges(first, second, count)


def error(values, centroids):
    return np.square(values[:, None] - np.asarray(centroids)[None]).min(axis=1).sum()


@settings(max_examples=80)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 300), count=st.integers(2, 300))
def test_no_package_does_better(seed, size, count):
    values = np.random.default_rng(seed).standard_t(3, size)
    ordered, edges = edges_of(values, count)
    assert edges[0] == 0
    assert edges[-1] == size
    assert len(edges) == count + 1
    assert (np.diff(edges) >= 0).all()
    clusters = [c for c in np.split(ordered, edges[1:-1]) if c.size]
    ours = error(values, [c.mean() for c in clusters])
    if count < size:
        theirs = error(values, kmeans1d.cluster(values, count).centroids)
        assert ours <= theirs + 1e-9 * np.square(values).sum()
    else:
        assert ours <= 1e-20 * np.square(values).sum()


@pytest.mark.parametrize("count", [16, 128])
def test_thousands_of_heavy_tailed_values(count):
    values = np.random.default_rng(7).standard_t(2, 4000)
    ordered, edges = edges_of(values, count)
    ours = error(values, [c.mean() for c in np.split(ordered, edges[1:-1])])
    assert ours == pytest.approx(error(values, kmeans1d.cluster(values, count).centroids), rel=1e-9)
