"""merge-requantize: codes that would be rounded to themselves are read as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from sardonyx.compiler import compile
from sardonyx.passes.cleanup.merge_requantize import MergeRequantize

PASS = MergeRequantize()
CODES = np.arange(-128, 128, dtype=np.int8)
S, Z = np.float32(0.1), np.int8(3)
TEXT = (
    "g (int8[256] X) => (int8[1,256] Y) {"
    " f = DequantizeLinear (X, s, z)\n q = QuantizeLinear (f, t, y)\n Y = Unsqueeze (q, zero) }"
)


@pytest.fixture(scope="module")
def check(cleaned):
    """Apply the pass and compare outputs bit for bit: rewrites, and the ops left in order."""

    def run(model, rewrites, ops, x=CODES):
        assert cleaned(PASS, model, {"X": x}, rewrites=rewrites) == ops.split()

    return run


def test_before_after(check, text_model):
    model = text_model(TEXT, s=S, z=Z, t=S, y=Z, zero=np.array([0]))
    check(model, 1, "Unsqueeze")


@pytest.mark.parametrize("opset", [13, 18, 21, 23])
def test_operator_sets_and_domains(check, text_model, opset):
    text = TEXT.replace("q = Quant", "q = com.microsoft.Quant")
    constants = {"s": S, "z": Z, "t": S[None], "y": Z[None], "zero": np.array([0])}
    model = text_model(text, opset, 10, **constants)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    check(model, 1, "Unsqueeze")


def test_a_row_of_them(check, text_model):
    text = (
        "g (int8[256] X) => (int8[1,256] Y, float[256] Z) { f = DequantizeLinear (X, s, z)\n"
        "q = QuantizeLinear (f, s, z)\n g = DequantizeLinear (q, s, z)\n"
        "r = QuantizeLinear (g, s, z)\n Y = Unsqueeze (r, zero)\n Z = Neg (f) }"
    )
    check(text_model(text, s=S, z=Z, zero=np.array([0])), 2, "DequantizeLinear Unsqueeze Neg")


@pytest.mark.parametrize(("zero", "rewrites"), [([0, 0], 1), ([0, 1], 0)])
def test_no_zero_point_is_0(check, text_model, zero, rewrites):
    model = text_model(
        "g (uint8[2,128] X) => (uint8[256] Y) { f = DequantizeLinear <axis = 0> (X, s)\n"
        "q = QuantizeLinear <axis = 0> (f, s, z)\n Y = Reshape (q, flat) }",
        s=np.float32([1, 2]),
        z=np.uint8(zero),
        flat=np.array([-1]),
    )
    left = "Reshape" if rewrites else "DequantizeLinear QuantizeLinear Reshape"
    check(model, rewrites, left, np.arange(256, dtype=np.uint8).reshape(2, 128))


@pytest.mark.parametrize(
    ("other", "dtype"),
    [
        ({"t": np.float32(0.11)}, "int8"),
        ({"y": np.int8(2)}, "int8"),
        ({"y": np.uint8(131)}, "uint8"),
        ({"t": np.full(256, S), "y": np.full(256, Z)}, "int8"),
    ],
)
def test_near_miss_1_not_equal(check, text_model, other, dtype):
    text = TEXT.replace("=> (int8", f"=> ({dtype}").replace("(f, t, y)", "<axis = 0> (f, t, y)")
    model = text_model(text, **{"s": S, "z": Z, "t": S, "y": Z, "zero": np.array([0])} | other)
    check(model, 0, "DequantizeLinear QuantizeLinear Unsqueeze")


def test_near_miss_1_another_axis(apply, text_model):
    model = text_model(
        "g (int8[2,2] X) => (int8[4] Y) { f = DequantizeLinear <axis = 0> (X, s)\n"
        "q = QuantizeLinear <axis = 1> (f, s, z)\n Y = Reshape (q, flat) }",
        s=np.float32([1, 2]),
        z=np.int8([0, 0]),
        flat=np.array([-1]),
    )
    assert apply(PASS, model).rewrites == 0


def test_near_miss_2_computed(apply, text_model):
    text = TEXT.replace("X)", "X, float s)").replace("t, y", "s, z")
    assert apply(PASS, text_model(text, z=Z, zero=np.array([0]))).rewrites == 0


def test_near_miss_3_float16(apply, text_model):
    """Halves do not tell 16-bit codes apart."""
    text = "g (TYPE[N] X) => (TYPE[N,1] Y) { f = DequantizeLinear (X, s, z)\n"
    text += "q = QuantizeLinear (f, s, z)\n Y = Unsqueeze (q, one) }"
    for dtype, rewrites in ((np.int16, 0), (np.int8, 1)):
        constants = {"s": np.float16(0.5), "z": dtype(0), "one": np.array([1])}
        model = text_model(text.replace("TYPE", np.dtype(dtype).name), 21, 10, **constants)
        assert apply(PASS, model).rewrites == rewrites


@pytest.mark.parametrize("scale", [np.float32(1e38), np.float32(0), np.float32(np.nan)])
def test_near_miss_3_overflow(apply, text_model, scale):
    model = text_model(TEXT, s=scale, z=Z, t=scale, y=Z, zero=np.array([0]))
    assert apply(PASS, model).rewrites == 0


def test_an_output(check, text_model):
    model = text_model(
        "g (int8[256] X) => (int8[256] Y) {"
        " f = DequantizeLinear (X, s, z)\n Y = QuantizeLinear (f, s, z) }",
        s=S,
        z=Z,
    )
    check(model, 1, "Identity")


def test_a_cache_that_is_returned(text_model, run_ort, census):
    """Codes of the past, in another order and one longer, are codes all the way."""
    model = text_model(
        "g (uint8[B,N,T,4] P, int64[B] beam, float[B,N,1,4] X) => (uint8[B,N,U,4] Y) {"
        " f = DequantizeLinear (P, s, z)\n past = Gather <axis = 0> (f, beam)\n"
        " q = QuantizeLinear (X, s, z)\n new = DequantizeLinear (q, s, z)\n"
        " all = Concat <axis = 2> (past, new)\n Y = QuantizeLinear (all, s, z) }",
        s=S,
        z=np.uint8(7),
    )
    done = compile(model, "cleanup").model
    assert census(done) == {"Gather": 1, "QuantizeLinear": 1, "Concat": 1}
    rng = np.random.default_rng(0)
    feeds = {
        "P": rng.integers(0, 256, (2, 3, 5, 4)).astype(np.uint8),
        "beam": np.array([1, 0]),
        "X": rng.standard_normal((2, 3, 1, 4)).astype(np.float32),
    }
    assert np.array_equal(run_ort(model, feeds)[0], run_ort(done, feeds)[0])


BODY = """g (bool c, int8[256] X) => (int8[256] Y) {{
            {outer}
            Y = If (c) <
              then_branch = t () => (int8[256] r1) {{ {inner} r1 = Identity (q) }},
              else_branch = e () => (int8[256] r2) {{ r2 = Identity (X) }}
            > }}"""
STEPS = ("f = DequantizeLinear (X, s, z)", "q = QuantizeLinear (f, s, z)")


@pytest.mark.parametrize("outside", [0, 1, 2])
def test_bodies(apply, text_model, run_ort, outside):
    """Both in one graph merge, also inside a body, and where another graph reads the codes."""
    text = BODY.format(outer="\n".join(STEPS[:outside]), inner="\n".join(STEPS[outside:]))
    model = text_model(text, s=S, z=Z)
    after = apply(PASS, model)
    assert (after.rewrites, after.again) == (int(outside != 1), 0)
    for c in (True, False):
        feeds = {"c": np.array(c), "X": CODES}
        assert np.array_equal(run_ort(model, feeds), run_ort(after.model, feeds))


KINDS = [
    *((np.float32, dtype) for dtype in (np.int8, np.uint8, np.int16, np.uint16)),
    *((np.float16, dtype) for dtype in (np.int8, np.uint8)),
]


@given(st.data())
def test_every_code_of_any_scale(apply, text_model, run_ort, data):
    """All codes by a positive scale of any bits, zero points at the ends and between."""
    floats, dtype = data.draw(st.sampled_from(KINDS))
    info, width = np.iinfo(dtype), np.finfo(floats).bits
    bits = data.draw(st.integers(1, 0x7F7FFFFF if width == 32 else 0x7BFF))
    scale = np.array(bits, f"uint{width}").view(floats)
    zero = data.draw(
        st.one_of(st.sampled_from([info.min, info.max]), st.integers(info.min, info.max))
    )
    name = np.dtype(dtype).name
    text = f"g ({name}[N] X) => ({name}[N] Y) {{ f = DequantizeLinear (X, s, z)\n"
    text += "q = QuantizeLinear (f, s, z)\n Y = Identity (q) }"
    model = text_model(text, 21, 10, s=scale, z=dtype(zero))
    codes = np.arange(info.min, info.max + 1).astype(dtype)
    (made,) = run_ort(model, {"X": codes})
    with np.errstate(over="ignore"):
        ends = [(end - zero) * np.float64(scale) for end in (info.min, info.max)]
        overflows = not np.all(np.isfinite(np.array(ends).astype(floats)))
    rewrites = apply(PASS, model).rewrites
    assert rewrites == (not overflows)
    assert not rewrites or np.array_equal(made, codes)
