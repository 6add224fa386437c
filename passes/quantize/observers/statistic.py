"""What calibration folds the values of a tensor into, a sample at a time."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]

FILL = 2.0**100
"""Magnitudes from here on are mask fills (-inf, -3.4e38) or sums with one, not values."""


@dataclass(frozen=True, eq=False)
class Statistic(ABC):
    """An immutable fold: `add` returns the next state. Its fields are all its state, and their
    number does not grow with the samples."""

    @abstractmethod
    def add(self, values: Floats) -> Self:
        """The state after one more sample: a float tensor of any shape, the tensor's own.

        float16 and bfloat16 are taken as float32. Mask fills do not count. ValueError for a NaN.
        """

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state as arrays by name, as an .npz holds them."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    def restored(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The state that `arrays` gave."""
        state = {field.name: arrays[field.name] for field in fields(self)}
        return replace(self, **{n: a if a.ndim else a.item() for n, a in state.items()})


def floats(values: Floats) -> Floats:
    """The values as float32 or float64; float16, bfloat16 and the like become float32."""
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)


def kept(values: Floats) -> NDArray[np.bool_] | Literal[True]:
    """Which values are no mask fills; True if none is one. ValueError for a NaN."""
    if values.size == 0:
        return True
    low, high = values.min(), values.max()
    if np.isnan(low):
        raise ValueError("holds NaN")
    return True if low > -FILL and high < FILL else np.abs(values) < FILL


def ends(values: Floats) -> tuple[float, float]:
    """The least and the largest value; a zero is 0.0, so that -0.0 depends on no order."""
    return float(values.min()) + 0.0, float(values.max()) + 0.0


def same_width(values: NDArray[Any], width: int) -> None:
    """ValueError unless the last axis is as long as in the samples before."""
    if values.shape[-1] != width:
        raise ValueError(f"has a last axis of {values.shape[-1]} after one of {width}")
