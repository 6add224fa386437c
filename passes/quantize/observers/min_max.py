"""The range of all values."""

from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.observers.ranges import Range


def min_max(histogram: Histogram, symmetric: bool) -> Range:
    """From the least to the largest value, and 0; if ``symmetric``, of the largest magnitude."""
    largest = histogram.largest
    if symmetric:
        return Range(-largest, largest, "min-max", 0.0)
    return Range(min(histogram.low, 0.0), max(histogram.high, 0.0), "min-max", 0.0)
