"""From a histogram to a range, by any method."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.observers.kl import (
    kl_conjugate,
    kl_independent,
    kl_symmetric,
)
from sardonyx.passes.quantize.observers.min_max import min_max
from sardonyx.passes.quantize.observers.mse import golden, grid, mse
from sardonyx.passes.quantize.observers.percentile import percentile
from sardonyx.passes.quantize.observers.ranges import Range

Method = Literal["min-max", "percentile", "mse", "kl"]
Mode = Literal["naive", "symmetric", "independent", "conjugate"]
Solver = Literal["grid", "golden"]


@dataclass(frozen=True)
class Settings:
    """How a range is found.

    ``bits``: of the grid ("mse", "kl"). ``symmetric``: the range is [-T, T]; for "kl"
    the mode says it, but for "naive". ``mode``: of "kl". ``percentile``: in percent, the
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
    if histogram.largest == 0:
        return Range(0.0, 0.0, settings.method, 0.0)
    return _METHODS[settings.method](histogram, settings)


def _kl(histogram: Histogram, settings: Settings) -> Range:
    if settings.mode == "naive":
        return replace(min_max(histogram, settings.symmetric), method="kl-naive")
    return _KL[settings.mode](histogram, settings.bits)


_KL = {"symmetric": kl_symmetric, "independent": kl_independent, "conjugate": kl_conjugate}

_SOLVERS = {"grid": grid, "golden": golden}

_METHODS: dict[Method, Callable[[Histogram, Settings], Range]] = {
    "min-max": lambda h, s: min_max(h, s.symmetric),
    "percentile": lambda h, s: percentile(h, s.percentile, s.symmetric),
    "mse": lambda h, s: mse(h, s.bits, s.symmetric, _SOLVERS[s.solver]),
    "kl": _kl,
}
