"""Which weights of a matrix its one scale reaches."""

import math
from typing import Literal

from sardonyx.passes.quantize.observers.find import Settings, find_range
from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.runtime_ops.coded import Floats

WeightRange = Literal["max", "mse"]
"""All, or those up to a magnitude that leaves the least squared error (Bondarenko et al., arXiv
2109.12948, section 4), the best of 100 shares of the largest."""


def reach(weights: Floats, bits: int, by: WeightRange) -> float:
    """The magnitude of the last code; inf: that of the largest weight, also where it is NaN or
    infinite."""
    if by == "max":
        return math.inf
    try:
        histogram = Histogram().add(weights)
    except ValueError:  # the codec says what is wrong
        return math.inf
    return find_range(histogram, Settings("mse", symmetric=True, bits=bits)).high or math.inf
