"""How much attention goes to the first and to the last position."""

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sardonyx.passes.quantize.observers.statistic import Floats, Statistic, floats

_ONE = 2**40
"""A share of 1, as it is added up: sums of integers are the same in any order."""


def _none() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class AttentionEnds(Statistic):
    """The shares of attention that the first and the last key get, of probabilities [batch, heads,
    queries, keys], or without the axes in front; BERT's tokenizers put [CLS] and [SEP] there. Means
    over queries, then over sequences, the same in any order of these.

    Keys that no query attends to are behind the last; where there are as many queries as keys,
    those at such positions do not count. ``first``, ``last``: int64 [heads], sums of shares in
    2^-40; ``sequences``: how many. `add` raises ValueError if the number of heads changes, or for
    values that are no such probabilities.
    """

    first: NDArray[np.int64] = field(default_factory=_none)
    last: NDArray[np.int64] = field(default_factory=_none)
    sequences: int = 0

    def add(self, values: Floats) -> Self:
        values = floats(values)
        if values.ndim < 2:
            raise ValueError(f"has {values.ndim} axes, not queries and keys")
        if np.isnan(values).any():
            raise ValueError("holds NaN")
        state = self
        batch = values.shape[0] if values.ndim > 3 else 1
        for one in values.reshape(batch, -1, *values.shape[-2:]) if values.size else ():
            state = state._with(one.astype(np.float64))
        return state

    def _with(self, one: Floats) -> Self:
        """With one sequence's probabilities [heads, queries, keys]."""
        used = np.flatnonzero(one.any(axis=(0, 1)))
        if used.size == 0:
            return self
        queries = used[-1] + 1 if one.shape[1] == one.shape[2] else one.shape[1]
        ends = one[:, :queries, [0, used[-1]]].mean(axis=1)
        first, last = (ends * _ONE).astype(np.int64).T
        if self.sequences and first.size != self.first.size:
            raise ValueError(f"has {first.size} heads after {self.first.size}")
        if self.sequences:
            first, last = first + self.first, last + self.last
        return replace(self, first=first, last=last, sequences=self.sequences + 1)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Of the first key and of the last: float64 [2, heads]."""
        return np.stack([self.first, self.last]) / (_ONE * max(self.sequences, 1))
