"""A few real rows of a tensor beside what the range of each run makes of them."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from sardonyx.passes.quantize.observers.row_sample import RowSample
from sardonyx.passes.quantize.observers.statistic import Floats, ends, floats, kept
from sardonyx.runtime_ops.uniform import grid


@dataclass(frozen=True, eq=False)
class RoundedRows(RowSample):
    """Rows as `RowSample` takes them, each followed by itself on the grid of 8 bits that all values
    of its sample ask for, as DynamicQuantizeLinear finds it: float [n, 2 width].

    ``symmetric``, ``signed``: of these grids (`uniform.grid`).
    """

    symmetric: bool = False
    signed: bool = False

    def add(self, values: Floats) -> Self:
        values = np.atleast_1d(floats(values))
        which = kept(values)
        within = values if which is True else values[which]
        if within.size == 0:
            return self
        low, high = ends(within)
        made = grid(min(low, 0.0), max(high, 0.0), self.symmetric, self.signed)
        rounded = np.where(which, made.rounded(values), values)
        return super().add(np.concatenate([values, rounded.astype(values.dtype)], axis=-1))

    @property
    def plain(self) -> Floats:
        """The rows."""
        return np.split(self.values, 2, axis=1)[0]

    @property
    def rounded(self) -> Floats:
        """The same on their grids."""
        return np.split(self.values, 2, axis=1)[1]
