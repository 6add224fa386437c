"""Fitting 2^bits centroids to the weights of a tensor (GOBO, section 4: the G group)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sardonyx.runtime_ops.binned_sums import BinnedSums, Floats
from sardonyx.runtime_ops.optimal_codebook import fit_optimal

_SAMPLE = 1 << 12
"""Values looked at before all of them, to see that they are many."""

Solver = Literal["paper", "optimal"]


@dataclass(frozen=True)
class Codebook:
    """Fitted centroids.

    ``centroids``: float64 [2^bits], ascending; a tensor with fewer distinct values than centroids
    repeats its largest one. ``iterations``: passes of the paper's loop (0 for ``optimal``).
    """

    centroids: NDArray[np.float64]
    iterations: int


def fit(values: NDArray[np.floating], bits: int, solver: Solver = "paper") -> Codebook:
    """Centroids for ``values`` (1-D, any order, finite; none at all give zeros).

    ``paper`` is GOBO's loop (equal-population start, stop when the L1 error no longer falls);
    ``optimal`` minimises the squared error exactly (one-dimensional k-means).
    """
    count = 1 << bits
    distinct = _few_distinct(values, count)
    if distinct is not None:
        return Codebook(np.pad(distinct, (0, count - distinct.size), mode="edge"), 0)
    sums = BinnedSums(values)
    if solver == "optimal":
        sums.rehearse(lambda: _lloyd(sums, count, sums.squared))
        start = _lloyd(sums, count, sums.squared)
        return Codebook(fit_optimal(np.sort(values), count, start.centroids), 0)
    sums.rehearse(lambda: _lloyd(sums, count, sums.l1))
    return _lloyd(sums, count, sums.l1)


def _lloyd(sums: BinnedSums, count: int, error: Callable[[Floats], float]) -> Codebook:
    """Start from bins of equal population; assign each value to the nearest centroid and move it
    to the mean of its members, until ``error`` no longer falls; keep the best centroids seen."""
    best = sums.means(sums.even_edges(count), empty=np.zeros(count))
    best_error = error(best)
    iterations = 0
    while True:
        iterations += 1
        centroids = sums.means(sums.edges(best), empty=best)
        now = error(centroids)
        if not now < best_error:
            # Means of equal values may differ by a rounding, in either direction.
            return Codebook(np.maximum.accumulate(best), iterations)
        best, best_error = centroids, now


def _few_distinct(values: NDArray[np.floating], count: int) -> Floats | None:
    """The distinct values, ascending, when they fit in the codebook."""
    if np.unique(values[:_SAMPLE]).size > count:
        return None
    distinct = np.unique(values).astype(np.float64)
    return None if distinct.size > count else distinct if distinct.size else np.zeros(1)
