"""Sums and errors over ranges of a sorted array, in time independent of the range's length."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 14


def chunks(values: NDArray[np.floating]) -> Iterator[NDArray[np.floating]]:
    """A 1-D array in pieces that stay in the cache."""
    return (values[at : at + _CHUNK] for at in range(0, values.size, _CHUNK))


def energy(values: NDArray[np.floating]) -> float:
    """Sum of squares of a 1-D array, in float64."""
    return sum(float(np.sum(np.square(part, dtype=np.float64))) for part in chunks(values))


class SortedSums:
    """Prefix sums of an ascending array, kept once a block so that they cost no memory.

    ``values``: 1-D, ascending, finite, not empty. All sums are float64.
    """

    def __init__(self, values: NDArray[np.floating]) -> None:
        self.values = values
        self.size = values.size
        blocks = [part.sum(dtype=np.float64) for part in chunks(values)]
        self._before = np.concatenate([[0.0], np.cumsum(blocks)])
        self._square_total = energy(values)

    def prefix(self, ends: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum of ``values[:end]`` for each of ``ends`` (any shape)."""
        out = np.empty(ends.shape)
        for at, end in np.ndenumerate(ends):
            block = int(end) // _CHUNK
            tail = self.values[block * _CHUNK : int(end)]
            out[at] = self._before[block] + tail.sum(dtype=np.float64)
        return out

    def edges(self, centroids: NDArray[np.float64]) -> NDArray[np.int64]:
        """Boundaries of the nearest-centroid clusters: cluster j is ``values[e[j]:e[j + 1]]``."""
        inner = np.searchsorted(self.values, midpoints(centroids, self.values.dtype), side="right")
        return np.concatenate([[0], inner, [self.size]])

    def means(self, edges: NDArray[np.int64], empty: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean of each cluster; ``empty[j]`` for a cluster without members."""
        counts = np.diff(edges)
        totals = np.diff(self.prefix(edges))
        return np.where(counts > 0, totals / np.maximum(counts, 1), empty)

    def l1(self, centroids: NDArray[np.float64]) -> float:
        """Total distance of the values to their nearest centroid."""
        edges = self.edges(centroids)
        split = np.searchsorted(self.values, centroids.astype(self.values.dtype))
        split = split.clip(edges[:-1], edges[1:])
        low, mid, high = self.prefix(edges[:-1]), self.prefix(split), self.prefix(edges[1:])
        below = centroids * (split - edges[:-1]) - (mid - low)
        above = (high - mid) - centroids * (edges[1:] - split)
        return float(np.sum(below + above))

    def squared(self, centroids: NDArray[np.float64]) -> float:
        """Total squared distance of the values to their nearest centroid."""
        edges = self.edges(centroids)
        totals, counts = np.diff(self.prefix(edges)), np.diff(edges)
        return self._square_total + float(np.sum(centroids * (centroids * counts - 2.0 * totals)))


def midpoints(
    centroids: NDArray[np.floating], dtype: np.dtype[np.floating]
) -> NDArray[np.floating]:
    """Decision thresholds between neighbouring centroids, in the dtype of the data.

    A value above ``midpoints[j]`` is nearer to centroid j + 1; a tie goes to centroid j. Each
    threshold is the exact midpoint rounded *down* to ``dtype``, so that comparing in ``dtype``
    decides as comparing in exact arithmetic would.
    """
    exact = (centroids[:-1].astype(np.float64) + centroids[1:].astype(np.float64)) / 2.0
    rounded = exact.astype(dtype)
    too_high = rounded.astype(np.float64) > exact
    return np.where(too_high, np.nextafter(rounded, rounded.dtype.type(-np.inf)), rounded)
