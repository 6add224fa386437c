"""What GOBO's chip computes, bit for bit as `scalar` defines it, many outputs at a time.

A weight is read from its containers (`container`), one for each table of centroids. For each
column, the activations of all rows of A are put in the order in which accumulators take them: by
index, then by k. What is added up then are whole rows of numbers, one after the other, so that
each output sees the additions of the definition in its order.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sardonyx.runtime_ops import container
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.gobo import GoboTensor, column_groups

_ROWS = 128
"""Rows of A at a time; even, as `_product` needs it."""

_COLUMNS = 64
"""Columns of W at a time in a thread."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Weight:
    """A weight matrix W [K, N] as the chip reads it.

    ``codes`` [N, K]: index of each weight, or 2^bits for an outlier. ``tables`` [N]: the row of
    ``centroids`` [groups, 2^bits] of each column. ``values``: outliers, column by column, rows
    ascending; those of column n are ``values[starts[n] : starts[n + 1]]``.
    """

    codes: NDArray[np.unsignedinteger[Any]]
    tables: NDArray[np.int64]
    centroids: Floats
    values: Floats
    starts: NDArray[np.int64]


def transcode(tensor: GoboTensor) -> list[bytes]:
    """The containers of a tensor: one for the columns of each table of centroids.

    Raises InputError where a number is no float32.
    """
    if tensor.centroids.dtype.itemsize > 4:
        raise InputError(f"GOBO's chip computes in float32, not in {tensor.centroids.dtype}")
    indices = tensor.unpacked()
    k, n = tensor.outlier_places()
    found = []
    for table, part in zip(tensor.centroids, _parts(tensor), strict=True):
        own = (n >= part.start) & (n < part.stop)
        decoded = container.Decoded(
            table.astype(np.float32),
            indices[:, part],
            k[own],
            n[own] - part.start,
            tensor.values[own].astype(np.float32),
        )
        found.append(container.encode(decoded, tensor.bits))
    return found


def read(containers: list[bytes], tensor: GoboTensor) -> Weight:
    """The weight in some containers. Of ``tensor``, only its bits, shape and groups are used."""
    outlier = 1 << tensor.bits
    kind = np.uint8 if outlier < 256 else np.uint16
    codes = np.empty((tensor.columns, tensor.rows), kind)
    centroids, values, counts = [], [], []
    for data, part in zip(containers, _parts(tensor), strict=True):
        held = container.decode(data, tensor.bits, tensor.rows, part.stop - part.start)
        codes[part] = held.indices.T
        codes[part][held.columns, held.rows] = outlier
        centroids.append(held.centroids)
        values.append(held.values[np.lexsort((held.rows, held.columns))])
        counts.append(np.bincount(held.columns, minlength=part.stop - part.start))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return Weight(codes, tensor.tables, np.stack(centroids), np.concatenate(values), starts)


def _parts(tensor: GoboTensor) -> list[slice]:
    """The columns of each table of centroids."""
    return column_groups(tensor.columns, tensor.groups)


def lookup(ids: NDArray[np.integer[Any]], weight: Weight) -> Floats:
    """Columns ``ids`` (negative: from the end) of W, as rows: ids' shape + [K]."""
    flat = ids.reshape(-1)
    codes = weight.codes[flat]
    outlier = weight.centroids.shape[1]
    plain = np.minimum(codes, outlier - 1)
    rows = weight.centroids[weight.tables[flat][:, None], plain]
    ends = weight.starts[1:]
    values = [weight.values[weight.starts[n] : ends[n]] for n in flat % len(ends)]
    rows[codes == outlier] = np.concatenate([*values, weight.values[:0]])
    found: Floats = rows.reshape(*ids.shape, codes.shape[1])
    return found


def product(a: NDArray[np.floating[Any]], weight: Weight) -> NDArray[np.floating[Any]]:
    """``A @ W`` of [..., K]: [..., N], computed in float32 and rounded to A's dtype."""
    n, k = weight.codes.shape
    flat = a.reshape(-1, k).astype(np.float32)
    m = len(flat)
    # a lone row would be a contiguous sum, whose order numpy chooses: an even number has none
    rows = np.zeros((k, m + m % 2), np.float32)
    rows[:, :m] = flat.T
    out = np.empty((n, rows.shape[1]), np.float32)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, rows.shape[1], _ROWS):
            part = np.ascontiguousarray(rows[:, start : start + _ROWS])
            steps = [range(first, min(first + _COLUMNS, n)) for first in range(0, n, _COLUMNS)]
            target = out[:, start : start + _ROWS]
            for job in [pool.submit(_columns, part, weight, step, target) for step in steps]:
                job.result()
    result: NDArray[np.floating[Any]] = out[:, :m].T.reshape(*a.shape[:-1], n).astype(a.dtype)
    return result


@np.errstate(over="ignore", invalid="ignore")  # infinite activations are the model's affair
def _columns(rows: Floats, weight: Weight, columns: range, out: Floats) -> None:
    """Fill rows ``columns`` of ``out`` [N, M] from A turned, ``rows`` [K, M]; M is even."""
    codes = weight.centroids.shape[1]
    most = int(np.diff(weight.starts[columns.start : columns.stop + 1]).max())
    products = np.empty((codes + most, rows.shape[1]), np.float32)
    taken = np.empty_like(rows)
    for n in columns:
        values = weight.values[weight.starts[n] : weight.starts[n + 1]]
        np.take(rows, np.argsort(weight.codes[n], kind="stable"), axis=0, out=taken, mode="clip")
        sums = products[:codes]
        for code, part in enumerate(_runs(weight.codes[n], codes)):
            np.add.reduce(taken[part], axis=0, out=sums[code], initial=0)
        sums *= weight.centroids[weight.tables[n]][:, None]
        terms = products[: codes + len(values)]
        np.multiply(taken[len(rows) - len(values) :], values[:, None], out=terms[codes:])
        np.add.reduce(terms, axis=0, out=out[n], initial=0)


def _runs(codes: NDArray[np.unsignedinteger[Any]], count: int) -> Iterator[slice]:
    """Where each code below ``count`` lies among the sorted ``codes``."""
    start = 0
    for size in np.bincount(codes, minlength=count)[:count].tolist():
        yield slice(start, start + size)
        start += size
