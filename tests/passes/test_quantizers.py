"""quantizers: what constants QuantizeLinear and DequantizeLinear round by."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from sardonyx.compiler.load import load
from sardonyx.passes.quantizers import quantizer_of

TEXT = "g (float[4,4] X) => (uint8[4,4] Y) { Y = QuantizeLinear (X, s, z) }"
HALF = np.float32(0.5)


def read(model):
    """The quantizer of a model's last node."""
    return quantizer_of(load(model)[1].nodes[-1])


@pytest.mark.parametrize(
    ("constants", "layout"),
    [
        ({"s": HALF, "z": np.uint8(3)}, None),
        ({"s": HALF[None], "z": np.uint8([3])}, None),
        ({"s": np.full(4, HALF), "z": np.full(4, 3, np.uint8)}, (1, 0)),
        ({"s": np.full((4, 2), HALF), "z": np.full((4, 2), 3, np.uint8)}, (1, 2)),
    ],
)
def test_layouts(text_model, constants, layout):
    text = TEXT.replace("Linear (X", "Linear <block_size = 2> (X") if layout == (1, 2) else TEXT
    quantizer = read(text_model(text, 21, 10, **constants))
    assert quantizer.layout == layout
    assert np.all(quantizer.linear.scale == HALF)
    assert np.all(quantizer.linear.zero_point == 3)
    assert (quantizer.linear.low, quantizer.linear.high) == (0, 255)


@pytest.mark.parametrize(("shape", "axis"), [([4, 4], 1), (None, -1)])
def test_an_axis_from_the_end(text_model, shape, axis):
    """Counted from the first, unless the rank is not known."""
    text = TEXT.replace("Linear (X", "Linear <axis = -1> (X")
    model = text_model(text, 21, 10, s=np.full(4, HALF), z=np.full(4, 3, np.uint8))
    _, graph = load(model)
    graph.nodes[-1].inputs[0].shape = shape
    assert quantizer_of(graph.nodes[-1]).layout == (axis, 0)


@pytest.mark.parametrize(
    ("kind", "ends"),
    [("INT4", (-8, 7)), ("UINT4", (0, 15)), ("INT16", (-32768, 32767)), ("FLOAT8E4M3FN", None)],
)
def test_types(text_model, kind, ends):
    value = TensorProto.DataType.Value(kind)
    text = TEXT.replace(", z)", ")").replace("uint8", kind.lower())
    given = text_model(
        text.replace("Linear (", f"Linear <output_dtype = {value}> ("), 21, 10, s=HALF
    )
    held = text_model(TEXT.replace("uint8", kind.lower()), 21, 10, s=HALF)
    held.graph.initializer.append(helper.make_tensor("z", value, [], [0]))
    for model in (given, held):
        quantizer = read(model)
        assert (quantizer and (quantizer.linear.low, quantizer.linear.high)) == ends


def test_a_dequantizer_without_zero_point(text_model):
    text = "g (int16[4] X) => (float[4] Y) { Y = DequantizeLinear (X, s) }"
    assert read(text_model(text, 21, 10, s=HALF)).linear.low == -32768


@pytest.mark.parametrize(
    "scale", [np.float32(0), np.float32(-1), np.float32(np.inf), np.float32(np.nan), None]
)
def test_none(text_model, scale):
    """No positive number, or none that is known."""
    text = TEXT if scale is not None else TEXT.replace("X)", "X, float s)")
    constants = {"z": np.uint8(0)} | ({} if scale is None else {"s": scale})
    assert read(text_model(text, **constants)) is None
