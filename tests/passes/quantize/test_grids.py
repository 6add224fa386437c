"""Grids from what was measured: what they are expected to lose is what they lose."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sardonyx.passes.quantize.grids import GridSettings, measured
from sardonyx.passes.quantize.product_error import ProductSample
from sardonyx.runtime_ops.uniform import grid, sqnr_db

SAMPLES = {
    "gaussian": lambda g: g.standard_normal(50_000),
    "laplace": lambda g: g.laplace(size=50_000),
    "positive": lambda g: np.abs(g.standard_normal(50_000)),
    "negative": lambda g: -g.gamma(2.0, size=50_000),
    "shifted": lambda g: g.standard_normal(50_000) + 3,
    "huge": lambda g: 1e25 * g.standard_normal(50_000),
    "tiny": lambda g: 1e-30 * g.standard_normal(50_000),
}


def settings(method="kl", mode="best", symmetric=False, signed=False, bits=8):
    return GridSettings(method, mode, 99.9, "grid", 0.5, symmetric, signed, 64, bits)


def folded(statistics, *samples):
    for values in samples:
        statistics = tuple(each.add(values) for each in statistics)
    return statistics


@pytest.fixture(scope="module", params=SAMPLES)
def values(request):
    made = SAMPLES[request.param](np.random.default_rng(3)).astype(np.float32)
    return made.reshape(-1, 50)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    ("method", "mode"),
    [("min-max", "best"), ("percentile", "best"), ("mse", "best"), ("ema", "best")]
    + [("kl", mode) for mode in ("best", "naive", "symmetric", "independent", "conjugate")],
)
def test_the_loss_that_is_expected(values, method, mode, symmetric):
    wanted = settings(method, mode, symmetric)
    found = measured(folded(wanted.statistics(weighed=False), values), wanted, None)
    real = values.astype(float).ravel()
    lost = sqnr_db(real, found.grid.rounded(values).astype(float).ravel())
    assert abs(found.sqnr_db - lost) < 0.2  # values are taken to be in the middle of their bins
    assert found.product_sqnr_db == found.sqnr_db
    assert found.grid == grid(found.range.low, found.range.high, symmetric)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("method", ["min-max", "percentile", "mse", "kl", "ema"])
def test_16_bits_are_enough_for_all_values(values, method, symmetric):
    wanted = settings(method, symmetric=symmetric, bits=16)
    found = measured(folded(wanted.statistics(weighed=False), values), wanted, None)
    reach = (found.range.low, found.range.high)
    largest = np.abs(values).max()
    ends = (-largest, largest) if symmetric else (min(values.min(), 0), max(values.max(), 0))
    assert reach == tuple(map(float, ends))
    assert found.grid == grid(*reach, symmetric, False, 16)
    real = values.astype(float).ravel()
    lost = sqnr_db(real, found.grid.rounded(values).astype(float).ravel())
    assert lost > 60
    assert abs(found.sqnr_db - lost) < 0.5  # a step is a fraction of a bin


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_best_mode_is_that_of_the_best_products(values, symmetric):
    statistics = folded(settings().statistics(weighed=True), values)
    sample = ProductSample.of(statistics[-1].values, [np.eye(50, dtype=np.float32)])
    modes = ("naive", "symmetric", "independent", "conjugate")
    losses = {
        mode: measured(statistics, settings("kl", mode, symmetric), sample).product_sqnr_db
        for mode in (modes[:2] if symmetric else modes)
    }
    best = measured(statistics, settings(symmetric=symmetric), sample)
    assert best.product_sqnr_db == max(losses.values())
    assert losses[best.range.method.removeprefix("kl-")] == max(losses.values())


def test_of_equal_modes_the_widest_range():
    values = np.array([[-1.0, 1.0]] * 64, np.float32)
    statistics = folded(settings().statistics(weighed=False), values)
    assert measured(statistics, settings(), None).range.method == "kl-naive"


def test_the_moving_range_is_that_of_samples_in_order():
    wanted = settings("ema")
    samples = [np.array([-1, 2], np.float32), np.array([-3, 6], np.float32)]
    found = measured(folded(wanted.statistics(weighed=False), *samples), wanted, None)
    assert (found.range.low, found.range.high) == (-2, 4)
    assert found.range.method == "ema"


@pytest.mark.parametrize("samples", [(), (np.zeros((3, 4), np.float32),)])
def test_nothing_and_zeros(samples):
    found = measured(folded(settings().statistics(weighed=True), *samples), settings(), None)
    assert (found.grid, found.sqnr_db) == (grid(0, 0), math.inf)


@pytest.mark.parametrize(
    ("method", "weighed", "names"),
    [
        ("kl", False, ["Histogram"]),
        ("kl", True, ["Histogram", "RowSample"]),
        ("ema", True, ["Histogram", "MovingRange", "RowSample"]),
    ],
)
def test_what_is_measured(method, weighed, names):
    statistics = settings(method).statistics(weighed)
    assert [type(each).__name__ for each in statistics] == names
