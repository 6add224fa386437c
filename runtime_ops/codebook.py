"""Fitting 2^bits centroids to the sorted weights of a tensor (GOBO, section 4: the G group)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sardonyx.runtime_ops.optimal_codebook import fit_optimal
from sardonyx.runtime_ops.sorted_sums import SortedSums

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
    """Centroids for ``values`` (1-D, **ascending**, finite; none at all give zeros).

    ``paper`` is GOBO's loop (equal-population start, stop when the L1 error no longer falls);
    ``optimal`` minimises the squared error exactly (one-dimensional k-means).
    """
    count = 1 << bits
    distinct = _few_distinct(values, count)
    if distinct is not None:
        return Codebook(np.pad(distinct, (0, count - distinct.size), mode="edge"), 0)
    sums = SortedSums(values)
    if solver == "optimal":
        start = _lloyd(sums, equal_population(sums, count), l1_stop=False)
        return Codebook(fit_optimal(sums, count, start.centroids), 0)
    return _lloyd(sums, equal_population(sums, count), l1_stop=True)


def equal_population(sums: SortedSums, count: int) -> NDArray[np.float64]:
    """Means of ``count`` bins holding equally many values each (sizes differ by at most one)."""
    edges = np.linspace(0, sums.size, count + 1).astype(np.int64)
    return sums.means(edges, empty=np.zeros(count))


def _lloyd(sums: SortedSums, centroids: NDArray[np.float64], l1_stop: bool) -> Codebook:
    """Assign to the nearest centroid, move it to the mean of its members, until no gain.

    The error watched is the total L1 distance (the paper) or the squared one; the best
    centroids seen are kept.
    """
    error = sums.l1 if l1_stop else sums.squared
    best, best_error = centroids, error(centroids)
    iterations = 0
    while True:
        iterations += 1
        centroids = sums.means(sums.edges(centroids), empty=centroids)
        now = error(centroids)
        if not now < best_error:
            return Codebook(best, iterations)
        best, best_error = centroids, now


def _few_distinct(values: NDArray[np.floating], count: int) -> NDArray[np.float64] | None:
    """The distinct values when they fit in the codebook, found by ``count`` binary searches."""
    found: list[float] = []
    at = 0
    while at < values.size:
        if len(found) == count:
            return None
        found.append(float(values[at]))
        at = int(np.searchsorted(values, values[at], side="right"))
    return np.array(found or [0.0])
