"""Exact one-dimensional k-means on sorted values, by branch and bound.

A clustering of sorted values is a row of cuts. The places of each cut are covered by cells (ranges
of places), and a dynamic program over cells gives a lower bound on every clustering whose cut lies
in a given cell. Cells whose bound exceeds the best clustering known are dropped, the rest divided;
when every cell is a single place, the bound is exact and its optimum is the optimum.

The bound. Let A be the values that lie for sure between a cut in cell s and a cut in cell t, and
let the cells hold m_s and m_t values, of which p and q belong to the cluster of A. Then

    error(A + p + q)  >=  error(A) + f p (mean A - last of s)^2 + f q (first of t - mean A)^2

with f = |A| / (|A| + m_s + m_t). A value of cell t joins the cluster on its left (at a cost of at
least a) or on its right (b); as min(a, b) >= min(a, r) + min(b, r) - r for every r, the two
clusters are charged apart, and r is the price at the best cut known. The gap is of second order in
the width of the cells, so that a few rounds leave a few places.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sardonyx.runtime_ops.divide_and_conquer import optimal_edges

Places = NDArray[np.int64]
Floats = NDArray[np.float64]

_CELLS = 256
"""Cells that a cut is divided into; a round costs their square."""

_FEW = 1 << 21
"""Values times centroids up to which `divide_and_conquer` is quick whatever the values are."""

_MANY = 32
"""Centroids above which bounds are too loose to drop cells, so that it is the quicker one."""

_SLACK = 1e-9
"""Relative slack on the bound, far above the rounding of float64 sums."""


@dataclass(frozen=True)
class _Cells:
    """Ranges of places of one cut, both ends included, ascending: place p cuts before value p.

    ``price``: the r of the module's bound.
    """

    low: Places
    high: Places
    price: float = 0.0

    @property
    def held(self) -> Places:
        """How many values may fall on either side of the cut."""
        return self.high - self.low

    def keep(self, mask: NDArray[np.bool_]) -> "_Cells":
        return _Cells(self.low[mask], self.high[mask], self.price)

    def divide(self, price: float) -> "_Cells":
        """The cells in equal pieces, about ``_CELLS`` in all and at least two each."""
        pieces = max(2, _CELLS // self.low.size)
        width = self.high - self.low + 1
        edges = self.low[:, None] + width[:, None] * np.arange(pieces + 1) // pieces
        low, high = edges[:, :-1].ravel(), edges[:, 1:].ravel() - 1
        return _Cells(low, high, price).keep(low <= high)

    def parts(self) -> list["_Cells"]:
        """The cells in runs of ``_CELLS``, so that a table of bounds stays small."""
        starts = range(0, self.low.size, _CELLS)
        return [
            _Cells(self.low[i : i + _CELLS], self.high[i : i + _CELLS], self.price) for i in starts
        ]


class _Errors:
    """Squared errors around the mean of ranges of sorted values."""

    def __init__(self, values: NDArray[np.floating]) -> None:
        self.mean = float(np.mean(values, dtype=np.float64))
        self.values = values.astype(np.float64) - self.mean
        self.first = np.concatenate([[0.0], np.cumsum(self.values)])
        self.second = np.concatenate([[0.0], np.cumsum(self.values * self.values)])

    def edges(self, centroids: Floats) -> Places:
        """Boundaries of the nearest-centroid clusters; ``centroids`` are relative to the mean."""
        inner = np.searchsorted(self.values, (centroids[:-1] + centroids[1:]) / 2.0, side="right")
        return np.concatenate([[0], inner, [self.values.size]])

    def means(self, edges: Places) -> Floats:
        """Means of the clusters, ascending; an empty one takes the value right of its place."""
        totals, counts = np.diff(self.first[edges]), np.diff(edges)
        right = self.values[edges[:-1].clip(0, self.values.size - 1)]
        means = np.where(counts > 0, totals / np.maximum(counts, 1), right)
        return np.maximum.accumulate(means)

    def total(self, edges: Places) -> float:
        """Error of the clustering with these edges (0 first, n last)."""
        counts = np.maximum(np.diff(edges), 1)
        return float(self.second[-1] - np.sum(np.diff(self.first[edges]) ** 2 / counts))

    def prices(self, edges: Places) -> list[float]:
        """Squared half distance of neighbouring means: what a value at each cut costs."""
        return [float(gap * gap / 4.0) for gap in np.diff(self.means(edges))]

    def bound(self, s: _Cells, t: _Cells) -> Floats:
        """The module's bound on the cluster between a cut in s and a cut in t: [s, t]."""
        start, end = s.high, t.low
        count = end[None, :] - start[:, None]
        size = np.maximum(count, 1)
        total = self.first[end][None, :] - self.first[start][:, None]
        mean = total / size
        error = self.second[end][None, :] - self.second[start][:, None] - total * mean
        share = size / (size + s.held[:, None] + t.held[None, :])
        last = self.values[np.maximum(start, 1) - 1][:, None]
        first = self.values[np.minimum(end, self.values.size - 1)][None, :]
        left = s.held[:, None] * np.minimum(share * (mean - last) ** 2, s.price)
        right = t.held[None, :] * np.minimum(share * (first - mean) ** 2, t.price)
        return np.where(count > 0, np.maximum(error, 0.0) + left + right, 0.0)


def fit_optimal(values: NDArray[np.floating], count: int, start: Floats) -> Floats:
    """The ``count`` centroids of least total squared error (float64, ascending).

    ``values``: 1-D, **ascending**, finite, not empty. ``start``: any centroids, ascending: the
    first upper bound; the nearer to the optimum, the faster.
    """
    errors = _Errors(values)
    if count > _MANY or values.size * count <= _FEW:
        return errors.means(optimal_edges(errors.first, errors.second, count)) + errors.mean
    best = errors.edges(start - errors.mean)
    everywhere = _Cells(np.array([0]), np.array([values.size]))
    cells = [everywhere.divide(price) for price in errors.prices(best)]
    while True:
        left, path = _forward(errors, cells)
        refined = errors.edges(errors.means(path))
        best = min((best, path, refined), key=errors.total)
        if not any(c.held.any() for c in cells):
            return errors.means(best) + errors.mean
        limit = errors.total(best) + _SLACK * errors.second[-1]
        right = _backward(errors, cells)
        cells = [
            c.keep(f + b <= limit).divide(price)
            for c, f, b, price in zip(cells, left, right, errors.prices(best), strict=True)
        ]


def _ends(errors: _Errors) -> tuple[_Cells, _Cells]:
    """The two cuts that are known: before the first value and after the last."""
    n = np.array([errors.values.size])
    return _Cells(n - n, n - n), _Cells(n, n)


def _forward(errors: _Errors, cells: list[_Cells]) -> tuple[list[Floats], Places]:
    """Bounds on all that lies left of a cut, by cell, and the edges along the least of all."""
    first, last = _ends(errors)
    bounds, back = [np.zeros(1)], []
    for s, t in zip([first, *cells], [*cells, last], strict=True):
        tables = [bounds[-1][:, None] + errors.bound(s, part) for part in t.parts()]
        back.append(np.concatenate([np.argmin(table, axis=0) for table in tables]))
        least = np.concatenate([np.min(table, axis=0) for table in tables])
        bounds.append(least - t.held * t.price)
    at, edges = 0, [0, errors.values.size]
    for cell, arg in zip(reversed(cells), reversed(back[1:]), strict=True):
        at = int(arg[at])
        edges.append(int(cell.low[at] + cell.high[at]) // 2)
    return bounds[1:-1], np.array(sorted(edges), np.int64)


def _backward(errors: _Errors, cells: list[_Cells]) -> list[Floats]:
    """Bounds on all that lies right of a cut, by cell."""
    bounds = [np.zeros(1)]
    after = _ends(errors)[1]
    for s in reversed(cells):
        charge = bounds[-1] - after.held * after.price
        least = [np.min(errors.bound(part, after) + charge, axis=1) for part in s.parts()]
        bounds.append(np.concatenate(least))
        after = s
    return bounds[:0:-1]
