"""Which method the settings name; what all methods have in common."""

import itertools

import numpy as np
import pytest

from sardonyx.passes.quantize.observers.find import Settings, find_range
from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.observers.ranges import Range

MODES = ("naive", "symmetric", "independent", "conjugate")

ALL = [
    *(Settings("min-max", symmetric=s) for s in (True, False)),
    *(Settings("percentile", symmetric=s, percentile=99.0) for s in (True, False)),
    *(
        Settings("mse", symmetric=s, solver=solver)
        for s in (True, False)
        for solver in ("grid", "golden")
    ),
    *(Settings("kl", mode=mode, symmetric=s) for mode in MODES for s in (True, False)),
]


def is_symmetric(settings):
    if settings.method == "kl" and settings.mode != "naive":
        return settings.mode in ("symmetric", "conjugate")
    return settings.symmetric


def label(settings):
    return f"{settings.method}-{settings.mode}-{settings.symmetric}-{settings.solver}"


@pytest.mark.parametrize("settings", ALL, ids=label)
def test_a_range_is_within_the_values(values, histogram_of, settings):
    histogram = histogram_of(values)
    found = find_range(histogram, settings)
    assert found.method.startswith(settings.method)
    if is_symmetric(settings):
        assert 0 < found.high == -found.low <= histogram.largest
    else:
        assert min(histogram.low, 0) <= found.low <= 0 < found.high <= histogram.high
    assert found == find_range(histogram, settings)


@pytest.mark.parametrize("settings", ALL, ids=label)
@pytest.mark.parametrize("values", [[], [0.0, -0.0], [-np.inf]])
def test_no_range_without_values_but_zero(histogram_of, settings, values):
    found = find_range(histogram_of(values), settings)
    assert (found.low, found.high, found.loss, found.curve) == (0, 0, 0, ())


@pytest.mark.parametrize("settings", ALL, ids=label)
@pytest.mark.parametrize("scale", [2.0**-60, 2.0**60])
def test_a_power_of_two_scales_the_range(values, histogram_of, settings, scale):
    found, scaled = (
        find_range(histogram_of(values.astype(np.float32) * s), settings) for s in (1.0, scale)
    )
    assert (scaled.low, scaled.high) == (found.low * scale, found.high * scale)


@pytest.mark.parametrize("settings", ALL, ids=label)
@pytest.mark.parametrize("value", [1e-45, -1e-45, 1e30, -1e30])
def test_the_ends_of_float32(histogram_of, settings, value):
    found = find_range(histogram_of([value, value / 4, 0]), settings)
    assert found.low <= 0 <= found.high
    assert found.low < found.high


def test_the_methods_differ(histogram_of):
    values = np.random.default_rng(1).laplace(size=20_000)
    histogram = histogram_of(np.concatenate([values, [-30.0, 50.0]]))
    found = {(r.low, r.high) for r in (find_range(histogram, s) for s in ALL if s.mode != "naive")}
    assert len(found) >= 8


def test_min_max_is_exact(histogram_of, values):
    found = find_range(histogram_of(values), Settings("min-max", symmetric=False))
    values = values.astype(np.float32)
    assert (found.low, found.high) == (min(values.min(), 0), values.max())
    naive = find_range(histogram_of(values), Settings("kl", "naive", symmetric=False))
    assert (naive.low, naive.high, naive.method) == (found.low, found.high, "kl-naive")


@pytest.mark.parametrize("values", [[2.0, 5.0], [-5.0, -2.0]])
def test_a_range_holds_0(histogram_of, values):
    found = find_range(histogram_of(values), Settings("min-max", symmetric=False))
    assert sorted([found.low, found.high], key=abs) == [0, max(values, key=abs)]


@pytest.mark.parametrize("ends", [(1.0, 2.0), (-2.0, -1.0), (float("nan"), 1.0)])
def test_a_range_without_0_is_refused(ends):
    with pytest.raises(ValueError, match="does not hold 0"):
        Range(*ends, "min-max", 0.0)


@pytest.mark.parametrize("settings", ALL, ids=label)
def test_the_batches_do_not_matter(histogram_of, values, settings):
    whole = histogram_of(values)
    parts = Histogram()
    for start, stop in itertools.pairwise([0, 1, 7, 5000, values.size]):
        parts = parts.merge(histogram_of(values[start:stop]))
    assert find_range(parts, settings) == find_range(whole, settings)
