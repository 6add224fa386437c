"""The range of each channel, for passes that scale or group channels."""

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from sardonyx.passes.quantize.observers.statistic import (
    Floats,
    Statistic,
    floats,
    kept,
    same_width,
)


def _none() -> Floats:
    return np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class ChannelRange(Statistic):
    """The exact least and largest value of each channel of the last axis, in any split and order.

    ``low``, ``high``: float [channels], of no channels before the first sample; inf and -inf in a
    channel that had no value yet. A scalar tensor has one channel. `add` raises ValueError if the
    number of channels changes.
    """

    low: Floats = field(default_factory=_none)
    high: Floats = field(default_factory=_none)

    def add(self, values: Floats) -> Self:
        values = np.atleast_1d(floats(values))
        if values.size == 0:
            return self
        which, rows = kept(values), tuple(range(values.ndim - 1))
        low = values.min(axis=rows, initial=np.inf, where=which)
        high = values.max(axis=rows, initial=-np.inf, where=which)
        return self.merge(ChannelRange(low + 0.0, high + 0.0))  # no -0.0, which order decides

    def merge(self, other: "ChannelRange") -> Self:
        """The ranges of both's values."""
        if other.low.size == 0:
            return self
        if self.low.size == 0:
            return replace(self, low=other.low, high=other.high)
        same_width(other.low, self.low.size)
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return replace(self, low=low, high=high)
