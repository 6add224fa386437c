"""The range whose grid has the least expected squared error."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.observers.ranges import Range

Tries: TypeAlias = list[tuple[float, float]]
"""Pairs of a share of the full range, in (0, 1], and the loss with it."""

Solved: TypeAlias = tuple[float, Tries]
"""The best share, and all that were tried."""

Solver: TypeAlias = Callable[[Callable[[float], float]], Solved]

GRID = 100
"""Points of the grid (Bondarenko et al., arXiv 2109.12948)."""

_PRECISION = 1e-3

_GOLDEN = (5**0.5 - 1) / 2


def mse(histogram: Histogram, bits: int, symmetric: bool, solver: Solver) -> Range:
    """The range [l low, h high] with the least `squared_error`, with l and h in (0, 1].

    Symmetric: the grid of -M to M, M = 2^(bits - 1) - 1, and one share of the largest magnitude.
    Affine: 2^bits levels; first one share for both ends, then the best for the upper end alone,
    then for the lower. Of equal losses the widest range. There are values but zero.
    """
    if symmetric:
        return _symmetric(histogram, bits, solver)
    loss = squared_error(histogram, 2**bits)
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    best, tries = solver(lambda share: loss(share * low, share * high))
    curve = _points(tries, high or low)
    if low and high:
        left = best * low
        best, tries = solver(lambda share: loss(left, share * high))
        right, curve = best * high, _points(tries, high)
        best, tries = solver(lambda share: loss(share * low, right))
        low, high, curve = best * low, right, _points(tries, low) + curve
    else:
        low, high = best * low, best * high
    return Range(low, high, "mse-affine", loss(low, high), curve)


def _symmetric(histogram: Histogram, bits: int, solver: Solver) -> Range:
    loss, largest = squared_error(histogram, 2**bits - 1), histogram.largest
    best, tries = solver(lambda share: loss(-share * largest, share * largest))
    high = best * largest
    return Range(-high, high, "mse-symmetric", loss(-high, high), _points(tries, largest))


def squared_error(histogram: Histogram, levels: int) -> Callable[[float, float], float]:
    """The expected squared error of rounding to ``levels`` equal steps from low to high, shifted so
    that zero is one of them (scale (high - low) / (levels - 1), zero point rounded), as a function
    of low <= 0 <= high, one of them not 0.

    Values lie at the centres of their bins, exact zeros at 0. With prefix sums of the counts, of
    count x centre and of count x centre squared (whole numbers in half bins, so exact), the error
    in each step is that of its first and last bin.
    """
    bins, width = histogram.bins, histogram.width
    counts = histogram.without_zeros().counts
    centres = 2 * np.arange(-bins, bins) + 1
    moments = [np.append(0, np.cumsum(counts * centres**power)) for power in range(3)]
    steps = np.arange(levels)

    def loss(low: float, high: float) -> float:
        scale = (high - low) / (levels - 1)
        points = (steps - int(0.5 - low / scale)) * (scale / width)
        first = np.clip(points[1:] - scale / width / 2 + bins + 0.5, 0, 2 * bins).astype(np.intp)
        edges = np.concatenate([[0], first, [2 * bins]])
        zeroth, one, two = (np.diff(moment[edges]) for moment in moments)
        error = (two / 4 - points * one + points**2 * zeroth).sum()
        return max(float(error), 0.0) * width**2 / histogram.count

    return loss


def grid(loss: Callable[[float], float]) -> Solved:
    """The best of 100 equal shares, the full range among them."""
    return _best([(i / GRID, loss(i / GRID)) for i in range(1, GRID + 1)])


def golden(loss: Callable[[float], float]) -> Solved:
    """Golden-section search in (0, 1] until the share is known to 1/1000; the full range is tried
    as well. It takes the loss to fall and then to rise."""
    left, right = 0.0, 1.0
    tries = [(share, loss(share)) for share in (1 - _GOLDEN, _GOLDEN)]
    inner, outer = tries
    while right - left > _PRECISION:
        if inner[1] < outer[1]:
            right, outer = outer[0], inner
            share = right - _GOLDEN * (right - left)
            inner = share, loss(share)
            tries.append(inner)
        else:
            left, inner = inner[0], outer
            share = left + _GOLDEN * (right - left)
            outer = share, loss(share)
            tries.append(outer)
    return _best([*tries, (1.0, loss(1.0))])


def _best(tries: Tries) -> Solved:
    """The share of least loss, the largest of equals."""
    return min(tries, key=lambda tried: (tried[1], -tried[0]))[0], tries


def _points(tries: Tries, end: float) -> tuple[tuple[float, float], ...]:
    return tuple(sorted((share * end, loss) for share, loss in tries))
