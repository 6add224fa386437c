"""The scales of SmoothQuant: how much of an activation's range its weights take over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from sardonyx.passes.quantize.observers.channel_range import ChannelRange
from sardonyx.passes.quantize.product_error import ProductSample
from sardonyx.runtime_ops.coded import Floats
from sardonyx.runtime_ops.uniform import Grid, grid

Scale = NDArray[np.float32]
"""One factor above 0 for each channel, of geometric mean 1."""

_LEAST = 1e-5
"""Of the largest: magnitudes count as this at least, so that a channel that calibration saw next to
nothing of is not blown up."""


_COLUMNS = 256
"""Of each weight, evenly spread, that alphas are tried on: the best hardly differs, and takes a
fraction of the time."""


@dataclass(frozen=True)
class Measured:
    """The products of an activation as calibration saw them.

    ``low``, ``high``: of each channel [K], 0 among them. ``weights``: the largest magnitude in each
    row of all weights [K]. ``sample``: real rows. ``bits``: of the weights.
    """

    low: Floats
    high: Floats
    weights: Floats
    sample: ProductSample
    bits: int

    @classmethod
    def of(cls, seen: ChannelRange, rows: Floats, weights: list[Floats], bits: int) -> Measured:
        """From what was folded, with the weights [K, N]."""
        low, high = np.minimum(seen.low, 0.0), np.maximum(seen.high, 0.0)
        magnitudes = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
        return cls(low, high, magnitudes, ProductSample.of(rows, weights), bits)

    def scale(self, alpha: float) -> Scale:
        """``max|x_j|^alpha / max|W_j|^(1 - alpha)`` (Xiao et al. 2022, eq. 4) over its geometric
        mean; 1 for a channel of zeros."""
        x, w = np.maximum(-self.low, self.high).astype(np.float64), self.weights.astype(np.float64)
        used = (x > 0) & (w > 0)
        logs = np.zeros(x.shape)
        if used.any():
            split = alpha * _log(x[used]) - (1 - alpha) * _log(w[used])
            logs[used] = split - split.mean()
        return np.exp(logs).astype(np.float32)

    def sqnr_db(self, scale: Scale | None = None) -> float:
        """Of the products, with 8-bit activations over the whole range; to 0.01 dB, so that the
        order of sums decides nothing."""
        return float(f"{self.sample.sqnr_db(self._grid(scale), self.bits, scale):.2f}")

    def best_alpha(self, alphas: Sequence[float]) -> float:
        """The alpha of the largest SQNR of some columns; the smallest of them on a tie."""
        if len(alphas) == 1:
            return alphas[0]
        some = [weight[:, :: -(-weight.shape[1] // _COLUMNS)] for weight in self.sample.weights]
        part = replace(self, sample=ProductSample.of(self.sample.rows, some))
        return max(sorted(alphas), key=lambda alpha: part.sqnr_db(self.scale(alpha)))

    def misfit(self, scale: Scale, dtype: DTypeLike) -> str:
        """Why a type cannot hold what a scale makes of the weights; empty if it can."""
        made = self.weights * scale, scale, 1 / scale
        largest = max(float(values.max()) for values in made)
        most = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
        return f"{largest:.3g} is beyond {np.dtype(dtype)}" if largest > most else ""

    def _grid(self, scale: Scale | None) -> Grid:
        by = np.float32(1) if scale is None else scale
        return grid(float((self.low / by).min()), float((self.high / by).max()))


def _log(magnitudes: Floats) -> Floats:
    logs: Floats = np.log(np.maximum(magnitudes, _LEAST * magnitudes.max()))
    return logs
