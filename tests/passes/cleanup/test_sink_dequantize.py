"""sink-dequantize: ``Move(DequantizeLinear(q))`` -> ``DequantizeLinear(Move(q))``."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from sardonyx.passes.cleanup.sink_dequantize import SinkDequantize

SCALE, ZERO = np.float32(0.037), np.int8(-3)
MOVES = {
    "reshape": ("Reshape (x, to)", {"to": np.int64([4, 6])}),
    "transpose": ("Transpose <perm = [2, 0, 1]> (x)", {}),
    "transpose-reversed": ("Transpose (x)", {}),
    "squeeze-all": ("Squeeze (x)", {}),
    "unsqueeze": ("Unsqueeze (x, at)", {"at": np.int64([1])}),
    "flatten": ("Flatten <axis = 2> (x)", {}),
    "identity": ("Identity (x)", {}),
    "gather": ("Gather <axis = 1> (x, ids)", {"ids": np.int64([2, 0])}),
    "gather-nd": ("GatherND (x, ids)", {"ids": np.int64([[1, 2], [0, 0]])}),
    "gather-elements": ("GatherElements <axis = 1> (x, ids)", {"ids": np.int64([[[1, 2, 0, 1]]])}),
    "slice": ("Slice (x, a, b)", {"a": np.int64([0, 1]), "b": np.int64([2, 3])}),
    "pad": ("Pad (x, by)", {"by": np.int64([0, 1, 0, 1, 0, 2])}),
    "pad-0": ("Pad (x, by, v)", {"by": np.int64([0, 1, 0, 1, 0, 2]), "v": np.float32(0)}),
    "pad-edge": ('Pad <mode = "edge"> (x, by)', {"by": np.int64([0, 1, 0, 1, 0, 2])}),
    "concat": ("Concat <axis = 1> (x, x)", {}),
}
"""Movements of x [2, 3, 4]."""


def ops(model):
    return [node.op_type for node in model.graph.node]


def codes(*shape, dtype=np.int8):
    info = np.iinfo(dtype)
    return np.random.default_rng(0).integers(info.min, info.max + 1, shape).astype(dtype)


def model_of(text_model, move, given, opset=17, kind="int8", zero=ZERO, **more):
    return text_model(
        f"""g ({kind}[2,3,4] q) => (float Y) {{
             x = DequantizeLinear (q, s{"" if zero is None else ", z"})
             y = {move}
             Y = Neg (y)
           }}""",
        opset,
        s=SCALE,
        **({} if zero is None else {"z": zero}),
        **given,
        **more,
    )


@pytest.fixture
def shaped(run_ort):
    """The model of one input q, its outputs declared as onnxruntime makes them."""

    def declare(model):
        kind = model.graph.input[0].type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        q = codes(*(dim.dim_value for dim in kind.shape.dim), dtype=dtype)
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        for output, made in zip(model.graph.output, run_ort(model, {"q": q}), strict=True):
            output.CopyFrom(helper.make_tensor_value_info(output.name, 1, made.shape))
        return model

    return declare


def same(run_ort, before, after, feeds):
    for want, have in zip(run_ort(before, feeds), run_ort(after, feeds), strict=True):
        assert want.dtype == have.dtype
        assert want.tobytes() == have.tobytes()


@pytest.mark.parametrize("zero", [ZERO, None], ids=["zero-point", "none"])
@pytest.mark.parametrize("move", MOVES)
def test_every_movement(apply, text_model, run_ort, shaped, move, zero):
    text, given = MOVES[move]
    kind = "int8" if zero is not None else "uint8"
    before = shaped(model_of(text_model, text, given, kind=kind, zero=zero))
    after = apply(SinkDequantize(), before)
    assert (after.rewrites, after.again) == (1, 0)
    assert ops(after.model) == [text.split()[0], "DequantizeLinear", "Neg"]
    same(run_ort, before, after.model, {"q": codes(2, 3, 4, dtype=np.dtype(kind))})


@pytest.mark.parametrize("op", ["DepthToSpace", "SpaceToDepth"])
def test_blocks_of_pictures(apply, text_model, run_ort, op):
    before = text_model(
        f"""g (int8[1,4,2,2] q) => (float[a,b,c,d] Y) {{
             x = DequantizeLinear (q, s, z)
             Y = {op} <blocksize = 2> (x)
           }}""",
        s=SCALE,
        z=ZERO,
    )
    after = apply(SinkDequantize(), before)
    assert ops(after.model) == [op, "DequantizeLinear"]
    same(run_ort, before, after.model, {"q": codes(1, 4, 2, 2)})


@pytest.mark.parametrize(
    ("opset", "move", "given"),
    [
        (11, "Unsqueeze <axes = [0]> (x)", {}),
        (11, "Pad (x, by)", {"by": np.int64([0, 1, 0, 1, 0, 2])}),
        (13, "Squeeze (u, at)", {"at": np.int64([0])}),
        (18, "Pad (x, by, v, at)", {"by": np.int64([1, 1]), "v": np.float32(0), "at": [1]}),
        (21, "Reshape <allowzero = 1> (x, to)", {"to": np.int64([4, 6])}),
        (26, "Transpose <perm = [1, 0, 2]> (x)", {}),
    ],
)
def test_operator_sets(apply, text_model, run_ort, shaped, opset, move, given):
    before = model_of(text_model, move.replace("(u", "(x"), given, opset)
    if "(u" in move:
        before.graph.input[0].CopyFrom(helper.make_tensor_value_info("q", 3, [1, 3, 4]))
    before.ir_version = 13 if opset > 23 else 10
    shaped(before)
    after = apply(SinkDequantize(), before)
    assert (after.rewrites, after.again) == (1, 0)
    shape = [d.dim_value for d in before.graph.input[0].type.tensor_type.shape.dim]
    same(run_ort, before, after.model, {"q": codes(*shape)})


def test_before_and_after(apply, text_model, run_ort):
    """A chain; notes and names."""
    before = text_model(
        """g (uint8[B,6,4] q) => (float[4,B,2,3] Y) {
             [d] x = DequantizeLinear (q, s, z)
             [r] y = Reshape (x, to)
             [t] Y = Transpose <perm = [3, 0, 1, 2]> (y)
           }""",
        s=SCALE,
        z=np.uint8(7),
        to=np.int64([0, 2, 3, 4]),
    )
    before.graph.node[0].metadata_props.add(key="sardonyx.range", value="1")
    after = apply(SinkDequantize(), before)
    assert (after.rewrites, after.again) == (2, 0)
    wiring = [(n.op_type, n.name, " ".join(n.input), *n.output) for n in after.model.graph.node]
    assert wiring == [
        ("Reshape", "r", "q to", "y/codes"),
        ("Transpose", "t", "y/codes", "Y/codes"),
        ("DequantizeLinear", "Y/Dequantize", "Y/codes s z", "Y"),
    ]
    notes = {p.key: p.value for p in after.model.graph.node[2].metadata_props}
    assert notes == {"sardonyx.range": "1", "sardonyx.pass": "sink-dequantize"}
    same(run_ort, before, after.model, {"q": codes(3, 6, 4, dtype=np.uint8)})


def test_a_split(apply, text_model, run_ort):
    """Each output is dequantized by itself, one that nobody reads is not."""
    before = text_model(
        """g (int8[B,6] q) => (float[B,2] Y, float[B,2] Z) {
             x = DequantizeLinear (q, s, z)
             Y, unread, c = Split <axis = 1> (x, parts)
             Z = Neg (c)
           }""",
        s=SCALE,
        z=ZERO,
        parts=np.int64([2, 2, 2]),
    )
    after = apply(SinkDequantize(), before)
    assert after.rewrites == 1
    assert ops(after.model) == ["Split", "DequantizeLinear", "DequantizeLinear", "Neg"]
    same(run_ort, before, after.model, {"q": codes(3, 6)})


def test_a_concat_of_equal_scales(apply, text_model, run_ort):
    """Constants are equal that hold the same; what is known first waits for the others."""
    before = text_model(
        """g (int8[2,3] p, int8[3,2] q) => (float[4,3] Y) {
             x = DequantizeLinear (p, s, z)
             w = DequantizeLinear (q, s2, z2)
             turned = Transpose (w)
             Y = Concat <axis = 0> (x, turned)
           }""",
        s=SCALE,
        z=ZERO,
        s2=SCALE,
        z2=ZERO,
    )
    after = apply(SinkDequantize(), before)
    assert (after.rewrites, after.again) == (2, 0)
    assert ops(after.model) == ["Transpose", "Concat", "DequantizeLinear"]
    assert after.journal.missed == []
    same(run_ort, before, after.model, {"p": codes(2, 3), "q": codes(3, 2)})


@pytest.mark.parametrize(
    ("axis", "move", "given"),
    [
        (0, "Transpose <perm = [2, 0, 1]> (x)", {}),
        (-1, "Transpose (x)", {}),
        (2, "Unsqueeze (x, at)", {"at": np.int64([0, -1])}),
        (2, "Squeeze (u, at)", {"at": np.int64([1])}),
        (2, "Gather <axis = 1> (x, ids)", {"ids": np.int64([[2], [1]])}),
        (0, "Gather <axis = 1> (x, ids)", {"ids": np.int64(2)}),
        (2, "Gather <axis = 1> (x, ids)", {"ids": np.int64(2)}),
        (0, "Slice (x, a, b, a)", {"a": np.int64([1]), "b": np.int64([3])}),
        (1, "Split <axis = 0> (x)", {}),
        (1, "Concat <axis = 0> (x, x)", {}),
        (1, "Identity (x)", {}),
    ],
)
def test_a_scale_for_each_place_of_an_axis(
    apply, text_model, run_ort, shaped, normal, axis, move, given
):
    """The axis is followed: onnxruntime refuses or computes something else along another."""
    shape = (2, 1, 4) if "(u" in move else (2, 3, 4)
    places = shape[axis]
    before = text_model(
        f"""g (int8{list(shape)} q) => (float Y) {{
             x = DequantizeLinear <axis = {axis}> (q, s, z)
             {"y, unread" if "Split" in move else "y"} = {move.replace("(u", "(x")}
             Y = Neg (y)
           }}""",
        s=np.abs(normal(places)),
        z=np.arange(places).astype(np.int8),
        **given,
    )
    after = apply(SinkDequantize(), shaped(before))
    assert (after.rewrites, after.again) == (1, 0)
    same(run_ort, before, after.model, {"q": codes(*shape)})


def test_half_a_byte(apply, text_model, run_ort, normal):
    """Of the movements, onnxruntime has a Transpose of them."""
    before = text_model(
        """g (float[2,4] A) => (float[2,3] Y) {
             w = DequantizeLinear <axis = 0> (q, s)
             t = Transpose (w)
             Y = MatMul (A, t)
           }""",
        21,
        10,
        s=np.float32([0.1, 0.2, 0.3]),
    )
    values = (np.arange(12) - 6).reshape(3, 4)
    before.graph.initializer.append(helper.make_tensor("q", onnx.TensorProto.INT4, [3, 4], values))
    after = apply(SinkDequantize(), before)
    assert ops(after.model) == ["Transpose", "DequantizeLinear", "MatMul"]
    same(run_ort, before, after.model, {"A": normal(2, 4)})


def test_a_table_that_others_read_too(apply, text_model, run_ort, normal):
    """A constant: each lookup takes rows of codes, whoever else needs the whole."""
    before = text_model(
        """g (int64[N] ids, int64[M] more, float[2,5] A)
             => (float[N,4] Y, float[M,4] Z, float[2,4] P) {
             w = DequantizeLinear (q, s, z)
             Y = Gather (w, ids)
             Z = Gather (w, more)
             P = MatMul (A, w)
           }""",
        q=codes(5, 4),
        s=SCALE,
        z=ZERO,
    )
    after = apply(SinkDequantize(), before)
    assert (after.rewrites, after.again) == (2, 0)
    census = ["DequantizeLinear", "Gather", "DequantizeLinear", "Gather", "DequantizeLinear"]
    assert ops(after.model) == [*census, "MatMul"]
    feeds = {"ids": np.int64([4, 0]), "more": np.int64([1]), "A": normal(2, 5)}
    same(run_ort, before, after.model, feeds)


def test_several_that_make_no_more_together(apply, text_model, run_ort):
    before = text_model(
        """g (int8[B,6] q) => (float[B,4] Y, float[2,B] Z) {
             x = DequantizeLinear (q, s, z)
             Y = Slice (x, zero, four, one)
             l = Slice (x, four, six, one)
             Z = Transpose (l)
           }""",
        s=SCALE,
        z=ZERO,
        **{name: np.int64([n]) for name, n in {"zero": 0, "one": 1, "four": 4, "six": 6}.items()},
    )
    after = apply(SinkDequantize(), before)
    assert (after.rewrites, after.again) == (3, 0)
    same(run_ort, before, after.model, {"q": codes(3, 6)})


def test_a_scale_that_is_computed(apply, text_model, run_ort, normal):
    before = text_model(
        """g (float[B,6] X) => (float[6,B] Y) {
             q, s, z = DynamicQuantizeLinear (X)
             x = DequantizeLinear (q, s, z)
             Y = Transpose (x)
           }"""
    )
    after = apply(SinkDequantize(), before)
    assert ops(after.model) == ["DynamicQuantizeLinear", "Transpose", "DequantizeLinear"]
    same(run_ort, before, after.model, {"X": normal(3, 6)})


def test_onnxruntimes_own_dequantize(apply, contrib, run_ort):
    before = contrib(
        """g (uint16[2,3] q) => (float[3,2] Y) {
             x = com.microsoft.DequantizeLinear (q, s, z)
             Y = Transpose (x)
           }""",
        s=SCALE,
        z=np.uint16(700),
    )
    after = apply(SinkDequantize(), before)
    assert [n.domain for n in after.model.graph.node] == ["", "com.microsoft"]
    same(run_ort, before, after.model, {"q": codes(2, 3, dtype=np.uint16)})


BODIES = """g (bool c, int8[2,3] q) => (float[3,2] Y) {{
  {outside}
  Y = If (c) <
    then_branch = t () => (float[3,2] r1) {{ {inside} r1 = Transpose (x) }},
    else_branch = e () => (float[3,2] r2) {{ {inside} a = Transpose (x) r2 = Neg (a) }}
  >
}}"""
DEQUANTIZED = "x = DequantizeLinear (q, s, z)"


def test_bodies_by_themselves(apply, text_model, run_ort):
    text = BODIES.format(outside="", inside=DEQUANTIZED)
    before = text_model(text, s=SCALE, z=ZERO)
    after = apply(SinkDequantize(), before)
    assert (after.rewrites, after.again) == (2, 0)
    for c in (True, False):
        same(run_ort, before, after.model, {"c": np.array(c), "q": codes(2, 3)})


def test_near_miss_5_a_movement_inside(apply, text_model):
    before = text_model(BODIES.format(outside=DEQUANTIZED, inside=""), s=SCALE, z=ZERO)
    after = apply(SinkDequantize(), before)
    assert after.rewrites == 0
    assert {miss.reason for miss in after.journal.missed} == {"it is in a graph inside"}


FLOATS = "something else needs 'x' in floats"
MORE = "more would be dequantized after it than before"
CHANGED = "it is not known where axis {} goes, which has the scales"


@pytest.mark.parametrize(
    ("text", "held", "reason"),
    [
        pytest.param(
            "i = Cast <to = 6> (q) x = DequantizeLinear (i, s) Y = Transpose (x)",
            {},
            "int32 is no smaller than the floats it stands for",
            id="1-int32",
        ),
        pytest.param(
            "i = Cast <to = 5> (q) x = com.microsoft.DequantizeLinear (i, s, z) Y = Pad (x, by)",
            {"z": np.int16(0), "by": np.int64([0, 1, 0, 0, 0, 0])},
            "onnxruntime has no Pad of int16 in operator set 21",
            id="1-no-kernel",
        ),
        pytest.param(
            "x = DequantizeLinear <axis = 1, block_size = 3> (q, s) Y = Transpose (x)",
            {"s": np.ones((2, 2, 4), np.float32)},
            "'s' is not one scale, nor one for each place of an axis",
            id="2-blocks",
        ),
        pytest.param(
            "x = DequantizeLinear <axis = 1> (q, v) Y = Reshape (x, to)",
            {"v": np.ones(6, np.float32), "to": np.int64([4, 12])},
            CHANGED.format(1),
            id="2-reshape",
        ),
        pytest.param(
            "x = DequantizeLinear <axis = 1> (q, v) Y = Gather <axis = 1> (x, ids)",
            {"v": np.ones(6, np.float32), "ids": np.int64([1])},
            CHANGED.format(1),
            id="2-gather",
        ),
        pytest.param(
            "x = DequantizeLinear <axis = 1> (q, v) Y = Slice (x, ids, to, ids)",
            {"v": np.ones(6, np.float32), "ids": np.int64([1]), "to": np.int64([4])},
            CHANGED.format(1),
            id="2-slice",
        ),
        pytest.param(
            "x = DequantizeLinear <axis = 2> (q, v) Y = Concat <axis = -1> (x, x)",
            {"v": np.ones(4, np.float32)},
            CHANGED.format(2),
            id="2-concat",
        ),
        pytest.param(
            "x = DequantizeLinear (q, s) Y = Expand (x, to)",
            {"to": np.int64([3, 2, 6, 4])},
            MORE,
            id="3-expand",
        ),
        pytest.param(
            "x = DequantizeLinear (q, s) Y = Tile (x, to)", {"to": [1, 2, 1]}, MORE, id="3-tile"
        ),
        pytest.param(
            "x = DequantizeLinear (q, s) Y = Gather (x, ids)", {"ids": [0] * 5}, MORE, id="3-gather"
        ),
        pytest.param(
            "x = DequantizeLinear (q, s) a = Transpose (x) b = Neg (x) Y = Concat <axis = 0> (x, b)"
            " Z = Neg (a)",
            {},
            FLOATS,
            id="4-computed-with",
        ),
        pytest.param(
            "Z = DequantizeLinear (q, s) Y = Transpose (Z)",
            {},
            FLOATS.replace("x", "Z"),
            id="4-output",
        ),
        pytest.param(
            "x = DequantizeLinear (q, s) a = Transpose <perm = [0, 2, 1]> (x) b = Identity (x)"
            " c = MatMul (a, b) Y = Exp (c)",
            {},
            FLOATS,
            id="4-two-that-move-all",
        ),
        pytest.param(
            "x = DequantizeLinear (q, s) Y = Pad (x, by, v)",
            {"by": np.int64([0, 1, 0, 0, 0, 0]), "v": np.float32(1)},
            "it pads with another value than 0",
            id="6-pad",
        ),
        pytest.param(
            "x = DequantizeLinear (q, s) a = Neg (o) Y = Concat <axis = 0> (x, a)",
            {"o": np.ones((1, 6, 4), np.float32)},
            "it joins codes and 'a', which is none",
            id="6-concat",
        ),
        pytest.param(
            "x = DequantizeLinear (q, s) a = DequantizeLinear (q, r) Y = Concat <axis = 0> (x, a)",
            {"r": np.float32(2)},
            "it joins codes of different scales",
            id="6-other-scale",
        ),
    ],
)
def test_near_misses(apply, contrib, shaped, text, held, reason):
    """Each stays as it is, and runs."""
    outputs = "float Y, float Z" if "Z =" in text else "float Y"
    constants = {"s": SCALE} | held
    model = contrib(f"g (uint8[2,6,4] q) => ({outputs}) {{ {text} }}", 21, **constants)
    model.ir_version = 10
    after = apply(SinkDequantize(), shaped(model))
    assert after.rewrites == 0
    assert reason in {miss.reason for miss in after.journal.missed}
