"""Expected squared errors against values rounded one by one; searches against all shares."""

import itertools

import numpy as np
import pytest

from sardonyx.passes.quantize.observers.mse import golden, grid, mse, squared_error

ROUNDING = 1e-9
"""Relative: differences of sums of squares up to 10^6 times as large as they, in float64."""

HUNDREDTHS = [i / 100 for i in range(1, 101)]


def centres(values, histogram):
    """The values moved to the centres of their bins; zeros stay."""
    bins = np.trunc(values.astype(np.float32) / histogram.width) + np.sign(values) / 2
    return bins * histogram.width


def rounded_error(values, low, high, levels):
    scale = (high - low) / (levels - 1)
    zero_point = np.floor(-low / scale + 0.5)
    codes = np.clip(np.round(values / scale) + zero_point, 0, levels - 1)
    return ((values - (codes - zero_point) * scale) ** 2).mean()


@pytest.mark.parametrize("levels", [3, 15, 255, 256])
@pytest.mark.parametrize("ends", [(1.0, 1.0), (0.3, 0.3), (0.05, 0.9), (1.0, 0.01), (0.0, 0.5)])
def test_the_error_is_that_of_each_value_rounded(values, histogram_of, levels, ends):
    histogram = histogram_of(values)
    low, high = -ends[0] * histogram.largest, ends[1] * histogram.largest
    expected = rounded_error(centres(values, histogram), low, high, levels)
    assert squared_error(histogram, levels)(low, high) == pytest.approx(expected, rel=ROUNDING)


def test_a_grid_as_fine_as_the_bins_has_the_error_of_half_bins(histogram_of):
    histogram = histogram_of([-4.0, -2.5, 0.0, 1.0, 3.5], bins=8)
    error = squared_error(histogram, 17)(-8 * histogram.width, 8 * histogram.width)
    assert error == 4 / 5 * (histogram.width / 2) ** 2


@pytest.mark.parametrize("bits", [4, 8])
def test_symmetric_grid_is_the_best_of_100_shares(values, histogram_of, bits):
    histogram = histogram_of(values)
    found = mse(histogram, bits, True, grid)
    errors = {}
    for share in HUNDREDTHS:
        high = share * histogram.largest
        errors[high] = rounded_error(centres(values, histogram), -high, high, 2**bits - 1)
    assert found.high == min(errors, key=errors.get)
    assert found.low == -found.high
    assert found.loss == pytest.approx(min(errors.values()), rel=ROUNDING)
    assert dict(found.curve) == pytest.approx(errors, rel=ROUNDING)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_golden_section_is_as_good_as_the_grid(values, histogram_of, bits, symmetric):
    """To 2 %: near its least, the error ripples as grid points pass over values."""
    histogram = histogram_of(values)
    by_grid = mse(histogram, bits, symmetric, grid)
    assert mse(histogram, bits, symmetric, golden).loss <= 1.02 * by_grid.loss


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("sign", [1, -1])
def test_affine_search_by_turns_is_near_the_best_of_all_pairs(values, histogram_of, bits, sign):
    """To 1 %: the ends are searched in turns, each to a hundredth."""
    histogram = histogram_of(sign * values)
    loss = squared_error(histogram, 2**bits)
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    pairs = itertools.product(HUNDREDTHS[1::2], repeat=2)
    found = mse(histogram, bits, False, grid)
    assert found.loss <= 1.01 * min(loss(left * low, right * high) for left, right in pairs)
    assert found.loss == loss(found.low, found.high)
    assert low <= found.low <= 0 <= found.high <= high


def test_the_curve_rises_from_tries_of_low_to_tries_of_high(histogram_of, normal):
    found = mse(histogram_of(normal(5000)), 8, False, grid)
    thresholds = [threshold for threshold, _ in found.curve]
    assert thresholds == sorted(thresholds)
    assert len(thresholds) == 200
    assert found.low in thresholds
    assert found.high in thresholds


@pytest.mark.parametrize("value", [3.0, -3.0])
@pytest.mark.parametrize("symmetric", [True, False])
def test_one_value_keeps_its_own_range(histogram_of, value, symmetric):
    found = mse(histogram_of([value]), 8, symmetric, grid)
    assert value in (found.low, found.high)


@pytest.mark.parametrize("best", [0.001, 0.1, 0.3, 0.7, 0.999, 1.0])
def test_golden_section_finds_the_least_of_a_parabola(best):
    share, tries = golden(lambda share: (share - best) ** 2)
    assert abs(share - best) <= 1e-3
    assert len(tries) < 20


@pytest.mark.parametrize("solver", [grid, golden])
def test_of_equal_losses_the_full_range_wins(solver):
    assert solver(lambda share: 0.0)[0] == 1
