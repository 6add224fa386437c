"""What rounding costs where it counts: the error of products of an activation, on real rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sardonyx.runtime_ops.coded import Floats
from sardonyx.runtime_ops.uniform import Grid, encode


@dataclass(frozen=True, eq=False)
class ProductSample:
    """The products of one activation on some of its rows.

    ``rows``: float32 [n, K]; ``weights``: the matrices, float32 [K, N], each of its own N;
    ``outputs``: float32 [n, sum of N], what the products make of the rows.
    """

    rows: Floats
    weights: tuple[Floats, ...]
    outputs: Floats

    @classmethod
    def of(cls, rows: Floats, weights: Iterable[Floats]) -> ProductSample:
        """The sample of these rows and matrices, of any float type."""
        rows = rows.astype(np.float32, copy=False)
        matrices = tuple(weight.astype(np.float32, copy=False) for weight in weights)
        return cls(rows, matrices, _multiplied(rows, matrices))

    def sqnr_db(
        self, grid: Grid | None, weight_bits: int | None, scale: Floats | None = None
    ) -> float:
        """Signal to noise of the outputs with the rows rounded to a grid and the weights to
        symmetric codes of some bits a column; None leaves either as it is. dB, inf: no error.

        The mean over rows of each row's noise over its signal: a few tokens of huge activations,
        which a grid serves well, would otherwise hide that all others are lost.

        ``scale`` [K]: the rows are divided and the matrices multiplied by it before they are
        rounded; the grid is that of the divided rows.
        """
        rows = self.rows if scale is None else self.rows / scale
        rows = rows if grid is None else grid.rounded(rows)
        kept = [_rounded(weight, weight_bits, scale) for weight in self.weights]
        return row_sqnr_db(self.outputs, _multiplied(rows, kept))

    def given_db(self, rows: Floats) -> float:
        """Signal to noise of the outputs with other rows in place of these, as `sqnr_db`."""
        return row_sqnr_db(self.outputs, _multiplied(rows, self.weights))


def _rounded(weight: Floats, bits: int | None, scale: Floats | None) -> Floats:
    scaled = weight if scale is None else weight * scale[:, None]
    return scaled if bits is None else encode(scaled, bits)[0].decode()


def row_sqnr_db(wanted: Floats, given: Floats) -> float:
    """The mean over rows of each row's noise over its signal, in dB; inf: no error."""
    signal = np.square(wanted, dtype=np.float64).sum(axis=1)
    noise = np.square(wanted - given, dtype=np.float64).sum(axis=1)
    share = float(np.mean(noise[signal > 0] / signal[signal > 0])) if signal.any() else 0.0
    return -10.0 * math.log10(share) if share else math.inf


def _multiplied(rows: Floats, matrices: Iterable[Floats]) -> Floats:
    return np.concatenate([rows @ matrix for matrix in matrices], axis=1)
