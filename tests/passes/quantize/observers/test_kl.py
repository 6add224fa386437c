"""Divergences against scipy's, and thresholds against a loop over all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from sardonyx.passes.quantize.observers.kl import (
    divergences,
    kl_conjugate,
    kl_independent,
    kl_symmetric,
)

ROUNDING = {"rel": 1e-9, "abs": 1e-12}
"""Sums of counts x log in float64, taken as differences of prefix sums."""


def divergence(counts, kept, levels):
    """KL(P || Q) by its definition, a bin at a time."""
    p = counts[:kept].astype(np.float64)
    p[-1] += counts[kept:].sum()
    q = np.zeros(kept)
    for level in range(levels):
        bins = range(level * kept // levels, (level + 1) * kept // levels)
        filled = [j for j in bins if p[j] > 0]
        q[filled] = sum(counts[j] for j in bins) / max(len(filled), 1)
    return entropy(p, q) if q.any() else np.inf


counts = st.lists(st.sampled_from([0, 0, 1, 2, 30, 10_000]), max_size=60).flatmap(
    lambda inner: st.integers(1, 50).map(lambda last: np.array([*inner, last]))
)


@given(counts, st.sampled_from([1, 2, 3, 8, 16]))
def test_divergences_are_those_of_scipy_and_all_that_are_finite(counts, levels):
    kept, found = divergences(counts, levels)
    expected = {
        i: divergence(counts, i, levels) for i in range(min(levels, counts.size), counts.size + 1)
    }
    finite = {i: value for i, value in expected.items() if np.isfinite(value)}
    assert dict(zip(kept.tolist(), found.tolist(), strict=True)) == pytest.approx(
        finite, **ROUNDING
    )


@pytest.mark.parametrize("bits", [4, 8])
def test_divergences_of_real_counts(values, histogram_of, bits):
    magnitudes = np.abs(values[values != 0])
    counts = np.histogram(magnitudes, 1500)[0]
    kept, found = divergences(counts, 2 ** (bits - 1))
    for i in range(0, kept.size, 40):
        assert found[i] == pytest.approx(divergence(counts, kept[i], 2 ** (bits - 1)), **ROUNDING)


def test_thresholds_tried_are_dense():
    kept, _ = divergences(np.ones(8000, np.int64), 128)
    assert (kept[0], kept[-1]) == (128, 8000)
    assert (np.diff(kept) <= np.maximum(1, kept[1:] // 256)).all()


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_the_threshold_is_the_best_of_all(values, histogram_of, bits):
    """256 bins a side: few enough for all thresholds to be tried."""
    histogram = histogram_of(values, bins=256)
    counts = histogram.positive + histogram.negative
    counts[0] -= histogram.zeros
    counts = counts[: np.flatnonzero(counts)[-1] + 1]
    levels = 2 ** (bits - 1)
    expected = {
        i: divergence(counts, i, levels) for i in range(min(levels, counts.size), counts.size + 1)
    }
    found = kl_symmetric(histogram, bits)
    best = min(expected, key=expected.get)
    assert found.high == min(best * histogram.width, histogram.largest)
    assert found.low == -found.high
    assert found.loss == pytest.approx(expected[best], **ROUNDING)


def test_of_equal_divergences_the_largest_threshold_wins(histogram_of):
    """Three to five bins hold the same values, in two levels with one value each."""
    histogram = histogram_of([0.5] * 9 + [2.5, 6.5], bins=8)
    expected = [divergence(histogram.positive, i, 2) for i in range(3, 8)]
    assert expected[:3] == pytest.approx([min(expected)] * 3, **ROUNDING)
    assert kl_symmetric(histogram, 2).high == 5


def test_evenly_spread_values_are_not_clipped(histogram_of):
    histogram = histogram_of(np.linspace(-1, 1, 100_001))
    assert kl_symmetric(histogram, 8).high == 1


def test_a_far_outlier_is_clipped(histogram_of, normal):
    values = np.concatenate([normal(50_000), [2.0, 4.0]])
    assert kl_symmetric(histogram_of(values), 8).high < 10 * 0.04


def test_each_side_finds_its_own(values, histogram_of):
    """The threshold of a side is that of its values alone."""
    found = kl_independent(histogram_of(values), 8)
    for end, side in ((found.high, values), (-found.low, -values)):
        alone = histogram_of(side[side > 0])
        if alone.width == histogram_of(values).width:
            assert end == kl_symmetric(alone, 8).high
    assert (found.low == 0) == (values >= 0).all()


def test_conjugate_takes_the_larger_of_both(values, histogram_of):
    histogram = histogram_of(values)
    independent, conjugate = kl_independent(histogram, 8), kl_conjugate(histogram, 8)
    assert conjugate.high == -conjugate.low == max(-independent.low, independent.high)
    assert (conjugate.loss, conjugate.curve) == (independent.loss, independent.curve)


@pytest.mark.parametrize("find", [kl_symmetric, kl_independent])
def test_exact_zeros_change_nothing(values, histogram_of, find):
    more = np.concatenate([values, np.zeros(100_000)])
    assert find(histogram_of(more), 8) == find(histogram_of(values), 8)


@pytest.mark.parametrize("find", [kl_symmetric, kl_independent])
def test_the_curve_holds_what_was_chosen(values, histogram_of, find):
    histogram = histogram_of(values)
    found = find(histogram, 8)
    thresholds = [threshold for threshold, _ in found.curve]
    assert thresholds == sorted(thresholds)
    assert sum(t > 0 for t in thresholds) <= 256
    assert sum(t < 0 for t in thresholds) <= 256
    assert min(loss for t, loss in found.curve if t > 0) <= found.loss
    assert min(abs(t - found.high) for t in thresholds) <= histogram.width


@pytest.mark.parametrize(("value", "ends"), [(3.0, (0, 3)), (-3.0, (-3, 0))])
def test_one_value_keeps_its_own_range(histogram_of, value, ends):
    histogram = histogram_of([value] * 9)
    found = kl_independent(histogram, 8)
    assert (found.low, found.high, found.loss) == (*ends, 0)
    assert kl_symmetric(histogram, 8).high == 3


def test_few_bins_are_not_clipped(histogram_of):
    """Finer than the levels: nothing is lost by quantizing, only by clipping."""
    histogram = histogram_of(np.repeat([-0.1, 0.3, 1.0], 5), bins=64)
    assert kl_symmetric(histogram, 8).high == 1
