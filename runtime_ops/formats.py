"""How the values of a tensor are stored: one type for every recipe."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sardonyx.runtime_ops.packing import LAYOUTS

Kind = Literal["codebook", "uniform"]
Granularity = Literal["tensor", "channel", "group"]

OUTLIER_GAP_BYTES = 2
"""Bytes of an outlier's position in the file, unless outliers are very far apart (then 4)."""


@dataclass(frozen=True)
class Format:
    """A number format for a weight matrix.

    ``kind``: ``codebook`` (index into a table of 2^bits values) or ``uniform`` (scale, zero point).
    ``bits``: per weight, 2 to 8. ``granularity``: what shares one table or scale. ``groups``: of
    consecutive columns, where these do.
    """

    kind: Kind
    bits: int
    granularity: Granularity = "tensor"
    groups: int = 1

    def __str__(self) -> str:
        shared = f"{self.groups} groups" if self.granularity == "group" else self.granularity
        return f"{self.kind}{self.bits}/{shared}"

    def nbytes(self, rows: int, columns: int, outliers: int, dtype: np.dtype[np.generic]) -> int:
        """Bytes in the file of a [rows, columns] matrix whose real values have ``dtype``."""
        table = self.groups * (1 << self.bits) * dtype.itemsize
        each = OUTLIER_GAP_BYTES + dtype.itemsize
        return LAYOUTS[self.bits].nbytes(rows, columns) + table + outliers * each
