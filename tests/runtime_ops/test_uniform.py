"""Uniform integers: held against onnxruntime's QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import dataclasses
import functools
import math

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, strategies
from hypothesis.extra import numpy as arrays

from sardonyx.runtime_ops.reference import reference_session
from sardonyx.runtime_ops.uniform import Grid, encode, grid, largest, sqnr_db

TINY = 2.0**-126
"""The least normal float32, and the least scale."""

LARGE = 2.0**100
FLOATS = strategies.floats(-LARGE, LARGE, width=32)
MATRICES = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=FLOATS
)
PER = strategies.sampled_from(["tensor", "channel"])
BITS = strategies.integers(2, 8)
POSITIVE = strategies.floats(0, LARGE)
RANGES = strategies.tuples(POSITIVE.map(lambda low: -low), POSITIVE)
SIGNS = [(symmetric, signed) for symmetric in (False, True) for signed in (False, True)]
GRIDS = [(*signs, bits) for signs in SIGNS for bits in (8, 16)]
WIDE_OPSET = 21
"""The first whose QuantizeLinear makes codes of 16 bits."""


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


@pytest.fixture(scope="module")
def rounding(text_model):
    """The model that rounds X to a grid of a type."""

    @functools.cache
    def make(kind):
        return text_model(
            f"""g (float[N] X, float S, {kind} Z) => (float[N] Y) {{
              Q = QuantizeLinear (X, S, Z)
              Y = DequantizeLinear (Q, S, Z)
            }}""",
            WIDE_OPSET if kind.name.endswith("16") else 17,
        )

    return make


@pytest.fixture(scope="module")
def rounded(rounding):
    """Values on a grid, by onnxruntime; with ``by``, by another executor."""

    @functools.cache
    def session(kind):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        stored = rounding(kind).SerializeToString()
        return ort.InferenceSession(stored, options, providers=["CPUExecutionProvider"])

    def run(made, x, by=session):
        zero_point = np.array(made.zero_point, made.dtype)
        feeds = {"X": x, "S": np.array(made.scale), "Z": zero_point}
        return by(made.dtype).run(None, feeds)[0]

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


@pytest.mark.parametrize(("symmetric", "signed", "bits"), GRIDS)
@given(RANGES)
def test_grids_hold_zero_and_the_ends(symmetric, signed, bits, ends):
    made = grid(*ends, symmetric, signed, bits)
    least, most = made.ends
    assert least <= made.zero_point <= most
    assert made.scale.dtype == np.float32
    assert made.scale >= TINY
    assert made.rounded(np.zeros(1, np.float32)) == 0
    values = np.array(ends, np.float32)
    reach = 1 if symmetric else 0.5  # the affine zero point moves the ends by up to half a step
    error = np.abs(made.rounded(values).astype(float) - values)
    slack = 1e-4 if bits == 8 else 0.02  # of 2^16 steps, each product is rounded to 2^-24 of it
    assert np.all(error <= made.scale * (reach if symmetric else reach + slack))


@pytest.mark.parametrize("bits", [8, 16])
@given(RANGES)
def test_an_affine_grid_has_a_step_less_than_levels(bits, ends):
    made, steps = grid(*ends, bits=bits), 2**bits - 1
    width = ends[1] - ends[0]
    least = steps * TINY
    assert made.scale == np.float32(width / steps if width >= least else (width and TINY) or 1)


@pytest.mark.parametrize(
    ("low", "high", "symmetric", "signed", "scale", "zero_point"),
    [
        (0, 255, False, False, 1, 0),
        (-255, 0, False, False, 1, 255),
        (-128, 127, False, False, 1, 128),
        (0, 255, False, True, 1, -128),
        (-255, 0, False, True, 1, 127),
        (-127, 10, True, False, 1, 128),
        (-10, 127, True, True, 1, 0),
        (0, 255, True, False, 1, 0),
        (0, 127, True, True, 1, 0),
        (0, 0, False, False, 1, 0),
        (0, 0, True, False, 1, 0),
        (0, 0, False, True, 1, 0),
        (0, 0, True, True, 1, 0),
        (0, 1e-44, False, False, TINY, 0),
        (-1e-44, 0, True, True, TINY, 0),
        (-3e38, 3e38, False, False, np.float32(6e38 / 255), 128),
    ],
)
def test_grids(low, high, symmetric, signed, scale, zero_point):
    made = grid(low, high, symmetric, signed)
    assert made == Grid(np.float32(scale), zero_point, signed)
    assert made.ends == ((-128, 127) if signed else (0, 255))
    assert made.dtype == (np.int8 if signed else np.uint8)


@pytest.mark.parametrize(
    ("low", "high", "symmetric", "signed", "zero_point"),
    [
        (0, 65535, False, False, 0),
        (-65535, 0, False, False, 65535),
        (-32768, 32767, False, False, 32768),
        (-32768, 32767, False, True, 0),
        (-32767, 10, True, False, 32768),
        (-10, 32767, True, True, 0),
        (0, 65535, True, False, 0),
        (0, 0, True, False, 0),
    ],
)
def test_grids_of_16_bits(low, high, symmetric, signed, zero_point):
    made = grid(low, high, symmetric, signed, 16)
    assert made == Grid(np.float32(1), zero_point, signed, 16)
    assert made.ends == ((-32768, 32767) if signed else (0, 65535))
    assert made.dtype == (np.int16 if signed else np.uint16)


@pytest.mark.parametrize(("symmetric", "signed", "bits"), GRIDS)
@given(
    RANGES,
    arrays.arrays(np.float32, 40, elements=strategies.floats(-(2.0**126), 2.0**126, width=32)),
    arrays.arrays(np.float32, 40, elements=strategies.floats(-2, 2, width=32)),
)
def test_rounding_is_that_of_onnxruntime(
    rounded, rounding, symmetric, signed, bits, ends, wild, near
):
    made = grid(*ends, symmetric, signed, bits)
    near = near * np.float32(max(-ends[0], ends[1]))
    x = np.concatenate([wild, near])
    assert np.array_equal(made.rounded(x), rounded(made, x))
    steps = x.astype(float) / made.scale
    x = x[np.abs(steps) < 2.0**30]  # onnx's own evaluator counts steps by INT32
    reference = rounded(made, x, lambda kind: reference_session(rounding(kind)))
    assert np.array_equal(made.rounded(x), reference)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("exponent", [-126, -20, 0, 90])
@pytest.mark.parametrize("zero_point", [0, 1, 77, 127])
def test_ties_and_saturation_are_those_of_onnxruntime(rounded, signed, bits, exponent, zero_point):
    made = Grid(np.float32(2.0**exponent), zero_point, signed, bits)
    reach = 300 * 2 ** (bits - 8)
    halves = np.arange(-2 * reach, 2 * reach + 1) / 2  # every other is a tie
    x = (halves * 2.0**exponent).astype(np.float32)
    got = made.rounded(x)
    assert np.array_equal(got, rounded(made, x))
    assert np.unique(got).size == 2**bits


def test_rounding_takes_any_float_and_shape():
    made = grid(-1, 1)
    x = np.linspace(-1, 1, 24).reshape(2, 3, 4)
    assert np.allclose(made.rounded(x), x, atol=made.scale / 2)


def test_sqnr():
    assert sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 4.5])) == pytest.approx(20)
    assert sqnr_db(np.ones(3), np.ones(3)) == math.inf
    assert sqnr_db(np.zeros(3), np.zeros(3)) == math.inf
