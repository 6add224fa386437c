"""Sums of two products in 16 bits: at 7 bits they never saturate, at 8 they do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sardonyx.runtime_ops.pair_sums import LARGEST_EXACT, may_saturate
from sardonyx.runtime_ops.uniform import encode, largest


def pair_sums(activations, weights):
    """What VPMADDUBSW makes of neighbours: exact, and cut to 16 bits."""
    products = activations.astype(np.int64) * weights.astype(np.int64)
    exact = products[0::2] + products[1::2]
    return exact, np.clip(exact, -(2**15), 2**15 - 1)


def weights_within(magnitude):
    return arrays.arrays(np.int8, 64, elements=st.integers(-magnitude, magnitude))


ACTIVATIONS = arrays.arrays(np.uint8, 64)


@given(ACTIVATIONS, weights_within(LARGEST_EXACT))
def test_never_up_to_the_largest(activations, weights):
    exact, cut = pair_sums(activations, weights)
    assert np.array_equal(exact, cut)
    assert not may_saturate(weights)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_worst_case(sign):
    full = np.full(2, 255, np.uint8)
    worst = [pair_sums(full, np.full(2, sign * m, np.int8)) for m in (LARGEST_EXACT, 65)]
    assert [abs(exact.item()) for exact, _ in worst] == [32_640, 33_150]
    assert [bool(exact == cut) for exact, cut in worst] == [True, False]


@given(st.integers(0, 2**32 - 1))
def test_weights_of_7_bits(seed):
    weights = np.random.default_rng(seed).standard_normal((16, 4)).astype(np.float32)
    tensor, _ = encode(weights, bits=7)
    assert np.abs(tensor.codes).max() == largest(7) == 63
    assert not may_saturate(tensor.codes)
    eight, _ = encode(weights, bits=8)
    assert may_saturate(eight.codes)
    assert not may_saturate(encode(weights, bits=8, unsigned=True)[0].codes)


def test_8_bits_do():
    weights, activations = np.full(64, 127, np.int8), np.full(64, 200, np.uint8)
    exact, cut = pair_sums(activations, weights)
    assert np.all(exact == 2 * 127 * 200)
    assert np.all(cut == 2**15 - 1)


@pytest.mark.parametrize(
    ("codes", "does"),
    [
        ([], False),
        ([64, -64], False),
        ([65, 0], True),
        ([0, -65], True),
        ([-128], True),
    ],
)
def test_where_it_may(codes, does):
    assert may_saturate(np.array(codes, np.int8)) is does
