"""linear_quantizer: what QuantizeLinear and DequantizeLinear make of numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.runtime_ops.linear_quantizer import LinearQuantizer

TYPES = [np.int8, np.uint8, np.int16, np.uint16]


@given(st.data())
def test_as_onnxruntime(text_model, run_ort, data):
    """Codes of any numbers, infinities and NaN among them, and the numbers of any codes."""
    dtype = data.draw(st.sampled_from(TYPES))
    info = np.iinfo(dtype)
    zero = data.draw(st.integers(info.min, info.max))
    scale = np.float32(data.draw(st.floats(2.0**-149, 2.0**127, width=32)))
    drawn = data.draw(st.lists(st.floats(width=32), min_size=1))
    code = data.draw(st.integers(info.min, info.max))
    model = text_model(
        "g (float[N] X, NAME[M] C) => (NAME[N] Y, float[M] Z) {"
        " Y = QuantizeLinear (X, s, z)\n Z = DequantizeLinear (C, s, z) }".replace(
            "NAME", info.dtype.name
        ),
        21,
        10,
        s=scale,
        z=dtype(zero),
    )
    quantizer = LinearQuantizer(scale, np.int64(zero), int(info.min), int(info.max))
    x = np.array([*drawn, np.nan, np.inf, -np.inf], np.float32)
    codes, values = run_ort(model, {"X": x, "C": np.array([code], dtype)})
    assert codes.tolist() == [int(quantizer.codes(each)) for each in x]
    assert values.tobytes() == quantizer.values(code).tobytes()


def test_a_scale_for_each_channel():
    quantizer = LinearQuantizer(np.float32([1, 2]), np.array([0, 10]), -128, 127)
    assert quantizer.codes(5.0).tolist() == [5, 12]
    assert quantizer.values(12).tolist() == [12.0, 4.0]


@pytest.mark.parametrize(
    ("scale", "high", "keeps"),
    [
        (np.float32(0.1), 255, True),
        (np.float32(2.0**-149), 65535, True),
        (np.float32(1e33), 65535, True),
        (np.float32(1e34), 65535, False),
        (np.float16(0.1), 255, True),
        (np.float16(0.1), 65535, False),
        (np.float16(300), 255, False),
        (np.float32([0.1, 1e38]), 255, False),
    ],
)
def test_codes_that_are_kept(scale, high, keeps):
    """All codes, rounded as numbers again: 0.1 in float16 does not tell 16 bits apart."""
    quantizer = LinearQuantizer(scale, np.zeros(scale.shape, np.int64), 0, high)
    assert quantizer.keeps_codes == keeps
    again = [
        quantizer.codes(value) for value in map(quantizer.values, range(high + 1)) if not scale.ndim
    ]
    assert not again or ([int(code) for code in again] == list(range(high + 1))) == keeps


def test_equal_grids():
    one = LinearQuantizer(np.float32(0.5), np.int64(0), 0, 255)
    assert one.equals(LinearQuantizer(np.float32(0.5), np.int64(0), 0, 255))
    for other in (
        LinearQuantizer(np.float32(0.25), np.int64(0), 0, 255),
        LinearQuantizer(np.float32(0.5), np.int64(1), 0, 255),
        LinearQuantizer(np.float32(0.5), np.int64(0), -128, 127),
        LinearQuantizer(np.float16(0.5), np.int64(0), 0, 255),
        LinearQuantizer(np.float32([0.5, 0.5]), np.zeros(2, np.int64), 0, 255),
    ):
        assert not one.equals(other)
