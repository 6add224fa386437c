"""Grids of activations: held against onnxruntime's and onnx's own Q and DQ, bit for bit."""

from __future__ import annotations

import functools

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, strategies
from hypothesis.extra import numpy as arrays

from sardonyx.runtime_ops.reference import reference_session
from sardonyx.runtime_ops.uniform import Grid, grid

TINY = 2.0**-126
"""The least normal float32, and the least scale."""

POSITIVE = strategies.floats(0, 2.0**100)
RANGES = strategies.tuples(POSITIVE.map(lambda low: -low), POSITIVE)
SIGNS = [(symmetric, signed) for symmetric in (False, True) for signed in (False, True)]
GRIDS = [(*signs, bits) for signs in SIGNS for bits in (8, 16)]
WIDE_OPSET = 21
"""The first whose QuantizeLinear makes codes of 16 bits."""


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
