"""Uniform integers: held against onnxruntime's QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import dataclasses
import functools
import math

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import assume, given, strategies
from hypothesis.extra import numpy as arrays

from sardonyx.runtime_ops.uniform import encode, integer_bias, largest, sqnr_db

TINY = 2.0**-126
"""The least normal float32, and the least scale."""

LARGE = 2.0**100
FLOATS = strategies.floats(-LARGE, LARGE, width=32)
MATRICES = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=FLOATS
)
PER = strategies.sampled_from(["tensor", "channel"])
BITS = strategies.integers(2, 8)


@pytest.fixture(scope="module")
def session(text_model):
    """onnxruntime for the text of a graph, made once."""

    @functools.cache
    def make(text):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        stored = text_model(text).SerializeToString()
        return ort.InferenceSession(stored, options, providers=["CPUExecutionProvider"])

    return make


@pytest.fixture(scope="module")
def quantize(session):
    """Codes of values on scales and zero points, by onnxruntime: of all, or of each column."""

    def run(x, scale, zero_point):
        kind, size = zero_point.dtype, "N" * scale.ndim
        shape = ",".join("KLN"[-x.ndim :])
        made = session(
            f"g (float[{shape}] X, float[{size}] S, {kind}[{size}] Z) => ({kind}[{shape}] Q) {{\n"
            f"Q = QuantizeLinear <axis = {x.ndim - 1}> (X, S, Z) }}"
        )
        return made.run(None, {"X": x, "S": scale, "Z": zero_point})[0]

    return run


@pytest.fixture(scope="module")
def dequantize(session):
    """What codes decode to, by onnxruntime."""

    def run(codes, scale, zero_point):
        kind, size = codes.dtype, "N" * scale.ndim
        shape = ",".join("KLN"[-codes.ndim :])
        made = session(
            f"g ({kind}[{shape}] Q, float[{size}] S, {kind}[{size}] Z) => (float[{shape}] Y) {{\n"
            f"Y = DequantizeLinear <axis = {codes.ndim - 1}> (Q, S, Z) }}"
        )
        return made.run(None, {"Q": codes, "S": scale, "Z": zero_point})[0]

    return run


def zero_points(tensor):
    return np.full(tensor.scale.shape, tensor.zero_point, tensor.codes.dtype)


@given(MATRICES, BITS, PER, strategies.booleans())
def test_a_matrix_decodes_as_dequantize_linear_does(dequantize, weights, bits, per, unsigned):
    tensor, _ = encode(weights, bits, per, unsigned)
    assert tensor.codes.dtype == (np.uint8 if unsigned else np.int8)
    assert tensor.zero_point == (128 if unsigned else 0)
    assert np.array_equal(
        tensor.decode(), dequantize(tensor.codes, tensor.scale, zero_points(tensor))
    )
    assert tensor.contradiction(weights) == ""
    assert np.abs(tensor.codes.astype(int) - tensor.zero_point).max() <= 2 ** (bits - 1) - 1


@given(MATRICES, PER)
def test_the_codes_are_those_of_quantize_linear(quantize, weights, per):
    tensor, _ = encode(weights, 8, per)
    assert np.array_equal(tensor.codes, quantize(weights, tensor.scale, zero_points(tensor)))


@given(MATRICES, BITS, PER)
def test_the_largest_weight_has_the_largest_code(weights, bits, per):
    tensor, _ = encode(weights, bits, per)
    parts = weights.T if per == "channel" else [weights]
    codes = tensor.codes.T if per == "channel" else [tensor.codes]
    for part, code in zip(parts, codes, strict=True):
        if np.abs(part).max() >= TINY * largest(bits):
            assert np.abs(code).max() == largest(bits)


def test_half_to_even_and_the_other_sign():
    tensor, _ = encode(np.array([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5]], np.float32), per="tensor")
    assert tensor.scale == 1
    assert tensor.codes.tolist() == [[127, 0, 2, 2, 0, -2]]


def test_columns_of_zeros_have_scale_1():
    tensor, loss = encode(np.array([[0, 1], [0, 2]], np.float32))
    assert tensor.scale.tolist() == [1, np.float32(2 / 127)]
    assert tensor.codes.tolist() == [[0, 64], [0, 127]]
    assert 40 < loss < 60
    assert encode(np.zeros((3, 2), np.float32))[1] == math.inf


def test_subnormal_weights_do_not_make_a_scale_of_zero():
    tensor, _ = encode(np.full((2, 2), 1e-42, np.float32))
    assert np.all(tensor.scale == np.float32(TINY))
    assert tensor.contradiction(np.full((2, 2), 1e-42, np.float32)) == ""


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_other_floats(normal, dtype, per):
    weights = normal(20, 30, dtype=dtype)
    tensor, loss = encode(weights, 8, per)
    assert tensor.decode().dtype == dtype
    assert tensor.contradiction(weights) == ""
    assert loss == pytest.approx(encode(weights.astype(np.float32), 8, per)[1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_what_is_not_finite_is_refused(value, per):
    weights = np.ones((3, 4), np.float32)
    weights[1, 2] = value
    with pytest.raises(ValueError, match="holds NaN or infinite values"):
        encode(weights, 8, per)


def test_what_float32_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="holds NaN or infinite values"):
        encode(np.array([[1e300]]))


def test_loss_is_the_ratio_of_energies(normal):
    weights = normal(40, 50)
    tensor, loss = encode(weights, 5)
    noise = np.sum(np.square(weights.astype(float) - tensor.decode()))
    assert loss == pytest.approx(10 * np.log10(np.sum(np.square(weights.astype(float))) / noise))


@pytest.mark.parametrize(
    ("per", "unsigned", "name", "groups", "nbytes"),
    [
        ("channel", False, "uniform7/channel", 5, 20 + 20),
        ("tensor", False, "uniform7/tensor", 1, 20 + 4),
        ("channel", True, "uniform7/channel", 5, 20 + 20),
    ],
)
def test_what_a_tensor_says_of_itself(normal, per, unsigned, name, groups, nbytes):
    tensor, _ = encode(normal(4, 5), 7, per, unsigned)
    assert str(tensor.format) == name
    assert (tensor.groups, tensor.nbytes, tensor.outliers) == (groups, nbytes, 0)


@given(MATRICES, BITS, PER, strategies.floats(0.05, 1))
def test_weights_beyond_a_reach_have_the_last_codes(weights, bits, per, share):
    reach = share * float(np.abs(weights).max())
    assume(reach >= TINY * largest(bits))  # the least scale reaches that far
    clipped, _ = encode(weights, bits, per, reach=reach)
    within = np.clip(weights, -np.float32(reach), np.float32(reach))
    inside, _ = encode(within, bits, per)
    assert np.array_equal(clipped.codes, inside.codes)
    assert np.array_equal(clipped.scale, inside.scale)
    assert clipped.clips == bool(np.any(np.abs(weights) > np.float32(reach)))
    assert clipped.contradiction(weights) == ""


def test_what_clips_must_decode_what_does_not(normal):
    weights = normal(4, 5)
    tensor, _ = encode(weights, 8, "tensor", reach=0.5)
    codes = tensor.codes.copy()
    place = np.unravel_index(np.abs(codes).argmin(), codes.shape)
    codes[place] += 2
    broken = dataclasses.replace(tensor, codes=codes)
    assert "half a step" in broken.contradiction(weights)
    turned = dataclasses.replace(tensor, codes=-tensor.codes)
    assert "half a step" in turned.contradiction(weights)


def test_the_loss_of_clipping_counts(normal):
    weights = normal(40, 50)
    weights[0, 0] = 500
    plain, clipped = encode(weights, 8, "tensor")[1], encode(weights, 8, "tensor", reach=4.0)[1]
    noise = np.square(encode(weights, 8, "tensor", reach=4.0)[0].decode() - weights).sum()
    assert clipped == pytest.approx(10 * np.log10(np.square(weights).sum() / noise), abs=1e-3)
    assert clipped < plain  # all its energy is that of one weight


CONTRADICTIONS = {
    "has shape (4, 6), its encoding (4, 5)": (lambda t: t, np.zeros((4, 6), np.float32)),
    "has a code outside 7 bits": (lambda t: _with_code(t, 64), None),
    "has a weight that does not decode to within half a step": (
        lambda t: _with_code(t, t.codes[1, 1] - 1),
        None,
    ),
}


def _with_code(tensor, code):
    codes = tensor.codes.copy()
    codes[1, 1] = code
    return dataclasses.replace(tensor, codes=codes)


@pytest.mark.parametrize("text", CONTRADICTIONS)
def test_contradictions(normal, text):
    weights = normal(4, 5)
    broken, other = CONTRADICTIONS[text]
    tensor = broken(encode(weights, 7)[0])
    assert tensor.contradiction(weights if other is None else other) == text


def test_scales_that_are_not_numbers_contradict(normal):
    weights = normal(4, 5)
    tensor, _ = encode(weights)
    broken = dataclasses.replace(tensor, scale=np.full(5, np.nan, np.float32))
    assert "half a step" in broken.contradiction(weights)


@given(
    arrays.arrays(np.float32, 5, elements=FLOATS),
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


def test_sqnr():
    assert sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 4.5])) == pytest.approx(20)
    assert sqnr_db(np.ones(3), np.ones(3)) == math.inf
    assert sqnr_db(np.zeros(3), np.zeros(3)) == math.inf
