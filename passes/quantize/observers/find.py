"""From a histogram to a range, by any method."""

from dataclasses import dataclass
from typing import Literal

from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.observers.ranges import Range

Method = Literal["min-max", "percentile", "mse", "kl"]
Mode = Literal["naive", "symmetric", "independent", "conjugate"]
Solver = Literal["grid", "golden"]


@dataclass(frozen=True)
class Settings:
    """How a range is found.

    ``bits``: of the grid ("mse", "kl"). ``symmetric``: the range is [-T, T] (for "kl" the mode
    says it: "symmetric" and "conjugate" are). ``mode``: of "kl". ``percentile``: in percent, the
    share of values kept by "percentile". ``solver``: of "mse".
    """

    method: Method = "kl"
    mode: Mode = "symmetric"
    bits: int = 8
    symmetric: bool = True
    percentile: float = 99.99
    solver: Solver = "grid"


def find_range(histogram: Histogram, settings: Settings) -> Range:
    """The range of a tensor's values; [0, 0] if it had none."""
    raise NotImplementedError
