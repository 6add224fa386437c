"""The streaming histogram against numpy's, and the ends of the number line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.passes.quantize.observers.histogram import BINS, Histogram


def edges(histogram):
    return np.arange(histogram.bins + 1) * histogram.width


@given(
    st.lists(st.floats(-(2.0**90), 2.0**90, width=32) | st.sampled_from([1.0, -0.0]), min_size=1),
    st.sampled_from([1, 2, 16, 256]),
)
def test_counts_are_those_of_numpy(values, bins):
    values = np.array(values, np.float32)
    histogram = Histogram(np.zeros(2 * bins, np.int64)).add(values)
    for side, of in (
        (histogram.positive, values[values >= 0]),
        (histogram.negative, -values[values < 0]),
    ):
        assert side.tolist() == np.histogram(of, edges(histogram))[0].tolist()
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    assert (histogram.count, histogram.zeros) == (values.size, (values == 0).sum())
    assert histogram.counts.sum() == histogram.count


@pytest.mark.parametrize("scale", [2.0**-100, 1e-20, 1.0, 3.0, 2.0**90])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bins_are_the_least_power_of_two_that_holds_the_largest(scale, dtype, normal):
    values = (normal(1000) * scale).astype(dtype)
    histogram = Histogram().add(values)
    reach = BINS * histogram.width
    assert reach / 2 <= np.abs(values).max() < reach
    assert histogram.largest == np.abs(values).max()


def test_the_largest_magnitude_at_the_edge_of_a_bin():
    histogram = Histogram(np.zeros(8, np.int64)).add(np.array([4.0, -4.0, 3.9], np.float32))
    assert (histogram.width, histogram.counts.tolist()) == (2.0, [0, 1, 0, 0, 0, 1, 1, 0])


def test_no_values():
    histogram = Histogram()
    assert (histogram.low, histogram.high, histogram.largest) == (np.inf, -np.inf, 0)
    assert not histogram.counts.any()


def test_zeros_of_either_sign():
    histogram = Histogram().add(np.array([0.0, -0.0, 0.0], np.float32))
    assert (histogram.zeros, histogram.count, histogram.positive[0]) == (3, 3, 3)
    assert (histogram.low, histogram.high, histogram.largest) == (0, 0, 0)


def test_a_tensor_of_one_value():
    histogram = Histogram().add(np.full(7, -0.1, np.float32))
    assert histogram.negative.max() == histogram.count == 7
    assert histogram.low == histogram.high == np.float32(-0.1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_denormals_are_counted_beside_zero(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    histogram = Histogram().add(np.array([tiny, -tiny, 0], dtype))
    assert (histogram.positive[0], histogram.negative[0], histogram.zeros) == (2, 1, 1)
    assert (histogram.low, histogram.high) == (-tiny, tiny)


def test_float64_keeps_its_exact_ends():
    assert Histogram().add(np.array([0.1, -0.7])).high == 0.1


def test_growth_from_the_smallest_to_the_largest():
    grown = Histogram().add(np.array([1e-38, -1e-38, 0], np.float32)).add(np.array([1e30], "f4"))
    assert (grown.positive[0], grown.negative[0], grown.positive.sum()) == (2, 1, 3)
    assert 1e30 / grown.width >= BINS / 2
