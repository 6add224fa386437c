"""The paper's container: byte by byte, and there and back."""

from __future__ import annotations

import struct
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sardonyx.runtime_ops.container import Decoded, decode, encode


def tensor(rows, columns, bits, outliers, seed=0):
    """Random indices; ``outliers`` random places that hold random values, index 0 there."""
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, 1 << bits, (rows, columns), dtype=np.uint8)
    k, n = np.divmod(rng.permutation(rows * columns)[:outliers], columns)
    indices[k, n] = 0
    centroids, values = (rng.standard_normal(size).astype("f4") for size in (1 << bits, outliers))
    return Decoded(centroids, indices, k, n, values)


def in_container_order(t):
    order = np.lexsort((t.columns % 16, t.rows % 16, t.columns // 16, t.rows // 16))
    return Decoded(t.centroids, t.indices, t.rows[order], t.columns[order], t.values[order])


def expected_size(t, bits):
    """Centroids; a count, 256 indices and 5 bytes an outlier; a second count byte from 255 up."""
    down, across = (-(-n // 16) for n in t.indices.shape)
    counts = np.zeros((down, across), int)
    np.add.at(counts, (t.rows // 16, t.columns // 16), 1)
    return 4 * 2**bits + down * across * (1 + 32 * bits) + 5 * t.values.size + (counts > 254).sum()


def test_golden_sub_matrix():
    """16 x 16 at 3 bits: the first 8 cells in 3 bytes, the last 8 too, two outliers."""
    indices = np.zeros((16, 16), np.uint8)
    indices[0, :8] = 1, 2, 3, 4, 5, 6, 7, 0
    indices[15, 8:] = 7, 0, 0, 0, 0, 0, 0, 1
    centroids = np.arange(8, dtype=np.float32)
    late, early = (15, 3, -2.5), (0, 9, 1.5)
    k, n, values = (np.array(part) for part in zip(late, early, strict=True))
    first = sum(index << (3 * i) for i, index in enumerate((1, 2, 3, 4, 5, 6, 7, 0)))
    expected = struct.pack("<8f", *range(8))
    expected += bytes([2])
    expected += first.to_bytes(3, "little") + bytes(90) + bytes([7, 0, 0b00100000])
    expected += bytes([9]) + struct.pack("<f", 1.5) + bytes([243]) + struct.pack("<f", -2.5)
    assert encode(Decoded(centroids, indices, k, n, values.astype("f4")), 3) == expected


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(2, 8),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
@example(16, 16, 3, 255 / 256, 0)
@example(16, 16, 4, 254 / 256, 0)
@example(48, 33, 8, 1.0, 0)
@example(5, 7, 2, 0.0, 0)
def test_round_trip(rows, columns, bits, share, seed):
    original = tensor(rows, columns, bits, int(share * rows * columns), seed)
    data = encode(original, bits)
    assert len(data) == expected_size(original, bits)
    expected, found = in_container_order(original), decode(data, bits, rows, columns)
    for field in fields(Decoded):
        np.testing.assert_array_equal(
            getattr(found, field.name), getattr(expected, field.name), strict=True
        )


@pytest.mark.parametrize(("outliers", "count"), [(254, [254]), (255, [255, 0]), (256, [255, 1])])
def test_count_bytes(outliers, count):
    data = encode(tensor(16, 16, 3, outliers), 3)
    assert list(data[32:][: len(count)]) == count
    assert len(data) == 32 + len(count) + 96 + 5 * outliers
