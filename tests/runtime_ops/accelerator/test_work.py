"""Bytes of weights in DRAM, against the container itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.runtime_ops.accelerator.work import Product
from sardonyx.runtime_ops.container import Decoded, encode


@given(st.integers(1, 70), st.integers(1, 70), st.integers(2, 8), st.integers(0, 9))
def test_a_codebook_takes_what_its_container_takes(rows, columns, bits, share):
    """Containers have rows of N (`accelerator.functional`), but square sub-matrices either way."""
    rng = np.random.default_rng(rows * columns)
    k, n = np.nonzero(rng.random((rows, columns)) < share / 100)
    none = np.zeros(len(k), np.float32)
    indices = np.zeros((rows, columns), np.uint8)
    stored = encode(Decoded(np.zeros(1 << bits, np.float32), indices, k, n, none), bits)
    outliers = tuple(np.bincount(n // 16, minlength=-(-columns // 16)).tolist())
    product = Product(1, rows, columns, True, "codebook", bits, 1, outliers, 4 << bits)
    found = product.container_bytes(rows, product.blocks(0, columns)) + product.table_bytes
    assert found == len(stored)


def test_parts_of_k_share_the_outliers():
    """Two sub-matrices of 1 + 96 bytes; of 10 outliers, the half that 32 of 64 rows hold."""
    product = Product(1, 64, 32, True, "codebook", 3, outliers=(4, 6))
    assert product.container_bytes(32, (4, 6)) == 4 * 97 + 5 * 5
    assert product.blocks(16, 16) == (6,)


def test_tiles_of_any_columns_share_the_outliers():
    """Of blocks across two of W: 12 and then the other 4 columns of the first, 9 of the second."""
    product = Product(1, 16, 25, True, "codebook", 3, outliers=(8, 9))
    assert product.blocks(0, 12) == (6,)
    assert product.blocks(12, 13) == (2 + 9,)
    assert product.blocks(4, 20) == (6 + 2, 2)


@pytest.mark.parametrize(
    ("name", "nbytes"), [("float32", 4), ("codebook", 4), ("int8", 1), ("int16", 2)]
)
def test_bytes_of_an_activation(name, nbytes):
    assert Product(2, 3, 4, True, name, 8, count=5).activation_bytes == nbytes
    assert Product(2, 3, 4, True, name, 8, count=5).macs == 120
