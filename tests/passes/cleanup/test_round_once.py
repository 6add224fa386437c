"""round-once: what is rounded twice, to grids nearly alike, is rounded to the second alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sardonyx.compiler import compile
from sardonyx.compiler.recipe import Recipe
from sardonyx.passes.cleanup.round_once import RoundOnce
from sardonyx.runtime_ops.errors import VerificationError

PASS = RoundOnce()
Q, DQ = "QuantizeLinear", "DequantizeLinear"
TEXT = (
    "g (float[N] X) => (TYPE[N] Y) { a = QuantizeLinear (X, s, z)\n"
    "f = DequantizeLinear (a, s, z)\n Y = QuantizeLinear (f, t, y) }"
)


def model_of(text_model, s, z, t, y):
    """TEXT of scales and zero points, each two of a type."""
    text = TEXT.replace("TYPE", np.asarray(y).dtype.name)
    constants = {"s": np.float32(s), "z": z, "t": np.float32(t), "y": y}
    return text_model(text, 21, 10, **constants)


@pytest.mark.parametrize(
    ("first", "second", "rewrites"),
    [
        ((0.12, np.uint8(128)), (0.1, np.uint8(128)), 1),
        ((0.1, np.uint8(128)), (0.1, np.int8(0)), 1),  # the same grid, signed
        ((0.001, np.uint16(32768)), (0.1, np.uint8(128)), 1),
        ((0.16, np.uint8(128)), (0.1, np.uint8(128)), 0),  # 1: 1.6 steps
        ((0.1, np.uint8(128)), (0.12, np.uint8(128)), 0),  # 2: the first saturates
        ((0.12, np.uint8(0)), (0.1, np.uint8(128)), 0),  # 2: below 0
        ((0.12, np.uint8(128)), (0.1, np.uint8(100)), 0),  # 2: above 12.7 * 1.2
    ],
)
def test_grids(apply, text_model, run_ort, first, second, rewrites):
    model = model_of(text_model, *first, *second)
    after = apply(PASS, model)
    assert (after.rewrites, after.again) == (rewrites, 0)
    ops = after.ops
    assert ops == ([Q] if rewrites else [Q, DQ, Q])
    assert bool(after.journal.missed) != bool(rewrites)
    x = np.linspace(-40, 40, 40_001, dtype=np.float32)
    (want,), (have,) = run_ort(model, {"X": x}), run_ort(after.model, {"X": x})
    assert np.abs(want.astype(int) - have).max() <= rewrites


WIDTHS = [(np.uint8, np.int8), (np.int8, np.uint8), (np.uint8, np.uint8), (np.int16, np.uint8)]
WIDTHS += [(np.uint16, np.int8), (np.uint16, np.int16)]


@st.composite
def nested(draw):
    """Scale and zero point of a grid, and of one that saturates within it."""
    one, two = map(np.iinfo, draw(st.sampled_from(WIDTHS)))
    y = draw(st.integers(two.min, two.max))
    t = np.float32(draw(st.floats(2.0**-30, 2.0**30, width=32)))
    least = (two.max - two.min) / (one.max - one.min)
    ratio = draw(st.floats(1.02 * least, 1.5))
    low = math.ceil(one.min + (y - two.min) / ratio)
    high = math.floor(one.max - (two.max - y) / ratio)
    z = draw(st.integers(low, max(low, high)))
    return np.float32(t * ratio), one.dtype.type(z), t, two.dtype.type(y)


@given(nested())
def test_codes_differ_by_one_at_most(apply, text_model, run_ort, grids):
    """Where values lie halfway between codes of either grid, and to both sides of it."""
    s, z, t, y = grids
    model = model_of(text_model, *grids)
    after = apply(PASS, model)
    assume(after.rewrites)  # a step of 1.5 may be longer once it is float32
    middles = []
    for scale, zero in ((s, z), (t, y)):
        info = np.iinfo(zero.dtype)
        steps = np.arange(info.min - int(zero) - 2, info.max - int(zero) + 2, 0.5)
        middles.append((steps * np.float64(scale)).astype(np.float32))
    middle = np.concatenate([*middles, np.float32([-np.inf, np.inf])])
    x = np.concatenate([middle, np.nextafter(middle, np.float32(0))])
    (want,), (have,) = run_ort(model, {"X": x}), run_ort(after.model, {"X": x})
    assert np.abs(want.astype(int) - have).max() <= 1


@pytest.mark.parametrize(
    "text",
    [
        "Z = Neg (f)",
        "Z = DequantizeLinear (a, s, z)",
        "Z = QuantizeLinear (f, t, y)",
    ],
)
def test_near_miss_3_other_readers(apply, text_model, text):
    kind = "uint8" if "Quant" in text and "De" not in text else "float"
    model = text_model(
        TEXT.replace("TYPE[N] Y", f"uint8[N] Y, {kind}[N] Z").replace("}", f"\n{text} }}"),
        s=np.float32(0.12),
        z=np.uint8(128),
        t=np.float32(0.1),
        y=np.uint8(128),
    )
    assert apply(PASS, model).rewrites == 0


@pytest.mark.parametrize("name", ["a", "f"])
def test_near_miss_3_an_output(apply, text_model, name):
    kind = {"a": "uint8", "f": "float"}[name]
    constants = {"s": np.float32(1.2), "z": np.uint8(9), "t": np.float32(1), "y": np.uint8(9)}
    text = TEXT.replace("TYPE[N] Y", f"uint8[N] Y, {kind}[N] {name}")
    assert apply(PASS, text_model(text, **constants)).rewrites == 0


def test_near_miss_3_another_graph(apply, text_model):
    model = text_model(
        """g (bool c, float[N] X) => (uint8[N] Y) {
             a = QuantizeLinear (X, s, z)
             f = DequantizeLinear (a, s, z)
             Y = If (c) <
               then_branch = t () => (uint8[N] r1) { r1 = QuantizeLinear (f, t, z) },
               else_branch = e () => (uint8[N] r2) { r2 = QuantizeLinear (X, t, z) }
             > }""",
        s=np.float32(0.12),
        z=np.uint8(128),
        t=np.float32(0.1),
    )
    assert apply(PASS, model).rewrites == 0


@pytest.mark.parametrize("scale", ["computed", "per channel", "not its own"])
def test_near_miss_4_scales(apply, text_model, scale):
    s = {"per channel": np.float32([0.12])}.get(scale, np.float32(0.12))
    constants = {"s": np.repeat(s, 2) if s.ndim else s, "t": np.float32(0.1), "y": np.uint8(128)}
    constants["z"] = np.full(constants["s"].shape, 128, np.uint8)
    text = TEXT.replace("[N]", "[N,2]").replace("TYPE", "uint8")
    if scale == "computed":
        del constants["s"]
        text = text.replace("X)", "X, float s)")
    if scale == "not its own":
        text = text.replace("(a, s, z)", "(a, t, z)")
    assert apply(PASS, text_model(text, **constants)).rewrites == 0


def test_the_driver_allows_one_code_and_no_more(text_model, monkeypatch):
    """It compares codes on made-up inputs over the whole range."""
    recipe = Recipe("r", "", (PASS,), alone=True)
    model = model_of(text_model, 0.149, np.uint8(128), 0.1, np.uint8(128))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4096
    assert len(compile(model, recipe).model.graph.node) == 1
    monkeypatch.setattr("sardonyx.passes.cleanup.round_once._MOST_STEPS", 9.0)
    model = model_of(text_model, 0.8, np.uint8(128), 0.1, np.uint8(128))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4096
    with pytest.raises(VerificationError, match="round-once is wrong"):
        compile(model, recipe)
