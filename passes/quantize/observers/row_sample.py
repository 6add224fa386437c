"""A few real rows of a tensor, to measure errors of products on."""

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


@dataclass(frozen=True, eq=False)
class RowSample(Statistic):
    """The rows of the last axis whose 64-bit hashes of content are smallest, ``rows`` of them: a
    uniform sample of the distinct rows, the same in any split and order (bottom-k sampling).

    ``values``: float [n, width] with n <= rows, in the order of ``hashes``, uint64 [n]. Rows that
    are equal, or share a hash (about one pair in 2^64), count once; rows that hold a mask fill do
    not count. `add` raises ValueError if the width changes.
    """

    rows: int
    values: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    def add(self, values: Floats) -> Self:
        values = np.atleast_1d(floats(values))
        if values.size == 0:
            return self
        values = values.reshape(-1, values.shape[-1])
        which = kept(values)
        values = values if which is True else values[which.all(axis=1)]
        hashes = _hashes(values)
        if self.hashes.size == self.rows:  # few rows of later samples get in
            small = hashes < self.hashes[-1]
            values, hashes = values[small], hashes[small]
        return self.merge(RowSample(self.rows, values, hashes))

    def merge(self, other: "RowSample") -> Self:
        """The sample of both's rows."""
        if other.hashes.size == 0:
            return self
        values, hashes = other.values, other.hashes
        if self.hashes.size:
            same_width(values, self.values.shape[1])
            values = np.concatenate([self.values, values])
            hashes = np.concatenate([self.hashes, hashes])
        hashes, first = np.unique(hashes, return_index=True)
        return replace(self, values=values[first[: self.rows]], hashes=hashes[: self.rows])


def _hashes(rows: Floats) -> NDArray[np.uint64]:
    """A sum of each row's bits by odd factors (multilinear hashing, Carter & Wegman), mixed."""
    bits = rows.view(np.uint32 if rows.dtype == np.float32 else np.uint64).astype(np.uint64)
    factors = _mixed(np.arange(1, rows.shape[1] + 1, dtype=np.uint64))
    return _mixed(bits @ (factors | np.uint64(1)) + factors[0])


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele et al. 2014): a bijection that flips half of the bits."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
