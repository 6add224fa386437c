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


@pytest.mark.parametrize("zero", [ZERO, None], ids=["zero-point", "none"])
@pytest.mark.parametrize("move", MOVES)
def test_every_movement(apply, text_model, same_bits, shaped, move, zero):
    text, given = MOVES[move]
    kind = "int8" if zero is not None else "uint8"
    q = codes(2, 3, 4, dtype=np.dtype(kind))
    before = shaped(model_of(text_model, text, given, kind=kind, zero=zero), {"q": q})
    after = apply(SinkDequantize(), before)
    assert (after.rewrites, after.again) == (1, 0)
    assert after.ops == [text.split()[0], "DequantizeLinear", "Neg"]
    same_bits(before, after.model, {"q": q})


@pytest.mark.parametrize("op", ["DepthToSpace", "SpaceToDepth"])
def test_blocks_of_pictures(apply, text_model, same_bits, op):
    before = text_model(
        f"""g (int8[1,4,2,2] q) => (float[a,b,c,d] Y) {{
             x = DequantizeLinear (q, s, z)
             Y = {op} <blocksize = 2> (x)
           }}""",
        s=SCALE,
        z=ZERO,
    )
    after = apply(SinkDequantize(), before)
    assert after.ops == [op, "DequantizeLinear"]
    same_bits(before, after.model, {"q": codes(1, 4, 2, 2)})


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
def test_operator_sets(apply, text_model, same_bits, shaped, opset, move, given):
    before = model_of(text_model, move.replace("(u", "(x"), given, opset)
    if "(u" in move:
        before.graph.input[0].CopyFrom(helper.make_tensor_value_info("q", 3, [1, 3, 4]))
    before.ir_version = 13 if opset > 23 else 10
    feeds = {"q": codes(1 if "(u" in move else 2, 3, 4)}
    after = apply(SinkDequantize(), shaped(before, feeds))
    assert (after.rewrites, after.again) == (1, 0)
    same_bits(before, after.model, feeds)


def test_before_and_after(apply, text_model, same_bits):
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
    same_bits(before, after.model, {"q": codes(3, 6, 4, dtype=np.uint8)})


def test_names_that_are_taken(apply, text_model, same_bits):
    before = text_model(
        """g (int8[2,3] q) => (float[3,2] Y, int8[2,3] Z) {
             taken = Identity (q)
             Z = Neg (taken)
             x = DequantizeLinear (q, s, z)
             Y = Transpose (x)
           }""",
        s=SCALE,
        z=ZERO,
    )
    first, second = before.graph.node[:2]
    first.name = "Y/Dequantize"
    first.output[0] = second.input[0] = "Y/codes"
    after = apply(SinkDequantize(), before)
    assert after.rewrites == 1
    assert after.model.graph.node[-1].name == "Y/Dequantize_"
    same_bits(before, after.model, {"q": codes(2, 3)})


def test_a_split(apply, text_model, same_bits):
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
    assert after.ops == ["Split", "DequantizeLinear", "DequantizeLinear", "Neg"]
    same_bits(before, after.model, {"q": codes(3, 6)})


def test_a_concat_of_equal_scales(apply, text_model, same_bits):
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
    assert after.ops == ["Transpose", "Concat", "DequantizeLinear"]
    assert after.journal.missed == []
    same_bits(before, after.model, {"p": codes(2, 3), "q": codes(3, 2)})


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
    apply, text_model, same_bits, shaped, normal, axis, move, given
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
    feeds = {"q": codes(*shape)}
    after = apply(SinkDequantize(), shaped(before, feeds))
    assert (after.rewrites, after.again) == (1, 0)
    same_bits(before, after.model, feeds)


def test_half_a_byte(apply, text_model, same_bits, normal):
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
    assert after.ops == ["Transpose", "DequantizeLinear", "MatMul"]
    same_bits(before, after.model, {"A": normal(2, 4)})


def test_a_table_that_others_read_too(apply, text_model, same_bits, normal):
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
    assert after.ops == [*census, "MatMul"]
    feeds = {"ids": np.int64([4, 0]), "more": np.int64([1]), "A": normal(2, 5)}
    same_bits(before, after.model, feeds)


def test_several_that_make_no_more_together(apply, text_model, same_bits):
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
    same_bits(before, after.model, {"q": codes(3, 6)})


def test_a_scale_that_is_computed(apply, text_model, same_bits, normal):
    before = text_model(
        """g (float[B,6] X) => (float[6,B] Y) {
             q, s, z = DynamicQuantizeLinear (X)
             x = DequantizeLinear (q, s, z)
             Y = Transpose (x)
           }"""
    )
    after = apply(SinkDequantize(), before)
    assert after.ops == ["DynamicQuantizeLinear", "Transpose", "DequantizeLinear"]
    same_bits(before, after.model, {"X": normal(3, 6)})


def test_onnxruntimes_own_dequantize(apply, contrib, same_bits):
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
    same_bits(before, after.model, {"q": codes(2, 3, dtype=np.uint16)})


def test_bodies_by_themselves(apply, text_model, same_bits):
    made = "x = DequantizeLinear (q, s, z)"
    before = text_model(
        f"""g (bool c, int8[2,3] q) => (float[3,2] Y) {{
             Y = If (c) <
               then_branch = t () => (float[3,2] r1) {{ {made} r1 = Transpose (x) }},
               else_branch = e () => (float[3,2] r2) {{ {made} a = Transpose (x) r2 = Neg (a) }}
             >
           }}""",
        s=SCALE,
        z=ZERO,
    )
    after = apply(SinkDequantize(), before)
    assert (after.rewrites, after.again) == (2, 0)
    for c in (True, False):
        same_bits(before, after.model, {"c": np.array(c), "q": codes(2, 3)})
