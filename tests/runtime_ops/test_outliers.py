"""Outlier rules against their definitions, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from sardonyx.runtime_ops.outliers import DEFAULT_THRESHOLDS, Band, band, check_threshold

MARGIN = 1e-6
"""Weights this near to a cut are not judged: both sides round."""


def arrays(dtype, max_size=60):
    width = np.dtype(dtype).itemsize * 8
    elements = st.floats(-1024, 1024, allow_subnormal=False, width=width)
    shapes = hnp.array_shapes(min_dims=1, max_dims=2, max_side=max_size)
    return hnp.arrays(dtype, shapes, elements=elements)


def check(weights, rule, threshold, score, cut):
    """Outliers are the weights whose score exceeds the cut."""
    mask = band(weights, rule, threshold).outliers(weights)
    assert mask.shape == weights.shape
    judged = np.abs(score - cut) > MARGIN * max(1.0, abs(cut))
    np.testing.assert_array_equal(mask[judged], (score > cut)[judged])


@settings(max_examples=200, deadline=None)
@given(arrays(np.float64), st.floats(-12, 2), st.sampled_from([1e-3, 1.0, 1e3]))
@example(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 9.0]]), -4.0, 1e-3)
def test_logpdf_is_the_literal_reading(weights, threshold, scale):
    weights = weights * scale
    assume(weights.std() > 1e-6 * np.abs(weights).max())
    density = stats.norm.logpdf(weights, weights.mean(), weights.std())
    check(weights, "logpdf", threshold, -density, -threshold)


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64), st.floats(0.1, 6))
def test_z(weights, threshold):
    assume(weights.std() > 1e-6 * np.abs(weights).max())
    distance = np.abs(weights - weights.mean()) / weights.std()
    check(weights, "z", threshold, distance, threshold)


@pytest.mark.parametrize("threshold", [0.5, 3.0, 6.25])
def test_z_band(threshold):
    weights = np.random.default_rng(0).standard_t(3, 5000) + 2
    found = band(weights, "z", threshold)
    cut = threshold * weights.std()
    expected = [weights.mean() - cut, weights.mean() + cut]
    assert [found.low, found.high] == pytest.approx(expected, rel=1e-12)  # order of float64 sums


@settings(max_examples=200, deadline=None)
@given(arrays(np.float32), st.floats(0, 1))
@example(np.float32([1.1, 0.3, -0.7, 0.2]), 0.0)
@example(np.float32([0.1, 0.1, 0.1, 7.0]), 0.25)
def test_share(weights, share):
    """At most the share, the farthest first; all of the share unless distances tie."""
    mask = band(weights, "share", share).outliers(weights)
    allowed = int(share * weights.size)
    assert mask.sum() <= allowed
    wide = weights.astype(np.float64)
    distance = np.abs(wide - wide.mean())
    rounding = 1e-6 * np.abs(wide).max()
    if mask.any() and not mask.all():
        assert distance[mask].min() >= distance[~mask].max() - rounding
    ordered = np.sort(distance, axis=None)
    last_inside = ordered[max(weights.size - allowed - 1, 0)]
    assert mask.sum() >= min(allowed, (distance > last_inside + rounding).sum())


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.01, 10), (0.0109, 10), (0.5, 500)])
def test_share_of_weights_that_do_not_tie(share, count):
    weights = np.random.default_rng(0).standard_normal(1000)
    mask = band(weights, "share", share).outliers(weights)
    far = np.argsort(np.abs(weights - weights.mean()))[1000 - count :]
    assert set(np.flatnonzero(mask)) == set(far)


def test_share_of_one_is_all():
    weights = np.float32([1, 2, 3])
    assert band(weights, "share", 1.0).outliers(weights).all()


def test_ties_at_the_share_stay_inside():
    weights = np.float32([0, 0, 0, -1, 1])
    assert not band(weights, "share", 0.2).outliers(weights).any()
    assert band(weights, "share", 0.4).outliers(weights).tolist() == [False] * 3 + [True] * 2


@pytest.mark.parametrize("rule", ["logpdf", "z", "share"])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.25, 1e30])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_constant_weights_have_no_outliers(rule, value, size):
    weights = np.full(size, value, np.float32)
    assert not band(weights, rule, None).outliers(weights).any()


def test_logpdf_cut_depends_on_the_spread():
    """Standard deviation 0.04: 3.55 of them; beyond exp(4) / sqrt(2 pi) = 21.8: no weight stays."""
    weights = np.tile(np.float64([-0.04, 0.04]), 50)
    cut = 0.04 * math.sqrt(2 * (4 - math.log(0.04 * math.sqrt(2 * math.pi))))
    assert cut / 0.04 == pytest.approx(3.55, abs=5e-3)
    found = band(weights, "logpdf", -4.0)
    assert [found.low, found.high] == pytest.approx([-cut, cut], rel=1e-12)  # float64 rounding
    wide = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    wide /= wide.std()
    assert band(wide * 21, "logpdf", -4.0).outliers(wide * 21).mean() < 1
    assert band(wide * 22, "logpdf", -4.0).outliers(wide * 22).all()


@pytest.mark.parametrize("rule", ["logpdf", "z", "share"])
def test_none_is_the_default_threshold(rule):
    weights = np.random.default_rng(0).standard_t(3, 5000).astype(np.float32) * 0.04
    found = band(weights, rule, None)
    assert found == band(weights, rule, DEFAULT_THRESHOLDS[rule])
    assert 0 < found.outliers(weights).mean() < 0.05


@pytest.mark.parametrize("rule", ["logpdf", "z", "share"])
def test_float32_keeps_the_moments_of_float64(rule):
    """A mean that float32 cannot hold, squares that it cannot hold."""
    small = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    for weights in (small * 0.01 + 100, small * np.float32(1e25)):
        found, wide = (band(weights.astype(d), rule, None) for d in (np.float32, np.float64))
        if math.isfinite(wide.low):
            step = float(np.spacing(np.abs(weights).max()))
            assert [found.low, found.high] == pytest.approx([wide.low, wide.high], abs=step)
        else:
            assert found == wide


def test_greatest_float32_weights():
    weights = np.tile(np.float32([-3.4e38, 3.4e38]), 4)
    assert not band(weights, "z", 3.0).outliers(weights).any()
    assert band(weights, "logpdf", -4.0).outliers(weights).all()


def test_a_band_is_closed():
    found = Band(-1.0, 2.0).outliers(np.float32([[-1.5, -1], [2, 2.5]]))
    assert found.tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize(
    ("rule", "threshold", "reason"),
    [
        ("z", 0.0, "above 0"),
        ("z", -1.0, "above 0"),
        ("z", math.nan, "above 0"),
        ("share", -0.1, "between 0 and 1"),
        ("share", 1.1, "between 0 and 1"),
        ("share", math.nan, "between 0 and 1"),
        ("logpdf", math.nan, "finite"),
        ("logpdf", -math.inf, "finite"),
        ("z", math.inf, "finite"),
    ],
)
def test_thresholds_without_sense(rule, threshold, reason):
    with pytest.raises(ValueError, match=reason):
        check_threshold(rule, threshold)


@pytest.mark.parametrize(
    ("rule", "threshold"), [("logpdf", 3.0), ("z", 0.1), ("share", 0.0), ("share", 1.0)]
)
def test_thresholds_with_sense(rule, threshold):
    check_threshold(rule, threshold)
