"""The GOBO codec: a weight matrix as packed indices, centroids and outliers, and back."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sardonyx.runtime_ops.binned_sums import chunks, energy, midpoints
from sardonyx.runtime_ops.codebook import Solver, fit
from sardonyx.runtime_ops.formats import Format
from sardonyx.runtime_ops.outliers import Band, Rule, band
from sardonyx.runtime_ops.packing import LAYOUTS, pack, unpack

_CHUNK = 1 << 16

Floating = NDArray[np.floating]


@dataclass(frozen=True)
class Settings:
    """What the codec may choose: index bits (2 to 8), outlier rule and threshold, solver.

    Without a threshold the rule's default is used.
    """

    bits: int = 3
    rule: Rule = "logpdf"
    threshold: float | None = None
    solver: Solver = "paper"


@dataclass(frozen=True)
class GoboTensor:
    """A weight matrix W [K, N] in the form of the GOBO ops' inputs.

    ``indices``: uint8, the layout of `packing`. ``centroids``: [1, 2^bits] in the dtype of W,
    ascending. ``positions``: uint16 (int32 if a gap needs it) [outliers], the differences of the
    outliers' places (`packing.Layout.place`), ascending, the first counted from 0. ``values``: the
    outliers themselves, dtype of W. An outlier's index is 0.
    """

    bits: int
    rows: int
    columns: int
    indices: NDArray[np.uint8]
    centroids: Floating
    positions: NDArray[np.integer]
    values: Floating

    @property
    def format(self) -> Format:
        return Format("codebook", self.bits)

    @property
    def nbytes(self) -> int:
        """Bytes of the four arrays."""
        return sum(a.nbytes for a in (self.indices, self.centroids, self.positions, self.values))

    @property
    def tables(self) -> NDArray[np.int64]:
        """The table of centroids of each column, int64 [N]: groups of consecutive columns."""
        width = -(-self.columns // self.centroids.shape[0])
        tables: NDArray[np.int64] = np.arange(self.columns) // width
        return tables

    def outlier_places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows k and columns n of the outliers, in the order of ``values``."""
        places = np.cumsum(self.positions, dtype=np.int64)
        return LAYOUTS[self.bits].weight(places, self.rows)

    def unpacked(self) -> NDArray[np.uint8]:
        """The plain indices, uint8 [K, N]."""
        return unpack(self.indices, self.bits, self.rows, self.columns)

    def decode(self) -> Floating:
        """W as the ops see it: [K, N], dtype of the centroids."""
        weights: Floating = self.centroids[0][self.unpacked()]
        weights[self.outlier_places()] = self.values
        return weights


@dataclass(frozen=True)
class Loss:
    """What encoding lost. ``sqnr_db``: 10 log10 of signal over error energy (inf: nothing lost)."""

    sqnr_db: float
    iterations: int


def encode(weights: Floating, settings: Settings) -> tuple[GoboTensor, Loss]:
    """Encode a matrix W [K, N], float16, bfloat16, float32 or float64, in any memory order.

    Raises ValueError where W holds NaN or an infinity.
    """
    real = weights if weights.dtype.itemsize >= 4 else weights.astype(np.float32)
    turned = real.flags.f_contiguous and not real.flags.c_contiguous
    line = np.ascontiguousarray(real.T if turned else real).reshape(-1)
    if not (np.isfinite(line.min()) and np.isfinite(line.max())):
        raise ValueError("holds NaN or infinite values")
    inside = band(line, settings.rule, settings.threshold)
    group = np.concatenate([part[~inside.outliers(part)] for part in chunks(line)])
    book = fit(group, settings.bits, settings.solver)
    centroids = book.centroids.astype(weights.dtype)
    indices, outliers, noise = _assign(line, centroids.astype(line.dtype), inside)
    major, minor = np.divmod(outliers, real.shape[0 if turned else 1])
    k, n = (minor, major) if turned else (major, minor)
    places = LAYOUTS[settings.bits].place(k, n, real.shape[0])
    order = np.argsort(places)
    grid = indices.reshape(real.shape[::-1]).T if turned else indices.reshape(real.shape)
    tensor = GoboTensor(
        bits=settings.bits,
        rows=real.shape[0],
        columns=real.shape[1],
        indices=pack(grid, settings.bits),
        centroids=centroids[None, :],
        positions=_gaps(places[order]),
        values=weights[k[order], n[order]],
    )
    signal = energy(line)
    sqnr_db = 10.0 * math.log10(signal / noise) if noise and signal else math.inf
    return tensor, Loss(sqnr_db, book.iterations)


def nearest(weights: Floating, centroids: Floating) -> NDArray[np.uint8]:
    """Index of the nearest centroid of each weight; a tie goes to the lower one."""
    indices = np.zeros(weights.shape, np.uint8)
    for middle in midpoints(centroids, weights.dtype):
        indices += weights > middle
    return indices


def contradiction(weights: Floating, tensor: GoboTensor) -> str:
    """What is wrong with ``tensor`` as the encoding of W [K, N]; empty where nothing is.

    Unpacks the indices, independently of `encode`: an outlier must be kept exactly, every other
    weight must have its nearest centroid.
    """
    if weights.shape != (tensor.rows, tensor.columns):
        return f"has shape {weights.shape}, its encoding {(tensor.rows, tensor.columns)}"
    k, n = tensor.outlier_places()
    if np.any(k >= tensor.rows) or np.any(n >= tensor.columns):
        return "has an outlier outside the matrix"
    if not np.array_equal(weights[k, n], tensor.values):
        return "has an outlier that does not decode to itself"
    indices = tensor.unpacked()
    wide = np.float32 if weights.dtype.itemsize < 4 else weights.dtype
    middles = midpoints(tensor.centroids[0].astype(wide), np.dtype(wide))
    above, below = np.append(-np.inf, middles), np.append(middles, np.inf)
    is_outlier = np.zeros(weights.shape, np.bool_, order="F")
    is_outlier[k, n] = True
    step = max(1, _CHUNK // tensor.rows)
    for at in range(0, tensor.columns, step):
        columns = slice(at, at + step)
        part, index = weights[:, columns].astype(wide), indices[:, columns]
        nearest_one = (part > above.astype(wide)[index]) & (part <= below.astype(wide)[index])
        if not np.all(nearest_one | is_outlier[:, columns]):
            return "has a weight that does not decode to its nearest centroid"
    return ""


def _assign(
    line: Floating, centroids: Floating, inside: Band
) -> tuple[NDArray[np.uint8], NDArray[np.int64], float]:
    """Indices of a 1-D array (0 for outliers), places of the outliers, energy of the error."""
    indices, outliers, noise, at = [], [], 0.0, 0
    for part in chunks(line):
        index = nearest(part, centroids)
        found = np.flatnonzero(inside.outliers(part))
        index[found] = 0
        error = part - centroids[index]
        error[found] = 0.0
        noise += energy(error)
        indices.append(index)
        outliers.append(found + at)
        at += part.size
    return np.concatenate(indices), np.concatenate(outliers), noise


def _gaps(places: NDArray[np.int64]) -> NDArray[np.integer]:
    gaps = np.diff(places, prepend=0)
    small = gaps.size == 0 or gaps.max() <= np.iinfo(np.uint16).max
    return gaps.astype(np.uint16 if small else np.int32)
