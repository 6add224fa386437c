"""The paper's own storage format (GOBO, section 5): 16 x 16 sub-matrices, read by the accelerator.

A tensor is its centroids (FP32, once) and, for every 16 x 16 sub-matrix in row-major order:

    count      1 byte: outliers in the sub-matrix; 255 is followed by one more byte to add
    indices    256 indices of ``bits`` bits, row by row, a little-endian bit string
    outliers   ``count`` times: place in the sub-matrix (1 byte, 16 row + column), value (FP32)

Edges are padded with index 0. Bits, rows and columns are the reader's to know.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 16
_CELLS = SIDE * SIDE
_OUTLIER_BYTES = 5
_FULL = 255


@dataclass(frozen=True)
class Decoded:
    """What the container holds: centroids float32 [2^bits], indices uint8 [rows, columns], and
    the outliers' rows, columns (int64) and values (float32), sub-matrix by sub-matrix."""

    centroids: NDArray[np.float32]
    indices: NDArray[np.uint8]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float32]


def encode(tensor: Decoded, bits: int) -> bytes:
    """The container of a tensor; its outliers may come in any order."""
    grid = _grid(tensor.indices)
    across = grid.shape[1]
    block = tensor.rows // SIDE * across + tensor.columns // SIDE
    place = tensor.rows % SIDE * SIDE + tensor.columns % SIDE
    order = np.lexsort((place, block))
    counts = np.bincount(block, minlength=grid.shape[0] * across)
    starts, head = _starts(counts, bits)
    out = np.zeros(starts[-1], np.uint8)
    out[starts[:-1]] = np.minimum(counts, _FULL)
    full = counts >= _FULL
    out[starts[:-1][full] + 1] = counts[full] - _FULL
    spread = np.unpackbits(grid.reshape(-1, _CELLS, 1), axis=-1, count=bits, bitorder="little")
    strings = np.packbits(spread.reshape(-1, _CELLS * bits), axis=-1, bitorder="little")
    out[(starts[:-1] + head)[:, None] + np.arange(strings.shape[1])] = strings
    at = _outlier_starts(starts, head, counts, bits)
    out[at] = place[order]
    raw = tensor.values[order].astype("<f4").view(np.uint8).reshape(-1, 4)
    out[at[:, None] + np.arange(1, _OUTLIER_BYTES)] = raw
    return tensor.centroids.astype("<f4").tobytes() + out.tobytes()


def decode(data: bytes, bits: int, rows: int, columns: int) -> Decoded:
    """The inverse of `encode`; outliers come in container order."""
    table = (1 << bits) * 4
    raw = np.frombuffer(data, np.uint8, offset=table)
    down, across = -(-rows // SIDE), -(-columns // SIDE)
    counts = _read_counts(raw, down * across, bits)
    starts, head = _starts(counts, bits)
    strings = raw[(starts[:-1] + head)[:, None] + np.arange(_CELLS * bits // 8)]
    spread = np.unpackbits(strings, axis=-1, bitorder="little").reshape(-1, _CELLS, bits)
    cells = np.packbits(spread, axis=-1, bitorder="little").reshape(down, across, SIDE, SIDE)
    indices = cells.transpose(0, 2, 1, 3).reshape(down * SIDE, across * SIDE)
    at = _outlier_starts(starts, head, counts, bits)
    place = raw[at].astype(np.int64)
    block = np.repeat(np.arange(counts.size), counts)
    return Decoded(
        np.frombuffer(data, "<f4", count=1 << bits),
        indices[:rows, :columns],
        block // across * SIDE + place // SIDE,
        block % across * SIDE + place % SIDE,
        raw[at[:, None] + np.arange(1, _OUTLIER_BYTES)].reshape(-1).view("<f4"),
    )


def _grid(indices: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Sub-matrices [down, across, 16, 16] of a padded matrix."""
    rows, columns = indices.shape
    padded = np.pad(indices, ((0, -rows % SIDE), (0, -columns % SIDE)))
    return padded.reshape(-(-rows // SIDE), SIDE, -1, SIDE).transpose(0, 2, 1, 3)


def _starts(counts: NDArray[np.int64], bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First byte of each sub-matrix (and the end), and the bytes of each one's count."""
    head = 1 + (counts >= _FULL).astype(np.int64)
    sizes = head + _CELLS * bits // 8 + counts * _OUTLIER_BYTES
    return np.concatenate([[0], np.cumsum(sizes)]), head


def _outlier_starts(
    starts: NDArray[np.int64], head: NDArray[np.int64], counts: NDArray[np.int64], bits: int
) -> NDArray[np.int64]:
    """First byte of each outlier, in container order."""
    first = starts[:-1] + head + _CELLS * bits // 8
    rank = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts_of_all: NDArray[np.int64] = np.repeat(first, counts) + rank * _OUTLIER_BYTES
    return starts_of_all


def _read_counts(raw: NDArray[np.uint8], blocks: int, bits: int) -> NDArray[np.int64]:
    """Walk the sub-matrices: each one's size is known only from its count."""
    counts = np.empty(blocks, np.int64)
    at = 0
    for block in range(blocks):
        count = int(raw[at])
        at += 1
        if count == _FULL:
            count += int(raw[at])
            at += 1
        counts[block] = count
        at += _CELLS * bits // 8 + count * _OUTLIER_BYTES
    return counts
