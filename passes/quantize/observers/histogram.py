"""One streaming histogram of a tensor, from which every range is found."""

import math
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sardonyx.passes.quantize.observers.statistic import Floats, Statistic, ends, floats, kept

BINS = 8192
"""Bins a side: 32 a level of INT8 or more, where the range is not clipped."""

_SMALLEST = -126
"""The least exponent of a bin's width: 2^126 is a float32, so that scaling is exact. A tensor with
no magnitude over 2^-113 has coarser bins than its own, which no scale in float32 would notice."""


@dataclass(frozen=True, eq=False)
class Histogram(Statistic):
    """Counts of a tensor's values in equal bins that mirror each other at zero.

    With n bins a side (a power of two) and w = 2^exponent, bin n + k holds [k w, (k + 1) w) and
    bin n - 1 - k holds (-(k + 1) w, -k w] without zero. w is the least power of two with which the
    largest magnitude so far is below n w; when it grows, pairs of bins become one. As
    int(int(x / w) / 2) = int(x / 2w), samples may come in any split and order: the same bits.

    ``counts``: int64 [2 n]. ``low``, ``high``: the exact least and largest value (inf and -inf
    before the first). ``count``: of values. ``zeros``: how many are exactly zero, of either sign.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * BINS, np.int64))
    exponent: int = _SMALLEST
    low: float = math.inf
    high: float = -math.inf
    count: int = 0
    zeros: int = 0

    @property
    def bins(self) -> int:
        """Bins a side, n."""
        return self.counts.size // 2

    @property
    def width(self) -> float:
        """Width w of a bin."""
        return 2.0**self.exponent

    @property
    def largest(self) -> float:
        """The exact largest magnitude, 0 before the first value."""
        return max(-self.low, self.high, 0.0)

    @property
    def positive(self) -> NDArray[np.int64]:
        """Counts of values >= 0, from zero outwards: int64 [n]."""
        return self.counts[self.bins :]

    @property
    def negative(self) -> NDArray[np.int64]:
        """Counts of values < 0, from zero outwards: int64 [n]."""
        return self.counts[self.bins - 1 :: -1]

    def add(self, values: Floats) -> Self:
        values = floats(values)
        which = kept(values)
        values = values.ravel() if which is True else values[which]
        if values.size == 0:
            return self
        low, high = ends(values)
        grown = self._reaching(max(-low, high))
        scale = values.dtype.type(1 / grown.width)
        bins = (values * scale).astype(np.intp) + grown.bins - (values < 0)
        return replace(
            grown,
            counts=grown.counts + np.bincount(bins, minlength=grown.counts.size),
            low=min(self.low, low),
            high=max(self.high, high),
            count=self.count + values.size,
            zeros=self.zeros + values.size - int(np.count_nonzero(values)),
        )

    def without_zeros(self) -> Self:
        """The histogram of the values that are not exactly zero, with the same ends."""
        counts = self.counts.copy()
        counts[self.bins] -= self.zeros
        return replace(self, counts=counts, count=self.count - self.zeros, zeros=0)

    def merge(self, other: "Histogram") -> Self:
        """The histogram of both's values; ``other`` has as many bins."""
        mine, its = self._reaching(other.largest), other._reaching(self.largest)
        return replace(
            mine,
            counts=mine.counts + its.counts,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            count=self.count + other.count,
            zeros=self.zeros + other.zeros,
        )

    def _reaching(self, magnitude: float) -> Self:
        """The same with bins wide enough for a magnitude."""
        steps_a_side = self.bins.bit_length() - 1
        exponent = math.frexp(magnitude)[1] - steps_a_side  # magnitude < 2^(that of frexp)
        if magnitude == 0 or exponent <= self.exponent:
            return self
        steps = min(exponent - self.exponent, steps_a_side)
        inner = self.counts.reshape(-1, 1 << steps).sum(axis=1)
        counts = np.pad(inner, (self.counts.size - inner.size) // 2)
        return replace(self, counts=counts, exponent=exponent)
