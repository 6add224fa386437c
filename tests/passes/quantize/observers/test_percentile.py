"""Percentiles against the sorted values."""

import numpy as np
import pytest

from sardonyx.passes.quantize.observers.percentile import percentile

PERCENTS = (50.0, 99.0, 99.99, 100.0)


@pytest.mark.parametrize("percent", PERCENTS)
def test_symmetric_is_the_percentile_of_the_magnitude(values, histogram_of, percent):
    histogram = histogram_of(values)
    found = percentile(histogram, percent, symmetric=True)
    magnitudes = np.abs(values.astype(np.float32))
    exact = np.quantile(magnitudes, percent / 100, method="inverted_cdf")
    assert exact <= found.high <= exact + histogram.width
    assert found.low == -found.high
    assert found.loss == (magnitudes > found.high).mean()
    assert found.loss <= 1 - percent / 100 + 1e-15  # of a difference of shares


@pytest.mark.parametrize("percent", PERCENTS)
def test_affine_clips_half_at_each_end(values, histogram_of, percent):
    histogram = histogram_of(values)
    found = percentile(histogram, percent, symmetric=False)
    spare = values.size * (100 - percent) / 200
    values = values.astype(np.float32)
    for outwards, end in ((values, found.high), (-values, -found.low)):
        assert (outwards > end).sum() <= spare
        assert end == 0 or (outwards >= end - histogram.width).sum() > spare
    assert found.loss == ((values > found.high) | (values < found.low)).mean()


def test_all_values_are_kept_up_to_the_exact_ends(values, histogram_of):
    histogram = histogram_of(values)
    found = percentile(histogram, 100.0, symmetric=False)
    assert (found.low, found.high) == (min(histogram.low, 0), max(histogram.high, 0))
    assert percentile(histogram, 100.0, symmetric=True).high == histogram.largest
