"""Which channels of a tensor hold its outliers."""

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sardonyx.passes.quantize.observers.statistic import (
    Floats,
    Statistic,
    floats,
    kept,
    same_width,
)


def _none() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class OutlyingChannels(Statistic):
    """How many values of each channel of the last axis are outliers: farther from the mean of a
    sample's tensor than ``deviations`` of its standard deviations (Bondarenko et al., arXiv
    2109.12948, section 3: six). The same in any order of the samples.

    ``beyond``: int64 [channels], outliers; of no channels before the first sample. ``largest``: the
    largest distance from the mean, in standard deviations. A tensor of equal values has none. `add`
    raises ValueError if the number of channels changes.
    """

    deviations: float = 6.0
    beyond: NDArray[np.int64] = field(default_factory=_none)
    largest: float = 0.0

    def add(self, values: Floats) -> Self:
        values = np.atleast_1d(floats(values)).astype(np.float64)
        which = kept(values)
        within = values if which is True else values[which]
        if within.size == 0:
            return self
        deviation = within.std()
        distances = np.where(which, np.abs(values - within.mean()), 0.0)
        distances /= deviation or np.inf
        far = distances > self.deviations
        beyond = np.count_nonzero(far, axis=tuple(range(values.ndim - 1)))
        largest = max(self.largest, float(distances.max()))
        return self.merge(replace(self, beyond=np.asarray(beyond, np.int64), largest=largest))

    def merge(self, other: "OutlyingChannels") -> Self:
        """The outliers of both's samples."""
        if other.beyond.size == 0:
            return self
        largest = max(self.largest, other.largest)
        if self.beyond.size == 0:
            return replace(self, beyond=other.beyond, largest=largest)
        same_width(other.beyond, self.beyond.size)
        return replace(self, beyond=self.beyond + other.beyond, largest=largest)
