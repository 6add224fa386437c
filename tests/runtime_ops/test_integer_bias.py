"""Integer biases: in units of the product that they are added to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis.extra import numpy as arrays

from sardonyx.runtime_ops.uniform import integer_bias


@given(
    arrays.arrays(np.float32, 5, elements=strategies.floats(-(2.0**100), 2.0**100, width=32)),
    arrays.arrays(np.float32, 5, elements=strategies.floats(2.0**-60, 2.0**60, width=32)),
)
def test_an_integer_bias_is_within_half_a_step_or_none(bias, scale):
    codes = integer_bias(bias, scale)
    exact = bias.astype(np.float64) / scale
    if np.any(np.abs(exact) >= 2**31):
        assert codes is None
    elif np.all(np.abs(exact) <= 2**31 - 2):
        assert codes.dtype == np.int32
        assert np.all(np.abs(codes - exact) <= 0.5)


def test_integer_biases():
    scale = np.full(4, 0.5, np.float32)
    assert integer_bias(np.array([0.25, 0.75, -0.25, 1.25]), scale).tolist() == [0, 2, 0, 2]
    most = np.array([2**31 - 1, -(2**31 - 1)])
    assert integer_bias(most, np.ones(2, np.float32)).tolist() == most.tolist()
    assert integer_bias(most + [1, 0], np.ones(2, np.float32)) is None
    assert integer_bias(most - [0, 1], np.ones(2, np.float32)) is None


@pytest.mark.parametrize("bias", [np.nan, np.inf])
def test_a_bias_that_is_not_finite_is_none(bias):
    assert integer_bias(np.array([bias, 1]), np.ones(2, np.float32)) is None


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_a_scale_that_underflowed_is_none(bias):
    assert integer_bias(np.array([bias]), np.zeros(1, np.float32)) is None
