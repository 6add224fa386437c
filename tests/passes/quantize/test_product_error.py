"""SQNR of products row by row, against loops in float64."""

import math

import numpy as np
import pytest

from sardonyx.passes.quantize.product_error import ProductSample
from sardonyx.runtime_ops.uniform import encode, grid


@pytest.fixture
def sample(normal):
    rows = np.random.default_rng(0).standard_normal((20, 16)).astype(np.float32)
    return ProductSample.of(rows, [normal(16, 5), normal(16, 3, seed=1)])


def expected(sample, cells, bits, scale):
    """The mean over rows of noise over signal, as dB."""
    matrices = [encode(w * scale[:, None], bits)[0].decode() for w in sample.weights]
    shares = []
    for row in sample.rows:
        want = np.concatenate([row.astype(np.float64) @ w for w in sample.weights])
        rounded = cells.rounded(row / scale).astype(np.float64)
        have = np.concatenate([rounded @ w for w in matrices])
        shares.append(np.sum((want - have) ** 2) / np.sum(want**2))
    return -10 * math.log10(np.mean(shares))


def test_the_mean_over_rows(sample):
    scale = np.linspace(0.5, 2, 16, dtype=np.float32)
    cells = grid(float((sample.rows / scale).min()), float((sample.rows / scale).max()))
    have = sample.sqnr_db(cells, 7, scale)
    assert have == pytest.approx(expected(sample, cells, 7, scale), abs=1e-3)  # float32 products


def test_nothing_rounded_is_nothing_lost(sample):
    assert sample.sqnr_db(None, None) == math.inf


def test_lost_rows_show_beside_one_of_huge_energy(sample):
    """One row that a wide grid serves well does not hide that the others are lost."""
    rows = np.concatenate([sample.rows, 1e4 * sample.rows[:1]])
    wide = ProductSample.of(rows, sample.weights)
    assert wide.sqnr_db(grid(float(rows.min()), float(rows.max())), None) < 1


def test_rows_of_zeros_lose_nothing(sample):
    zeros = ProductSample.of(np.zeros_like(sample.rows), sample.weights)
    assert zeros.sqnr_db(grid(-1, 1), 7) == math.inf
