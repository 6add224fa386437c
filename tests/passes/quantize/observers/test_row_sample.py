"""Real rows, each once, and no row likelier than another."""

import numpy as np
import pytest

from sardonyx.passes.quantize.observers.row_sample import RowSample


def rows_of(values):
    return {row.tobytes() for row in values.reshape(-1, values.shape[-1])}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_are_real_and_distinct(dtype, normal):
    values = normal(4, 25, 6).astype(dtype)
    sample = RowSample(10).add(values).add(values)
    assert (sample.values.shape, sample.values.dtype) == ((10, 6), dtype)
    assert len(rows_of(sample.values)) == 10
    assert rows_of(sample.values) <= rows_of(values)


def test_fewer_rows_than_asked_for_are_all_kept(normal):
    values = normal(5, 3)
    assert rows_of(RowSample(8).add(values).values) == rows_of(values)


def test_a_row_with_a_fill_is_left_out():
    values = np.array([[1, 2], [3, -np.inf], [5, 6]], np.float32)
    assert rows_of(RowSample(8).add(values).values) == rows_of(values[[0, 2]])


@pytest.mark.parametrize("values", [np.arange(4000.0), np.linspace(-1, 1, 4000)])
def test_a_sample_is_spread_like_its_rows(values):
    """Bounds of 6 standard deviations of the mean of 500 uniform values."""
    rows = np.stack([values, -values], axis=1).astype(np.float32)
    sample = RowSample(500).add(rows).values[:, 0]
    assert abs(sample.mean() - values.mean()) < 6 * values.std() / 500**0.5


def test_rows_are_told_apart_by_the_order_of_their_values():
    values = np.array([[1, 2, 0], [2, 1, 0], [0, 1, 2]], np.float32)
    assert len(RowSample(8).add(values).values) == 3


def test_another_width_is_refused(normal):
    with pytest.raises(ValueError, match="has a last axis of 4 after one of 3"):
        RowSample(5).add(normal(2, 3)).add(normal(2, 4))


def test_a_row_of_zeros_is_like_any_other(normal):
    rows = normal(40, 3)
    rows[7] = 0
    assert RowSample(1).add(rows).values.any()
