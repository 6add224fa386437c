"""Order statistics of a large array without sorting it.

The k-means loop asks for ranks and sums at a few thresholds an iteration. Values are counted and
summed in many narrow bins; only the bins that a threshold falls into are fetched and sorted, so
every answer is that of the sorted array. Fetching is a pass over the values, so a rehearsal with
interpolated answers finds most of these bins beforehand.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 17
_BINS = 1 << 14
_SMALL = 1 << 16
"""Up to this many values, one bin: all are sorted."""

Floating = NDArray[np.floating]
Floats = NDArray[np.float64]


def chunks(values: Floating) -> Iterator[Floating]:
    """A 1-D array in pieces that stay in the cache."""
    return (values[at : at + _CHUNK] for at in range(0, values.size, _CHUNK))


def energy(values: Floating) -> float:
    """Sum of squares of a 1-D array, in float64."""
    return sum(float(np.sum(np.square(part, dtype=np.float64))) for part in chunks(values))


def midpoints(centroids: Floating, dtype: np.dtype[np.floating]) -> Floating:
    """Decision thresholds between neighbouring centroids, in the dtype of the data.

    A value above ``midpoints[j]`` is nearer to centroid j + 1; a tie goes to centroid j. Each
    threshold is the exact midpoint rounded *down* to ``dtype``, so that comparing in ``dtype``
    decides as comparing in exact arithmetic would.
    """
    left, right = centroids[:-1].astype(np.float64), centroids[1:].astype(np.float64)
    total = left + right
    part = total - left
    lost = (left - (total - part)) + (right - part)  # left + right = total + lost, exactly
    rounded = (total / 2.0).astype(dtype)
    twice = 2.0 * rounded.astype(np.float64)
    too_high = (twice > total) | ((twice == total) & (lost < 0.0))
    return np.where(too_high, np.nextafter(rounded, rounded.dtype.type(-np.inf)), rounded)


class BinnedSums:
    """Ranks and prefix sums of ``values`` (1-D, any order, finite, not empty) in sorted order."""

    def __init__(self, values: Floating) -> None:
        self.values = values
        self.size = values.size
        self._low, self._high = values.min(), values.max()
        with np.errstate(over="ignore", divide="ignore"):
            self._scale = values.dtype.type(_BINS - 1) / (self._high - self._low)
        if values.size <= _SMALL or not 0.0 < self._scale < np.inf:
            self._scale = values.dtype.type(0.0)
            self.values = values = np.sort(values)  # sums that do not depend on the order
        counts, sums = np.zeros(_BINS, np.int64), np.zeros(_BINS)
        for part in chunks(values):
            bins = self._bins_of(part)
            counts += np.bincount(bins, minlength=_BINS)
            sums += np.bincount(bins, weights=part, minlength=_BINS)
        self._rank_before = np.concatenate([[0], np.cumsum(counts)])
        self._sum_before = np.concatenate([[0.0], np.cumsum(sums)])
        self._energy = energy(values)
        self._fetched: dict[int, Floating] = {}
        self._rehearsed: set[int] | None = None

    def rehearse(self, work: Callable[[], object]) -> None:
        """Do ``work`` on interpolated answers; fetch the bins it asked for, and those beside."""
        self._rehearsed = set()
        work()
        near = {at + step for at in self._rehearsed for step in (-1, 0, 1)}
        self._rehearsed = None
        self._fetch(near & set(range(_BINS)))

    def edges(self, centroids: Floats) -> Floats:
        """Boundaries of the nearest-centroid clusters: cluster j has the ranks e[j] to e[j + 1]."""
        middles = midpoints(centroids, self.values.dtype)
        return np.concatenate([[0.0], self._ranks(middles, "right"), [self.size]])

    def even_edges(self, count: int) -> Floats:
        """Boundaries of ``count`` clusters of equal size (to within one)."""
        return np.floor(np.linspace(0, self.size, count + 1))

    def means(self, edges: Floats, empty: Floats) -> Floats:
        """Mean of each cluster; ``empty[j]`` for a cluster without members."""
        counts = np.diff(edges)
        totals = np.diff(self._prefix(edges))
        return np.where(counts > 0, totals / np.where(counts > 0, counts, 1.0), empty)

    def l1(self, centroids: Floats) -> float:
        """Total distance of the values to their nearest centroid."""
        edges = self.edges(centroids)
        split = self._ranks(centroids.astype(self.values.dtype), "left")
        split = split.clip(edges[:-1], edges[1:])
        low, mid, high = self._prefix(edges[:-1]), self._prefix(split), self._prefix(edges[1:])
        below = centroids * (split - edges[:-1]) - (mid - low)
        above = (high - mid) - centroids * (edges[1:] - split)
        return float(np.sum(below + above))

    def squared(self, centroids: Floats) -> float:
        """Total squared distance of the values to their nearest centroid."""
        edges = self.edges(centroids)
        totals, counts = np.diff(self._prefix(edges)), np.diff(edges)
        return self._energy + float(np.sum(centroids * (centroids * counts - 2.0 * totals)))

    def _bins_of(self, values: Floating) -> NDArray[np.uint16]:
        """Bin numbers: they never fall as values rise, since rounding is monotone."""
        if self._scale == 0.0:
            return np.zeros(values.shape, np.uint16)
        bins: NDArray[np.uint16] = ((values - self._low) * self._scale).astype(np.uint16)
        return bins

    def _ranks(self, thresholds: Floating, side: Literal["left", "right"]) -> Floats:
        """How many values lie below (``left``) or not above (``right``) each threshold."""
        inside = thresholds.clip(self._low, self._high)
        bins = self._bins_of(inside).astype(np.int64)
        before: Floats = self._rank_before[bins].astype(np.float64)
        if self._rehearsed is not None:
            self._rehearsed.update(bins.tolist())
            along = inside - self._low if self._scale else np.zeros_like(inside)
            share = along * self._scale - bins
            before += share.clip(0.0, 1.0) * (self._rank_before[bins + 1] - before)
            return before
        self._fetch(bins.tolist())
        pairs = zip(bins.tolist(), thresholds, strict=True)
        before += [np.searchsorted(self._fetched[at], t, side=side) for at, t in pairs]
        return before

    def _prefix(self, ranks: Floats) -> Floats:
        """Sum of the ``rank`` smallest values, for each rank."""
        bins = np.searchsorted(self._rank_before, ranks, side="right") - 1
        bins = bins.clip(0, _BINS - 1)
        within = ranks - self._rank_before[bins]
        before: Floats = self._sum_before[bins]
        if self._rehearsed is not None:
            self._rehearsed.update(bins.tolist())
            counts = np.maximum(np.diff(self._rank_before)[bins], 1)
            before += within / counts * (self._sum_before[bins + 1] - before)
            return before
        self._fetch(bins[within > 0].tolist())
        pairs = zip(bins.tolist(), within.astype(np.int64), strict=True)
        parts = [self._fetched[at][:n].sum(dtype=np.float64) if n else 0.0 for at, n in pairs]
        before += parts
        return before

    def _fetch(self, bins: Iterable[int]) -> None:
        """Collect and sort the values of bins not fetched yet, in one pass over all values."""
        missing = sorted(set(bins) - self._fetched.keys())
        if not missing:
            return
        wanted = np.zeros(_BINS, np.bool_)
        wanted[missing] = True
        parts = [part[wanted[self._bins_of(part)]] for part in chunks(self.values)]
        ordered = np.sort(np.concatenate(parts))
        counts = np.diff(self._rank_before)[missing]
        for at, values in zip(missing, np.split(ordered, np.cumsum(counts)[:-1]), strict=True):
            self._fetched[at] = values
