"""The GOBO codec: a weight matrix as packed indices, centroids and outliers, and back."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sardonyx.runtime_ops.binned_sums import chunks, energy, midpoints
from sardonyx.runtime_ops.codebook import Solver, fit
from sardonyx.runtime_ops.formats import Format, Granularity
from sardonyx.runtime_ops.outliers import Band, Rule, band
from sardonyx.runtime_ops.packing import LAYOUTS, pack, unpack

_CHUNK = 1 << 16

Floating = NDArray[np.floating]


@dataclass(frozen=True)
class Settings:
    """What the codec may choose: index bits (2 to 8), outlier rule and threshold, solver, groups.

    Without a threshold the rule's default is used. ``groups``: how many groups of consecutive
    columns have centroids of their own; fewer where there are no more columns, or where groups of
    one size take fewer. Outliers are those of the whole matrix all the same.
    """

    bits: int = 3
    rule: Rule = "logpdf"
    threshold: float | None = None
    solver: Solver = "paper"
    groups: int = 1


@dataclass(frozen=True)
class GoboTensor:
    """A weight matrix W [K, N] in the form of the GOBO ops' inputs.

    ``indices``: uint8, the layout of `packing`. ``centroids``: [groups, 2^bits] in the dtype of W,
    each row ascending; column n uses row ``n // ceil(N / groups)``. ``positions``: uint16 (int32 if
    a gap needs it) [outliers], the differences of the outliers' places (`packing.Layout.place`),
    ascending, the first counted from 0. ``values``: the outliers themselves, dtype of W. An
    outlier's index is 0.
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
        shared: Granularity = "group" if self.groups > 1 else "tensor"
        return Format("codebook", self.bits, shared, self.groups)

    @property
    def groups(self) -> int:
        """Tables of centroids."""
        return len(self.centroids)

    @property
    def outliers(self) -> int:
        """Weights kept as they are."""
        return int(self.values.size)

    @property
    def nbytes(self) -> int:
        """Bytes of the four arrays."""
        return sum(a.nbytes for a in (self.indices, self.centroids, self.positions, self.values))

    @property
    def tables(self) -> NDArray[np.int64]:
        """The row of centroids of each column, int64 [N]."""
        parts = column_groups(self.columns, self.centroids.shape[0])
        return np.repeat(np.arange(len(parts)), [part.stop - part.start for part in parts])

    def outlier_places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows k and columns n of the outliers, in the order of ``values``."""
        places = np.cumsum(self.positions, dtype=np.int64)
        return LAYOUTS[self.bits].weight(places, self.rows)

    def unpacked(self) -> NDArray[np.uint8]:
        """The plain indices, uint8 [K, N]."""
        return unpack(self.indices, self.bits, self.rows, self.columns)

    def decode(self) -> Floating:
        """W as the ops see it: [K, N], dtype of the centroids."""
        indices = self.unpacked()
        if self.centroids.shape[0] > 1:
            weights: Floating = self.centroids[self.tables, indices]
        else:
            weights = self.centroids[0][indices]
        weights[self.outlier_places()] = self.values
        return weights

    def contradiction(self, weights: Floating) -> str:
        """What is wrong with this as the encoding of W [K, N]; empty where nothing is."""
        return contradiction(weights, self)


@dataclass(frozen=True)
class Loss:
    """What encoding lost. ``sqnr_db``: 10 log10 of signal over error energy (inf: nothing lost)."""

    sqnr_db: float
    iterations: int


def column_groups(columns: int, groups: int) -> list[slice]:
    """``groups`` ranges of consecutive columns, of one size but for the last, or fewer of that size
    if they hold all columns."""
    width = -(-columns // groups)
    return [slice(at, min(at + width, columns)) for at in range(0, columns, width)]


def encode(weights: Floating, settings: Settings) -> tuple[GoboTensor, Loss]:
    """Encode a matrix W [K, N], float16, bfloat16, float32 or float64, in any memory order.

    Raises ValueError where W holds NaN or an infinity.
    """
    real = weights if weights.dtype.itemsize >= 4 else weights.astype(np.float32)
    turned = real.flags.f_contiguous and not real.flags.c_contiguous
    grid = np.ascontiguousarray(real.T if turned else real)
    line = grid.reshape(-1)
    if not (np.isfinite(line.min()) and np.isfinite(line.max())):
        raise ValueError("holds NaN or infinite values")
    inside = band(line, settings.rule, settings.threshold)
    parts = [
        _encode_part(grid[group] if turned else grid[:, group], inside, settings, weights.dtype)
        for group in column_groups(real.shape[1], settings.groups)
    ]
    indices = np.concatenate([part.indices for part in parts], axis=0 if turned else 1)
    k, n = _outliers(grid, inside)[:: -1 if turned else 1]
    places = LAYOUTS[settings.bits].place(k, n, real.shape[0])
    order = np.argsort(places)
    tensor = GoboTensor(
        bits=settings.bits,
        rows=real.shape[0],
        columns=real.shape[1],
        indices=pack(indices.T if turned else indices, settings.bits),
        centroids=np.stack([part.centroids for part in parts]),
        positions=_gaps(places[order]),
        values=weights[k[order], n[order]],
    )
    signal, noise = energy(line), sum(part.noise for part in parts)
    sqnr_db = 10.0 * math.log10(signal / noise) if noise and signal else math.inf
    return tensor, Loss(sqnr_db, max(part.iterations for part in parts))


@dataclass(frozen=True)
class _Part:
    """Columns that share a table. ``indices``: 0 for outliers; ``noise``: energy of the error."""

    centroids: Floating
    indices: NDArray[np.uint8]
    noise: float
    iterations: int


def _encode_part(
    weights: Floating, inside: Band, settings: Settings, dtype: np.dtype[np.floating]
) -> _Part:
    """Fit centroids, in the end of a ``dtype``, to a 2-D array, and give each weight its own."""
    line = np.ascontiguousarray(weights).reshape(-1)
    group = np.concatenate([part[~inside.outliers(part)] for part in chunks(line)])
    book = fit(group, settings.bits, settings.solver)
    centroids = book.centroids.astype(dtype)
    indices, noise = _assign(line, centroids.astype(line.dtype), inside)
    return _Part(centroids, indices.reshape(weights.shape), noise, book.iterations)


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
    is_outlier = np.zeros(weights.shape, np.bool_, order="F")
    is_outlier[k, n] = True
    for centroids, columns in _tables_in_steps(tensor):
        middles = midpoints(centroids.astype(wide), np.dtype(wide))
        above, below = np.append(-np.inf, middles), np.append(middles, np.inf)
        part, index = weights[:, columns].astype(wide), indices[:, columns]
        nearest_one = (part > above.astype(wide)[index]) & (part <= below.astype(wide)[index])
        if not np.all(nearest_one | is_outlier[:, columns]):
            return "has a weight that does not decode to its nearest centroid"
    return ""


def _tables_in_steps(tensor: GoboTensor) -> Iterator[tuple[Floating, slice]]:
    """Every table, with a few of its columns at a time."""
    step = max(1, _CHUNK // tensor.rows)
    groups = column_groups(tensor.columns, tensor.centroids.shape[0])
    for table, group in zip(tensor.centroids, groups, strict=True):
        for at in range(group.start, group.stop, step):
            yield table, slice(at, min(at + step, group.stop))


def _assign(line: Floating, centroids: Floating, inside: Band) -> tuple[NDArray[np.uint8], float]:
    """Indices of a 1-D array (0 for outliers), and the energy of the error."""
    indices, noise = [], 0.0
    for part in chunks(line):
        index = nearest(part, centroids)
        outliers = inside.outliers(part)
        index[outliers] = 0
        error = part - centroids[index]
        error[outliers] = 0.0
        noise += energy(error)
        indices.append(index)
    return np.concatenate(indices), noise


def _outliers(grid: Floating, inside: Band) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the outliers of a contiguous 2-D array along both of its axes."""
    sizes, found = 0, []
    for part in chunks(grid.reshape(-1)):
        found.append(np.flatnonzero(inside.outliers(part)) + sizes)
        sizes += part.size
    return np.divmod(np.concatenate(found), grid.shape[1])


def _gaps(places: NDArray[np.int64]) -> NDArray[np.integer]:
    gaps = np.diff(places, prepend=0)
    small = gaps.size == 0 or gaps.max() <= np.iinfo(np.uint16).max
    return gaps.astype(np.uint16 if small else np.int32)
