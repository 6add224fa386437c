"""Moving averages against their definition, written out."""

import numpy as np
import pytest

from sardonyx.passes.quantize.observers.moving_range import MovingRange

SAMPLES = [[1.0, -1.0], [3.0, -2.0], [-8.0, 2.0]]


def moved(samples, decay=0.75):
    average = MovingRange(decay)
    for values in samples:
        average = average.add(np.array(values, np.float32))
    return average


def test_each_average_starts_at_the_first_value():
    first = moved(SAMPLES[:1])
    assert (first.low, first.high, first.largest) == (-1, 1, 1)


def test_each_average_moves_by_a_quarter():
    average = moved(SAMPLES)
    assert average.low == 0.75 * (0.75 * -1 + 0.25 * -2) + 0.25 * -8
    assert average.high == 0.75 * (0.75 * 1 + 0.25 * 3) + 0.25 * 2
    assert average.largest == 0.75 * (0.75 * 1 + 0.25 * 3) + 0.25 * 8


def test_the_order_counts():
    assert moved(SAMPLES).low != moved(SAMPLES[::-1]).low


def test_a_decay_of_0_is_the_last_sample_and_of_1_the_first():
    assert moved(SAMPLES, 0.0).low == -8
    assert moved(SAMPLES, 1.0).low == -1


def test_the_range_is_of_the_averages():
    average = moved(SAMPLES)
    affine, symmetric = average.range(symmetric=False), average.range(symmetric=True)
    assert (affine.low, affine.high, affine.method) == (average.low, average.high, "ema")
    assert (symmetric.low, symmetric.high) == (-average.largest, average.largest)


@pytest.mark.parametrize(("values", "ends"), [([2, 5], (0, 5)), ([-5, -2], (-5, 0))])
def test_the_range_holds_0(values, ends):
    found = moved([values]).range(symmetric=False)
    assert (found.low, found.high) == ends


@pytest.mark.parametrize("symmetric", [False, True])
def test_no_values(symmetric):
    found = moved([]).range(symmetric)
    assert (found.low, found.high) == (0, 0)
