"""A range that leaves a share of the values out."""

import numpy as np
from numpy.typing import NDArray

from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.observers.ranges import Range


def percentile(histogram: Histogram, percent: float, symmetric: bool) -> Range:
    """The least range, in whole bins, that keeps ``percent`` percent of the values.

    Half of the rest may be clipped at each end; if ``symmetric``, all of it by magnitude. Bin edges
    beyond the exact ends are drawn in to them.
    """
    spare = histogram.count * (100 - percent) / 100
    if symmetric:
        bins, clipped = _bins(histogram.positive + histogram.negative, spare)
        high = min(bins * histogram.width, histogram.largest)
        low = -high
    else:
        bins, above = _bins(histogram.positive, spare / 2)
        high = min(bins * histogram.width, max(histogram.high, 0.0))
        bins, below = _bins(histogram.negative, spare / 2)
        low = max(-bins * histogram.width, min(histogram.low, 0.0))
        clipped = above + below
    return Range(low, high, "percentile", clipped / max(histogram.count, 1))


def _bins(counts: NDArray[np.int64], spare: float) -> tuple[int, int]:
    """The fewest bins from zero outwards that leave at most ``spare`` values out, and how many
    these are."""
    beyond = counts.sum() - np.concatenate([[0], np.cumsum(counts)])
    bins = int(np.count_nonzero(beyond > spare))
    return bins, int(beyond[bins])
