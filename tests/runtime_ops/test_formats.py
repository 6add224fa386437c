"""Names and sizes of formats."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.runtime_ops.formats import Format


def test_str():
    assert str(Format("codebook", 3)) == "codebook3/tensor"
    assert str(Format("uniform", 8, "channel")) == "uniform8/channel"
    assert str(Format("codebook", 3, "group", 24)) == "codebook3/24 groups"


@pytest.mark.parametrize(
    ("bits", "rows", "columns", "outliers", "dtype", "nbytes"),
    [
        (3, 64, 32, 0, np.float32, 64 * 32 * 3 // 8 + 8 * 4),
        (3, 64, 32, 10, np.float32, 64 * 32 * 3 // 8 + 8 * 4 + 10 * 6),
        (4, 33, 17, 5, np.float16, 64 * 32 * 4 // 8 + 16 * 2 + 5 * 4),
        (8, 1, 1, 1, np.float64, 32 * 16 + 256 * 8 + 10),
    ],
)
def test_nbytes(bits, rows, columns, outliers, dtype, nbytes):
    assert Format("codebook", bits).nbytes(rows, columns, outliers, np.dtype(dtype)) == nbytes
    more = Format("codebook", bits, "group", 4).nbytes(rows, columns, outliers, np.dtype(dtype))
    assert more == nbytes + 3 * (1 << bits) * np.dtype(dtype).itemsize
