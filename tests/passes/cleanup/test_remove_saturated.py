"""remove-saturated: bounds that the range of a quantizer keeps anyway go."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sardonyx.passes.cleanup.remove_saturated import RemoveSaturated

PASS = RemoveSaturated()
Q, DQ = "QuantizeLinear", "DequantizeLinear"
X = np.float32([-np.inf, -1e30, -300, -7, -1, -0.5, -0.0, 0, 0.5, 1, np.nan, 6, 127, 300, np.inf])
U8 = {"s": np.float32(0.5), "z": np.uint8(0)}
INF, NAN = np.float32(np.inf), np.float32(np.nan)


@pytest.fixture(scope="module")
def check(apply, same_bits):
    """Apply the pass and compare whole outputs bit for bit: rewrites, and the ops left in order."""

    def run(model, rewrites, ops, **feeds):
        after = apply(PASS, model)
        assert (after.rewrites, after.again) == (rewrites, 0)
        assert after.ops == ops.split()
        same_bits(model, after.model, feeds or {"X": X})
        return after.model

    return run


@pytest.mark.parametrize(
    ("bound", "constants", "rewrites", "left"),
    [
        ("b = Relu (X)", {}, 1, ""),
        ("b = Max (X, c)", {"c": 0}, 1, ""),
        ("b = Max (c, X)", {"c": 0.24}, 1, ""),
        ("b = Max (X, c)", {"c": 0.25}, 1, ""),  # half a step, and to even: 0
        ("b = Max (X, c)", {"c": 0.26}, 0, "Max"),
        ("b = Max (X, c)", {"c": -INF}, 1, ""),
        ("b = Max (X, c)", {"c": NAN}, 0, "Max"),
        ("b = Min (X, c)", {"c": 127.5}, 1, ""),
        ("b = Min (X, c)", {"c": 127.2}, 0, "Min"),
        ("b = Min (X, c)", {"c": -INF}, 0, "Min"),
        ("b = Min (X, c, d)", {"c": 200, "d": 6}, 1, "Min"),
        ("b = Min (X, c, d)", {"c": 200, "d": 300}, 1, ""),
        ("b = Clip (X, c, d)", {"c": -1, "d": 300}, 1, ""),
        ("b = Clip (X, c, d)", {"c": -1, "d": 6}, 1, "Clip"),
        ("b = Clip (X, c, d)", {"c": 2, "d": 200}, 1, "Clip"),
        ("b = Clip (X, c, d)", {"c": 2, "d": 6}, 0, "Clip"),
        ("b = Clip (X, c)", {"c": -1}, 1, ""),
        ("b = Clip (X, , d)", {"d": 200}, 1, ""),
        ("b = Clip (X)", {}, 1, ""),
        ("a = Relu (X)\n b = Clip (a, c, d)", {"c": 0, "d": 128}, 2, ""),
        ("a = Clip (X, c, d)\n b = Relu (a)", {"c": -3, "d": 6}, 2, "Clip"),
        ("a = Identity (c)\n b = Max (X, a)", {"c": 0}, 1, "Identity"),
        ("b = LeakyRelu (X)", {}, 0, "LeakyRelu"),
    ],
)
def test_ahead_of_a_quantizer(check, text_model, bound, constants, rewrites, left):
    constants = {name: np.float32(value) for name, value in constants.items()}
    model = text_model(
        f"g (float[15] X) => (uint8[15] Y) {{ {bound}\n Y = QuantizeLinear (b, s, z) }}",
        **U8,
        **constants,
    )
    check(model, rewrites, f"{left} {Q}")


def test_the_side_that_saturates_goes(check, text_model):
    model = text_model(
        "g (float[15] X) => (uint8[15] Y) { b = Clip (X, c, d)\n Y = QuantizeLinear (b, s, z) }",
        c=np.float32(-1),
        d=np.float32(6),
        **U8,
    )
    (clip, _) = check(model, 1, f"Clip {Q}").graph.node
    assert list(clip.input) == ["X", "", "d"]


def test_attributes_of_old_clips(check, text_model):
    model = text_model(
        "g (float[15] X) => (uint8[15] Y) {"
        " b = Clip <min = -1.0, max = 6.0> (X)\n Y = QuantizeLinear (b, s, z) }",
        opset=10,
        **U8,
    )
    made = check(model, 1, f"Clip {Q}")
    assert [(a.name, a.f) for a in made.graph.node[0].attribute] == [("max", 6.0)]


@pytest.mark.parametrize("opset", [11, 13, 18, 21, 23])
def test_operator_sets(check, text_model, opset):
    model = text_model(
        "g (float[15] X) => (uint8[15] Y) { b = Clip (X, c, d)\n Y = QuantizeLinear (b, s, z) }",
        opset=opset,
        ir_version=10,
        c=np.float32(0),
        d=np.float32(200),
        **U8,
    )
    check(model, 1, Q)


def test_several_quantizers(check, text_model):
    """Each must saturate, whatever its scale and domain."""
    text = (
        "g (float[15] X) => (uint8[15] Y, int8[15] Z) { b = Relu (X)\n"
        "Y = QuantizeLinear (b, s, z)\n Z = com.microsoft.QuantizeLinear (b, t, y) }"
    )
    for low, rewrites in ((-128, 1), (-127, 0)):
        model = text_model(text, **U8, t=np.float32(2), y=np.int8(low))
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        check(model, rewrites, f"{'' if rewrites else 'Relu'} {Q} {Q}")


@pytest.mark.parametrize(("zeros", "rewrites"), [([0, 0, 0], 1), ([0, 1, 0], 0)])
def test_a_scale_for_each_channel(check, text_model, zeros, rewrites):
    model = text_model(
        "g (float[2,3] X) => (uint8[2,3] Y) { b = Relu (X)\n Y = QuantizeLinear (b, s, z) }",
        s=np.float32([1, 2, 3]),
        z=np.uint8(zeros),
    )
    x = np.float32([[-1, -2, -3], [1, 2, 300]])
    check(model, rewrites, f"{'' if rewrites else 'Relu'} {Q}", X=x)


def test_a_bound_for_each_channel(check, text_model):
    for last, rewrites in ((-0.1, 1), (0.4, 0)):
        model = text_model(
            "g (float[N,3] X) => (uint8[N,3] Y) { b = Max (X, c)\n Y = QuantizeLinear (b, s, z) }",
            c=np.float32([0, -3, last]),
            **U8,
        )
        x = np.float32([[-1, -2, -3], [1, 2, 300]])
        check(model, rewrites, f"{'' if rewrites else 'Max'} {Q}", X=x)


def test_no_zero_point(check, text_model):
    model = text_model(
        "g (float[15] X) => (uint8[15] Y) { b = Relu (X)\n Y = QuantizeLinear (b, s) }", s=U8["s"]
    )
    check(model, 1, Q)


BEHIND = [
    ("Y = Relu (f)", {}, 0, 1, ""),
    ("Y = Relu (f)", {}, 1, 0, "Relu"),
    ("Y = Max (c, f)", {"c": -64.0}, 128, 1, ""),
    ("Y = Max (c, f)", {"c": -63.9}, 128, 0, "Max"),
    ("Y = Max (f, c)", {"c": -0.0}, 0, 0, "Max"),  # may make -0 of 0
    ("Y = Min (f, c)", {"c": 63.5}, 128, 1, ""),
    ("Y = Min (f, c)", {"c": 63.4}, 128, 0, "Min"),
    ("Y = Clip (f, c, d)", {"c": -64, "d": 63.5}, 128, 1, ""),
    ("Y = Clip (f, c, d)", {"c": -64, "d": 63}, 128, 0, "Clip"),
    ("Y = Clip (f, c)", {"c": NAN}, 128, 0, "Clip"),
    ("a = Relu (f)\n Y = Clip (a, c)", {"c": 0}, 0, 2, ""),
    ("a = Relu (f)\n b = Relu (f)\n Y = Add (a, b)", {}, 0, 2, "Add"),
    ("a = Relu (f)\n Y = Add (f, a)", {}, 0, 1, "Add"),
]


@pytest.mark.parametrize(("bound", "constants", "zero", "rewrites", "left"), BEHIND)
def test_behind_a_dequantizer(check, text_model, bound, constants, zero, rewrites, left):
    constants = {name: np.float32(value) for name, value in constants.items()}
    model = text_model(
        f"g (uint8[256] X) => (float[256] Y) {{ f = DequantizeLinear (X, s, z)\n {bound} }}",
        s=np.float32(0.5),
        z=np.uint8(zero),
        **constants,
    )
    check(model, rewrites, f"{DQ} {left}", X=np.arange(256, dtype=np.uint8))


def test_near_miss_1_other_readers(check, text_model):
    model = text_model(
        "g (float[15] X) => (uint8[15] Y, float[15] Z) {"
        " b = Relu (X)\n Y = QuantizeLinear (b, s, z)\n Z = Neg (b) }",
        **U8,
    )
    check(model, 0, f"Relu {Q} Neg")


def test_near_miss_1_an_output(check, text_model):
    model = text_model(
        "g (float[15] X) => (uint8[15] Y, float[15] b) {"
        " b = Relu (X)\n Y = QuantizeLinear (b, s, z) }",
        **U8,
    )
    check(model, 0, f"Relu {Q}")
    model = text_model(
        "g (uint8[256] X) => (float[256] f, float[256] Y) {"
        " f = DequantizeLinear (X, s, z)\n Y = Relu (f) }",
        **U8,
    )
    check(model, 0, f"{DQ} Relu", X=np.arange(256, dtype=np.uint8))


def test_near_miss_1_a_scale(check, text_model):
    """What is read as the scale is not rounded."""
    model = text_model(
        "g (float X) => (uint8 Y) { b = Relu (X)\n Y = QuantizeLinear (b, b, z) }", z=U8["z"]
    )
    check(model, 0, f"Relu {Q}", X=np.array(3, np.float32))


@pytest.mark.parametrize("inside", ["Q", "Relu and Q"])
def test_bodies(apply, text_model, run_ort, inside):
    """A bound goes with its quantizer, not where one of them is in another graph."""
    outer, name = ("b = Relu (X)", "b") if inside == "Q" else ("n = Neg (X)", "X")
    relu = "" if inside == "Q" else "b = Relu (X)\n"
    model = text_model(
        f"""g (bool c, float[15] X) => (uint8[15] Y) {{
              {outer}
              Y = If (c) <
                then_branch = t () => (uint8[15] r1) {{ {relu} r1 = QuantizeLinear (b, s, z) }},
                else_branch = e () => (uint8[15] r2) {{ r2 = QuantizeLinear ({name}, s, z) }}
              > }}""",
        **U8,
    )
    after = apply(PASS, model)
    assert (after.rewrites, after.again) == (int(inside != "Q"), 0)
    for c in (True, False):
        feeds = {"c": np.array(c), "X": X}
        assert np.array_equal(run_ort(model, feeds), run_ort(after.model, feeds))


@pytest.mark.parametrize("computed", ["c", "s"])
def test_near_miss_2_computed(check, text_model, computed):
    given = {"c": np.float32(0), **U8}
    given.pop(computed)
    model = text_model(
        f"g (float[15] X, float {computed}) => (uint8[15] Y) {{"
        " b = Max (X, c)\n Y = QuantizeLinear (b, s, z) }",
        **given,
    )
    check(model, 0, f"Max {Q}", X=X, **{computed: np.array(0.5, np.float32)})


def test_near_miss_2_dynamic(check, text_model):
    model = text_model(
        "g (float[4] X) => (uint8[4] Y) { b = Relu (X)\n Y, s, z = DynamicQuantizeLinear (b) }"
    )
    check(model, 0, "Relu DynamicQuantizeLinear", X=np.float32([-2, -1, 1, 2]))


def test_near_miss_3_four_bits(apply, text_model):
    model = text_model(
        "g (float[15] X) => (uint4[15] Y) { b = Relu (X)\n Y = QuantizeLinear (b, s, z) }",
        opset=21,
        ir_version=10,
        s=U8["s"],
    )
    model.graph.initializer.append(helper.make_tensor("z", TensorProto.UINT4, [], [0]))
    assert apply(PASS, model).rewrites == 0


def test_near_miss_3_float16(check, text_model):
    model = text_model(
        "g (float16[N] X) => (uint8[N] Y) { b = Relu (X)\n Y = QuantizeLinear (b, s, z) }",
        opset=19,
        ir_version=9,
        s=np.float16(0.5),
        z=np.uint8(0),
    )
    check(model, 0, f"Relu {Q}", X=np.float16([-3, -1, 0, 2, 60000]))


@pytest.mark.parametrize(
    ("shape", "constant", "rewrites"),
    [
        ("3", (1, 1), 0),
        ("1,3", (1, 1), 1),
        ("1,3", (2, 1), 0),
        ("2,3", (2, 1), 1),
        ("N,3", (3,), 1),
    ],
)
def test_near_miss_4_shapes(check, text_model, shape, constant, rewrites):
    sizes = tuple(2 if size == "N" else int(size) for size in shape.split(","))
    whole = ",".join(map(str, np.broadcast_shapes(sizes, constant)))
    model = text_model(
        f"g (float[{shape}] X) => (uint8[{shape if 'N' in shape else whole}] Y) {{"
        " b = Max (X, c)\n Y = QuantizeLinear (b, s, z) }",
        c=np.zeros(constant, np.float32),
        **U8,
    )
    x = np.linspace(-3, 3, int(np.prod(sizes)), dtype=np.float32).reshape(sizes)
    check(model, rewrites, f"{'' if rewrites else 'Max'} {Q}", X=x)


def test_near_miss_5_through_a_reshape(check, text_model):
    model = text_model(
        "g (float[15] X) => (uint8[3,5] Y) {"
        " b = Relu (X)\n r = Reshape (b, sizes)\n Y = QuantizeLinear (r, s, z) }",
        sizes=np.array([3, 5]),
        **U8,
    )
    check(model, 0, f"Relu Reshape {Q}")


TYPES = {
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-32768, 32767),
    TensorProto.UINT16: (0, 65535),
}
ANY = st.floats(width=32, allow_nan=False)


@st.composite
def bounded(draw):
    """A bound, a quantizer, and values around what decides: text, initializers, values."""
    kind = draw(st.sampled_from(sorted(TYPES)))
    low, high = TYPES[kind]
    zero = draw(st.one_of(st.sampled_from([low, high]), st.integers(low, high)))
    scale = np.float32(draw(st.floats(2.0**-149, 2.0**127, width=32)))
    with np.errstate(over="ignore"):
        steps = [low - zero, low - zero + 0.5, high - zero - 0.5, high - zero]
        turns = np.float32([step * np.float64(scale) for step in steps])
        near = [np.nextafter(turns, np.float32(side)) for side in (-np.inf, np.inf)]
    special = np.unique(np.concatenate([turns, *near, np.float32([0, -0.0])])).tolist()
    cuts = st.one_of(st.sampled_from(special), ANY)
    cut, other = np.float32(draw(cuts)), np.float32(draw(cuts))
    op = draw(
        st.sampled_from(["Relu (X)", "Max (X, c)", "Min (c, X)", "Clip (X, c, d)", "Clip (X, , d)"])
    )
    x = np.float32([*special, *draw(st.lists(ANY, max_size=20)), -np.inf, np.inf, cut, other])
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, [], [float(value)])
        for name, value in (("c", cut), ("d", other), ("s", scale))
    ]
    return op, [*constants, helper.make_tensor("z", kind, [], [zero])], x


@given(bounded())
def test_any_bound_by_any_quantizer(apply, text_model, run_ort, given):
    """Codes are equal with the bound and without it; the pass fires exactly where the code of the
    bound is the end code, as onnxruntime rounds it."""
    op, constants, x = given
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(constants[-1].data_type)).name
    head = f"g (float[N] X) => ({kind}[N] Y)"
    models = [
        text_model(f"{head} {{ b = {op}\n Y = QuantizeLinear (b, s, z) }}", 21, 10),
        text_model(f"{head} {{ Y = QuantizeLinear (X, s, z) }}", 21, 10),
    ]
    for model in models:
        model.graph.initializer.extend(constants)
    after = apply(PASS, models[0])
    assert after.again == 0
    (want,), (have,) = run_ort(models[0], {"X": x}), run_ort(after.model, {"X": x})
    assert np.array_equal(want, have)
    if op in ("Max (X, c)", "Min (c, X)"):
        end = -np.inf if op.startswith("Max") else np.inf
        cut = onnx.numpy_helper.to_array(constants[0])
        ((code, last),) = run_ort(models[1], {"X": np.float32([cut, end])})
        assert after.rewrites == (code == last)
