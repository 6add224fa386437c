"""Exact one-dimensional k-means on sorted values, by divide and conquer.

The textbook dynamic program ``D_j[i] = min over m of D_{j-1}[m] + error(values[m:i])``. The best m
never falls as i rises, so the rows i are solved in the order of halving strides, each between the
best m of its solved neighbours: k n log n errors in all, whatever the values are.
"""

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]
Floats = NDArray[np.float64]


def optimal_edges(first: Floats, second: Floats, count: int) -> Places:
    """Edges (0 first, n last) of the ``count`` clusters of least squared error.

    ``first``, ``second``: prefix sums of the ascending values and of their squares, [n + 1].
    """
    n = first.size - 1
    least = _errors(first, second, np.zeros(n + 1, np.int64), np.arange(n + 1))
    back = np.empty((count - 1, n + 1), np.int32)
    for layer in back:
        least, layer[:] = _add_cluster(first, second, least)
    edges = [n]
    for layer in back[::-1]:
        edges.append(int(layer[edges[-1]]))
    return np.array([0, *edges[::-1]], np.int64)


def _errors(first: Floats, second: Floats, start: Places, end: Places) -> Floats:
    """Squared error of ``values[start:end]`` around its mean, element by element."""
    total = first[end] - first[start]
    errors: Floats = second[end] - second[start] - total * total / np.maximum(end - start, 1)
    return np.maximum(errors, 0.0)


def _add_cluster(first: Floats, second: Floats, before: Floats) -> tuple[Floats, Places]:
    """One row of the program after ``before``, and for each i the m that gives it."""
    n = first.size - 1
    stride = 1 << (n + 1).bit_length()
    least = np.empty(n + 1)
    best = np.full(n + 2 + 2 * stride, n, np.int64)  # of row i at i + 1; row -1 knows m >= 0
    best[0] = 0
    while stride:
        at = np.arange(stride, n + 2, 2 * stride)
        if at.size:
            low, high = best[at - stride], np.minimum(best[at + stride], at - 1)
            sizes = high - low + 1
            starts = np.cumsum(sizes) - sizes
            m = np.arange(sizes.sum()) - np.repeat(starts - low, sizes)
            errors = before[m] + _errors(first, second, m, np.repeat(at - 1, sizes))
            least[at - 1] = np.minimum.reduceat(errors, starts)
            hits = np.flatnonzero(errors == np.repeat(least[at - 1], sizes))
            best[at] = m[hits[np.searchsorted(hits, starts)]]
        stride //= 2
    return least, best[1 : n + 2]
