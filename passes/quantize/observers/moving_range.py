"""Moving averages of a tensor's range."""

import math
from dataclasses import dataclass, replace
from typing import Self

from sardonyx.passes.quantize.observers.ranges import Range
from sardonyx.passes.quantize.observers.statistic import Floats, Statistic, ends, floats, kept


@dataclass(frozen=True, eq=False)
class MovingRange(Statistic):
    """Exponential moving averages over samples in their order: a <- decay a + (1 - decay) x, the
    first value assigned.

    Of the least and the largest value (``low``, ``high``: Bondarenko's running min-max, arXiv
    2109.12948, decay 0.9) and of the largest magnitude (``largest``: Q8BERT, arXiv 1910.06188,
    decay 0.9999). All are NaN before the first sample. A sample of mask fills only is passed over.
    ``decay`` is in [0, 1].
    """

    decay: float
    low: float = math.nan
    high: float = math.nan
    largest: float = math.nan

    def add(self, values: Floats) -> Self:
        values = floats(values)
        which = kept(values)
        values = values if which is True else values[which]
        if values.size == 0:
            return self
        low, high = ends(values)
        return replace(
            self,
            low=self._moved(self.low, low),
            high=self._moved(self.high, high),
            largest=self._moved(self.largest, max(-low, high)),
        )

    def range(self, symmetric: bool) -> Range:
        """The averages as a range that holds 0; if ``symmetric``, of the largest magnitude."""
        if math.isnan(self.largest):
            return Range(0.0, 0.0, "ema", 0.0)
        if symmetric:
            return Range(-self.largest, self.largest, "ema", 0.0)
        return Range(min(self.low, 0.0), max(self.high, 0.0), "ema", 0.0)

    def _moved(self, average: float, value: float) -> float:
        if math.isnan(average):
            return value
        return self.decay * average + (1 - self.decay) * value
