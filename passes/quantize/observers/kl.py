"""Ranges by KL divergence: the threshold at which the clipped and quantized distribution tells
least from the whole one."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.observers.ranges import Range

Counts: TypeAlias = NDArray[np.int64]
Curve: TypeAlias = tuple[tuple[float, float], ...]

_FINENESS = 256
"""Thresholds tried are about one part in so many of themselves apart."""

_POINTS = 255
"""Of a curve, beside the threshold chosen."""

_ROUNDING = 1e-12
"""Divergences this near are equal: sums of float64 of the order of 1, rounded."""


def kl_symmetric(histogram: Histogram, bits: int) -> Range:
    """[-T, T] with one threshold T on the magnitudes."""
    dense = histogram.without_zeros()
    high, loss, curve = _threshold(dense.positive + dense.negative, dense.width, bits)
    high = min(high, histogram.largest)
    return Range(-high, high, "kl-symmetric", loss, curve)


def kl_independent(histogram: Histogram, bits: int) -> Range:
    """[Tmin, Tmax], each found on the values of its own side; their losses add up."""
    dense = histogram.without_zeros()
    high, above, right = _threshold(dense.positive, dense.width, bits)
    low, below, left = _threshold(dense.negative, dense.width, bits)
    mirrored = tuple((-threshold, loss) for threshold, loss in reversed(left))
    low, high = max(-low, min(histogram.low, 0.0)), min(high, max(histogram.high, 0.0))
    return Range(low, high, "kl-independent", above + below, mirrored + right)


def kl_conjugate(histogram: Histogram, bits: int) -> Range:
    """[-T, T] with the larger magnitude T of the thresholds found independently."""
    found = kl_independent(histogram, bits)
    high = max(-found.low, found.high)
    return Range(-high, high, "kl-conjugate", found.loss, found.curve)


def divergences(counts: Counts, levels: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """KL(P || Q) in nats for each number i of bins kept: int64 [candidates], float64 [candidates].

    ``counts``: of equal bins from zero outwards, the last not empty. With a_j the counts:

    - P_i: a_0 ... a_{i-1}, and all that lies beyond added to the last.
    - Q_i: a_0 ... a_{i-1} without that, collapsed to ``levels`` levels (level l holds the bins from
      floor(l i / levels) on), the mass of each spread evenly over those of its bins that P_i fills.

    Both are then normalized (Bhandare et al., arXiv 1906.00532, section 4.2; the form is that of
    Migacz, GTC 2017). No i is below ``levels`` but that of all bins: P and Q would be alike in all
    but the last bin, and of one bin always. Where Q is 0 but P is not, the divergence is infinite;
    only the last level can be so, and such an i is no candidate either.

    With prefix sums of a, a log a and [a > 0] each i costs O(levels): as Q is even in a level,
    sum P log Q needs only the level's mass in P.
    """
    mass, filled = _prefix(counts), _prefix(counts > 0)
    own = _prefix(_x_log_x(counts))
    kept = np.fromiter(_candidates(levels, counts.size), np.int64)[::-1]
    kept = kept[(mass[kept] > mass[kept * (levels - 1) // levels]) | (kept == counts.size)]
    edges = kept[:, None] * np.arange(levels + 1) // levels
    beyond, last = mass[-1] - mass[kept], counts[kept - 1]
    q, bins = np.diff(mass[edges]), np.diff(filled[edges])
    bins[:, -1] += last == 0
    log_q = np.log(np.maximum(q, 1) / np.maximum(bins, 1))
    cross = (q * log_q).sum(axis=1) + beyond * log_q[:, -1]
    of_p = own[kept - 1] + _x_log_x(last + beyond)
    return kept, np.maximum((of_p - cross) / mass[-1] + np.log(mass[kept] / mass[-1]), 0.0)


def _threshold(counts: Counts, width: float, bits: int) -> tuple[float, float, Curve]:
    """The threshold of least divergence (the largest of equals), its divergence, and the curve.

    Of 2^(bits - 1) levels, and of counts without exact zeros: every grid holds zero, and their
    number would outweigh the shape of the rest.
    """
    used = np.flatnonzero(counts)
    if used.size == 0:
        return 0.0, 0.0, ()
    kept, losses = divergences(counts[: used[-1] + 1], 2 ** (bits - 1))
    best = int(np.flatnonzero(losses <= losses.min() + _ROUNDING)[-1])
    shown = {*range(0, kept.size, -(-kept.size // _POINTS)), best}
    curve = tuple((float(kept[i]) * width, float(losses[i])) for i in sorted(shown))
    return float(kept[best]) * width, float(losses[best]), curve


def _candidates(fewest: int, most: int) -> Iterator[int]:
    """Numbers of bins from ``most`` down to ``fewest``, denser where they are small."""
    yield most
    while most > fewest:
        most = max(fewest, most - max(1, most // _FINENESS))
        yield most


def _prefix(values: NDArray[Any]) -> NDArray[Any]:
    """[0, v0, v0 + v1, ...]."""
    return np.concatenate([[0], np.cumsum(values)])


def _x_log_x(counts: Counts) -> NDArray[np.float64]:
    return np.log(np.maximum(counts, 1)) * counts
