"""What rounding costs where it counts: the error of products of an activation, on real rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sardonyx.runtime_ops.coded import Floats
from sardonyx.runtime_ops.uniform import Grid, encode, sqnr_db


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
        """Signal to noise of all outputs together with the rows rounded to a grid and the weights
        to symmetric codes of some bits a column; None leaves either as it is. dB, inf: no error.

        ``scale`` [K]: the rows are divided and the matrices multiplied by it before they are
        rounded; the grid is that of the divided rows.
        """
        rows = self.rows if scale is None else self.rows / scale
        rows = rows if grid is None else grid.rounded(rows)
        kept = [_rounded(weight, weight_bits, scale) for weight in self.weights]
        return sqnr_db(self.outputs, _multiplied(rows, kept))


def _rounded(weight: Floats, bits: int | None, scale: Floats | None) -> Floats:
    scaled = weight if scale is None else weight * scale[:, None]
    return scaled if bits is None else encode(scaled, bits)[0].decode()


def _multiplied(rows: Floats, matrices: Iterable[Floats]) -> Floats:
    return np.concatenate([rows @ matrix for matrix in matrices], axis=1)
