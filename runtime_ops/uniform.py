"""Uniform integers: a weight matrix as INT8 codes and scales, and the grid of an activation."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sardonyx.runtime_ops.binned_sums import energy
from sardonyx.runtime_ops.coded import Floats
from sardonyx.runtime_ops.formats import Format

Per = Literal["tensor", "channel"]
"""What of a matrix [K, N] shares a scale: all of it, or a column."""

_LEAST_SCALE = np.float32(2.0**-126)


@dataclass(frozen=True)
class UniformTensor:
    """A weight matrix W [K, N] as ``scale * (codes - zero_point)``.

    ``codes``: [K, N], int8, or uint8 with zero point 128. ``scale``: float32, of shape [] (per
    tensor) or [N] (per channel). ``bits``: codes lie within
    ``zero_point`` +- (2^(bits - 1) - 1). ``dtype``: of W. ``clips``: weights beyond the last codes
    have those.
    """

    codes: NDArray[np.int8] | NDArray[np.uint8]
    scale: NDArray[np.float32]
    bits: int
    dtype: np.dtype[np.floating]
    clips: bool = False

    @property
    def zero_point(self) -> int:
        return 128 if self.codes.dtype == np.uint8 else 0

    @property
    def format(self) -> Format:
        return Format("uniform", self.bits, "channel" if self.scale.ndim else "tensor")

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return self.codes.nbytes + self.scale.nbytes

    @property
    def groups(self) -> int:
        """Scales in the tensor."""
        return int(self.scale.size)

    @property
    def outliers(self) -> int:
        """None is kept in floating point."""
        return 0

    def decode(self) -> Floats:
        """W as products see it: [K, N]."""
        values = self.codes.astype(np.float32)
        values -= np.float32(self.zero_point)
        values *= self.scale
        return values.astype(self.dtype, copy=False)

    def contradiction(self, weights: Floats) -> str:
        """What is wrong with this as the encoding of W [K, N]; empty where nothing is: every weight
        must decode to within half a step, and a bit of float32's own rounding, or lie beyond the
        last code where this ``clips``."""
        if weights.shape != self.codes.shape:
            return f"has shape {weights.shape}, its encoding {self.codes.shape}"
        steps = self.codes.astype(np.float64) - self.zero_point
        if np.abs(steps).max(initial=0) > largest(self.bits):
            return f"has a code outside {self.bits} bits"
        real = weights.astype(np.float64)
        if self.clips:
            reach = np.float64(largest(self.bits)) * self.scale
            real = np.clip(real, -reach, reach)
        error = np.abs(real - steps * self.scale)
        if not np.all(error <= self.scale * (0.5 + 1e-4)):  # a scale that is NaN fails too
            return "has a weight that does not decode to within half a step"
        return ""


@dataclass(frozen=True)
class Grid:
    """The integers of an activation: ``x ~ scale (q - zero_point)``, q of 8 or 16 ``bits``."""

    scale: np.float32
    zero_point: int
    signed: bool
    bits: int = 8

    @property
    def dtype(self) -> np.dtype[np.integer]:
        """Of q."""
        return np.dtype(f"{'int' if self.signed else 'uint'}{self.bits}")

    @property
    def ends(self) -> tuple[int, int]:
        """The least and the largest q."""
        return _ends(self.signed, self.bits)

    def rounded(self, values: Floats) -> Floats:
        """Values as DequantizeLinear(QuantizeLinear(x)) makes them: half to even, saturated."""
        with np.errstate(over="ignore"):  # an infinite quotient saturates too
            codes = np.rint(values / self.scale) + np.float32(self.zero_point)
        steps: Floats = np.clip(codes, *self.ends) - np.float32(self.zero_point)
        return steps * self.scale


def largest(bits: int) -> int:
    """The largest magnitude of symmetric codes of ``bits`` bits."""
    return (1 << (bits - 1)) - 1


def encode(
    weights: Floats,
    bits: int = 8,
    per: Per = "channel",
    unsigned: bool = False,
    reach: float = math.inf,
) -> tuple[UniformTensor, float]:
    """Symmetric codes of a matrix W [K, N], float16, bfloat16, float32 or float64, half to even.

    The last code is that of the largest magnitude, or of ``reach``, if that is less: weights beyond
    it are clipped. The scale of weights that are all 0 is 1. Also returns the SQNR, dB (inf:
    nothing lost). Raises ValueError where W holds NaN or an infinity.
    """
    with np.errstate(over="ignore"):  # float64 beyond float32 is infinite
        real = weights.astype(np.float32, copy=False)
    magnitude = np.abs(real).max(axis=0 if per == "channel" else None, initial=0)
    if not np.all(np.isfinite(magnitude)):
        raise ValueError("holds NaN or infinite values")
    most = np.float32(largest(bits))
    clips = bool(np.any(magnitude > reach))
    magnitude = np.minimum(magnitude, np.float32(reach))
    fitting = np.maximum(magnitude / most, _LEAST_SCALE)
    scale = np.where(magnitude > 0, fitting, np.float32(1)).astype(np.float32)
    steps = np.clip(np.rint(real / scale), -most, most)
    codes = (steps + 128).astype(np.uint8) if unsigned else steps.astype(np.int8)
    tensor = UniformTensor(codes, scale, bits, weights.dtype, clips)
    return tensor, sqnr_db(real, steps * scale)


def grid(
    low: float, high: float, symmetric: bool = False, signed: bool = False, bits: int = 8
) -> Grid:
    """The grid of some bits over a range that holds 0, which is one of its values.

    Affine: 2^bits - 1 steps from ``low`` to ``high``. ``symmetric``: 2^(bits - 1) - 1 steps up to
    the larger magnitude (2^bits - 1 up, unsigned, where nothing is negative). A range of 0 has
    scale 1.
    """
    least, most = _ends(signed, bits)
    magnitude = max(-low, high)
    if magnitude == 0:
        return Grid(np.float32(1), 0, signed, bits)
    if symmetric:
        middle = 0 if signed else 1 << (bits - 1)
        positive = not signed and low >= 0
        scale = np.float32(magnitude / (most if positive else largest(bits)))
        return Grid(max(scale, _LEAST_SCALE), 0 if positive else middle, signed, bits)
    scale = max(np.float32((high - low) / (most - least)), _LEAST_SCALE)
    zero_point = int(np.clip(np.rint(least - low / scale), least, most))
    return Grid(scale, zero_point, signed, bits)


def _ends(signed: bool, bits: int) -> tuple[int, int]:
    """The least and the largest integer of some bits."""
    half = 1 << (bits - 1)
    return (-half, half - 1) if signed else (0, 2 * half - 1)


def integer_bias(bias: Floats, scale: Floats) -> NDArray[np.int32] | None:
    """A bias [N] as INT32 codes of a scale [N], half to even; None where one does not fit."""
    with np.errstate(divide="ignore", invalid="ignore"):  # a product of scales that is 0
        codes = np.rint(bias.astype(np.float64) / scale)
    fits = np.all(np.abs(codes) <= np.iinfo(np.int32).max)
    return codes.astype(np.int32) if fits else None


def sqnr_db(real: Floats, decoded: Floats) -> float:
    """10 log10 of the energy of values over that of their error; inf where nothing was lost."""
    signal, noise = energy(real.reshape(-1)), energy((real - decoded).reshape(-1))
    return 10.0 * math.log10(signal / noise) if noise and signal else math.inf
