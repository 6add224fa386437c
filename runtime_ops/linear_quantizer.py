"""QuantizeLinear and DequantizeLinear: what they make of numbers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sardonyx.runtime_ops.coded import Floats


@dataclass(frozen=True, eq=False)
class LinearQuantizer:
    """``x ~ scale (code - zero_point)``, codes from ``low`` to ``high``.

    ``scale``: float32 or float16, positive and finite, of any shape: one number, one for each
    channel or for each block. ``zero_point``: int64, of that shape.
    """

    scale: Floats
    zero_point: NDArray[np.int64]
    low: int
    high: int

    def codes(self, value: float | np.floating) -> NDArray[np.int64]:
        """The code of one number by each scale: half to even, saturated. NaN has the lowest."""
        with np.errstate(over="ignore", invalid="ignore"):  # an infinite quotient saturates
            steps = np.rint(np.float32(value) / self.scale.astype(np.float32))
            codes = np.clip(steps.astype(np.float64) + self.zero_point, self.low, self.high)
        return np.where(np.isnan(codes), self.low, codes).astype(np.int64)

    def values(self, code: int) -> Floats:
        """What one code stands for by each scale."""
        steps = (code - self.zero_point).astype(np.float32)
        with np.errstate(over="ignore"):
            values: Floats = (steps * self.scale.astype(np.float32)).astype(self.scale.dtype)
        return values

    def equals(self, other: "LinearQuantizer") -> bool:
        """Whether codes mean the same numbers, by each scale."""
        return (
            (self.low, self.high, self.scale.dtype) == (other.low, other.high, other.scale.dtype)
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    @property
    def keeps_codes(self) -> bool:
        """Whether every code is that of the number it stands for.

        Of ``k = code - zero_point`` steps, ``k scale`` and its quotient by the scale are each
        rounded by at most a half unit in the last place, so that the quotient is within
        ``k 2^-23`` of k in float32, and within ``k 2^-11 (1 + 2^-12)`` in float16 (divided in
        float32): less than a half for 16 and for 8 bits. Products of tiny scales are exact or as
        close. Only those that overflow are lost.
        """
        if self.scale.dtype == np.float16 and self.high - self.low > 255:
            return False
        ends = (self.values(self.low), self.values(self.high))
        return all(bool(np.isfinite(end).all()) for end in ends)
