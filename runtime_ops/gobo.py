"""The GOBO codec: a weight matrix as packed indices, centroids and outliers, and back."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sardonyx.runtime_ops.codebook import Solver, fit
from sardonyx.runtime_ops.formats import Format
from sardonyx.runtime_ops.outliers import DEFAULT_THRESHOLDS, Band, Rule, band
from sardonyx.runtime_ops.packing import LAYOUTS, pack, unpack
from sardonyx.runtime_ops.sorted_sums import chunks, energy, midpoints

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
    dtype = weights.dtype
    real = weights if dtype.itemsize >= 4 else weights.astype(np.float32)
    ordered = np.sort(real, axis=None)
    if not np.isfinite(ordered[[0, -1]]).all():
        raise ValueError("holds NaN or infinite values")
    threshold = settings.threshold
    if threshold is None:
        threshold = DEFAULT_THRESHOLDS[settings.rule]
    inside = band(ordered, settings.rule, threshold)
    group = inside.within(ordered)
    book = fit(group, settings.bits, settings.solver)
    centroids = book.centroids.astype(dtype)
    indices, k, n = _assign(real, centroids.astype(real.dtype), inside)
    places = LAYOUTS[settings.bits].place(k, n, weights.shape[0])
    order = np.argsort(places)
    tensor = GoboTensor(
        bits=settings.bits,
        rows=weights.shape[0],
        columns=weights.shape[1],
        indices=pack(indices, settings.bits),
        centroids=centroids[None, :],
        positions=_gaps(places[order]),
        values=weights[k[order], n[order]],
    )
    loss = Loss(_sqnr_db(ordered, group, centroids.astype(real.dtype)), book.iterations)
    return tensor, loss


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
    weights: Floating, centroids: Floating, inside: Band
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Indices (0 for outliers) in the memory order of ``weights``; the outliers' k and n."""
    turned = weights.flags.f_contiguous and not weights.flags.c_contiguous
    line = np.ascontiguousarray(weights.T if turned else weights).reshape(-1)
    indices = np.empty(line.size, np.uint8)
    found = []
    for at in range(0, line.size, _CHUNK):
        part = line[at : at + _CHUNK]
        indices[at : at + _CHUNK] = nearest(part, centroids)
        found.append(np.flatnonzero(inside.outliers(part)) + at)
    outliers = np.concatenate(found)
    indices[outliers] = 0
    major, minor = np.divmod(outliers, weights.shape[0 if turned else 1])
    if turned:
        return indices.reshape(weights.shape[::-1]).T, minor, major
    return indices.reshape(weights.shape), major, minor


def _gaps(places: NDArray[np.int64]) -> NDArray[np.integer]:
    gaps = np.diff(places, prepend=0)
    small = gaps.size == 0 or gaps.max() <= np.iinfo(np.uint16).max
    return gaps.astype(np.uint16 if small else np.int32)


def _sqnr_db(ordered: Floating, group: Floating, centroids: Floating) -> float:
    signal = energy(ordered)
    noise = sum(energy(part - centroids[nearest(part, centroids)]) for part in chunks(group))
    return 10.0 * math.log10(signal / noise) if noise and signal else math.inf
