"""hoist-quantize: ``QuantizeLinear(Move(x))`` -> ``Move(QuantizeLinear(x))``."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.passes.cleanup.hoist_quantize import HoistQuantize

GRID = {"s": np.float32(0.001), "z": np.int8(-3)}
MOVES = {
    "reshape": ("Reshape (x, to)", {"to": np.int64([4, 6])}),
    "transpose": ("Transpose (x)", {}),
    "unsqueeze": ("Unsqueeze (x, at)", {"at": np.int64([1])}),
    "flatten": ("Flatten <axis = 2> (x)", {}),
    "identity": ("Identity (x)", {}),
    "expand": ("Expand (x, to)", {"to": np.int64([2, 2, 3, 4])}),
    "tile": ("Tile (x, by)", {"by": np.int64([1, 2, 2])}),
    "gather-all": ("Gather <axis = 1> (x, ids)", {"ids": np.int64([2, 0, 0])}),
    "gather-more": ("Gather (x, ids)", {"ids": np.int64([[1, 0], [0, 0]])}),
    "gather-nd": ("GatherND (x, ids)", {"ids": np.int64([[1], [0]])}),
    "gather-elements": ("GatherElements (x, ids)", {"ids": np.ones((2, 3, 4), np.int64)}),
    "slice-all": ("Slice (x, a, b)", {"a": np.int64([0]), "b": np.int64([2])}),
    "pad": ("Pad (x, by)", {"by": np.int64([0, 1, 0, 1, 0, 2])}),
    "pad-0": ("Pad (x, by, v)", {"by": np.int64([0, 1, 0, 1, 0, 2]), "v": np.float32(0)}),
    "pad-reflect": ('Pad <mode = "reflect"> (x, by)', {"by": np.int64([0, 1, 0, 1, 0, 2])}),
    "concat": ("Concat <axis = 1> (x, c, x)", {"c": np.ones((2, 1, 4), np.float32)}),
}
"""Movements of x [2, 3, 4]."""


@pytest.mark.parametrize("move", MOVES)
def test_every_movement(apply, text_model, same_bits, shaped, normal, move):
    text, held = MOVES[move]
    text = f"g (float[2,3,4] x) => (int8 Y) {{ y = {text} Y = QuantizeLinear (y, s, z) }}"
    before = shaped(text_model(text, **held, **GRID), {"x": normal(2, 3, 4)})
    after = apply(HoistQuantize(), before)
    assert (after.rewrites, after.again) == (1, 0)
    quantized = 2 if move == "concat" else 1  # x once, though read twice
    assert after.ops == ["QuantizeLinear"] * quantized + [MOVES[move][0].split()[0]]
    same_bits(before, after.model, {"x": normal(2, 3, 4)})


@pytest.mark.parametrize("zero", [np.uint8(7), np.uint8(0), None], ids=["7", "0", "none"])
def test_padding_becomes_the_zero_point(apply, text_model, same_bits, shaped, normal, zero):
    held = {} if zero is None else {"z": zero}
    before = text_model(
        f"""g (float[2,3] x) => (uint8 Y) {{
             y = Pad (x, by, v)
             Y = QuantizeLinear (y, s{", z" if held else ""})
           }}""",
        s=np.float32(0.001),
        by=np.int64([1, 0, 0, 2]),
        v=np.float32(0),
        **held,
    )
    after = apply(HoistQuantize(), shaped(before, {"x": normal(2, 3)}))
    assert (after.rewrites, after.again) == (1, 0)
    same_bits(before, after.model, {"x": normal(2, 3)})


@pytest.mark.parametrize(
    ("opset", "move", "held"),
    [
        (11, "Squeeze <axes = [0]> (x)", {}),
        (13, "Squeeze (x, at)", {"at": np.int64([0])}),
        (18, "Pad (x, by, v, at)", {"by": np.int64([1, 1]), "v": np.float32(0), "at": [1]}),
        (21, "Reshape <allowzero = 1> (x, to)", {"to": np.int64([4, 3])}),
    ],
)
def test_operator_sets(apply, text_model, same_bits, shaped, normal, opset, move, held):
    text = f"g (float[1,3,4] x) => (int8 Y) {{ y = {move} Y = QuantizeLinear (y, s, z) }}"
    before = shaped(text_model(text, opset, 10, **held, **GRID), {"x": normal(1, 3, 4)})
    after = apply(HoistQuantize(), before)
    assert (after.rewrites, after.again) == (1, 0)
    same_bits(before, after.model, {"x": normal(1, 3, 4)})


def test_before_and_after(apply, text_model, same_bits, normal):
    """A chain; notes and names."""
    before = text_model(
        """g (float[B,3,4] X, float[B,3,4] W) => (int8[4,6,B] Y) {
             [n] x = Neg (X)
             [c] y = Concat <axis = 1> (x, W)
             [t] t = Transpose <perm = [2, 1, 0]> (y)
             [q] Y = QuantizeLinear (t, s, z)
           }""",
        **GRID,
    )
    before.graph.node[3].metadata_props.add(key="sardonyx.range", value="1")
    after = apply(HoistQuantize(), before)
    assert (after.rewrites, after.again) == (2, 0)
    wiring = [(n.op_type, n.name, " ".join(n.input), *n.output) for n in after.model.graph.node]
    assert wiring == [
        ("Neg", "n", "X", "x"),
        ("QuantizeLinear", "c/Quantize", "x s z", "x/codes"),
        ("QuantizeLinear", "c/Quantize1", "W s z", "W/codes"),
        ("Concat", "c", "x/codes W/codes", "y/codes"),
        ("Transpose", "t", "y/codes", "Y"),
    ]
    notes = {p.key: p.value for p in after.model.graph.node[1].metadata_props}
    assert notes == {"sardonyx.range": "1", "sardonyx.pass": "hoist-quantize"}
    same_bits(before, after.model, {"X": normal(2, 3, 4), "W": normal(2, 3, 4, seed=1)})


def test_a_split_all_of_which_is_quantized(apply, text_model, same_bits, normal):
    before = text_model(
        """g (float[B,6] x) => (int8[B,2] Y, int8[2,B] Z) {
             a, b, unread = Split <axis = 1> (x, parts)
             Y = QuantizeLinear (a, s, z)
             t = Transpose (b)
             Z = QuantizeLinear (t, s, z)
           }""",
        parts=np.int64([2, 2, 2]),
        **GRID,
    )
    after = apply(HoistQuantize(), before)
    assert (after.rewrites, after.again) == (2, 0)
    assert after.ops == ["QuantizeLinear", "Split", "Transpose"]
    same_bits(before, after.model, {"x": normal(3, 6)})


@pytest.mark.parametrize(
    ("inputs", "move"),
    [
        ("float[B,2,T,4] past, int64[N] beams", "Gather (past, beams)"),
        ("float[B,2,T,4] past, int64[N,1] beams", "GatherND (past, beams)"),
        ("float[B,K,2,4] past, int64[B,K,1] beams", "GatherND <batch_dims = 1> (past, beams)"),
    ],
)
def test_the_order_of_beams(apply, text_model, same_bits, normal, inputs, move):
    """How many are chosen is the size of an input: as many as there are, as far as is known."""
    before = text_model(
        f"""g ({inputs}) => (int8[a,b,c,d] Y) {{
             y = {move}
             Y = QuantizeLinear (y, s, z)
           }}""",
        **GRID,
    )
    after = apply(HoistQuantize(), before)
    assert (after.rewrites, after.again) == (1, 0)
    beams = np.int64([2, 0, 0])
    if "N,1" in inputs:
        beams = beams[:, None]
    if "K,1" in inputs:
        beams = np.broadcast_to(beams[:, None] % 2, (3, 3, 1))[:, :2].copy()
    feeds = {"past": normal(3, 2, 2, 4), "beams": beams}
    same_bits(before, after.model, feeds)


def test_what_was_dequantized_may_be_chosen_from(apply, text_model, same_bits, normal):
    """Codes that something else needs in floats, of which a part becomes codes again."""
    before = text_model(
        """g (int8[B,6] q) => (int8[B,2] Y, float[B,6] Z) {
             x = DequantizeLinear (q, s, z)
             Z = Neg (x)
             part = Slice (x, a, b, one)
             Y = QuantizeLinear (part, s, z)
           }""",
        a=np.int64([1]),
        b=np.int64([3]),
        one=np.int64([1]),
        **GRID,
    )
    after = apply(HoistQuantize(), before)
    assert (after.rewrites, after.again) == (1, 0)
    assert after.ops == ["DequantizeLinear", "Neg", "QuantizeLinear", "Slice"]
    same_bits(before, after.model, {"q": np.arange(12, dtype=np.int8).reshape(2, 6)})


def test_rows_of_a_constant(apply, text_model, same_bits, normal):
    """Its codes are known before any run."""
    before = text_model(
        "g (int64[N] ids) => (int8[N,4] Y) { y = Gather (W, ids) Y = QuantizeLinear (y, s, z) }",
        W=normal(5, 4),
        **GRID,
    )
    after = apply(HoistQuantize(), before)
    assert after.ops == ["QuantizeLinear", "Gather"]
    same_bits(before, after.model, {"ids": np.int64([4, 1])})


KINDS = {"Y": "int8", "Z": "float"}
LESS = "more would be quantized before it than after"
READ = "something else than one QuantizeLinear needs 'y'"


@pytest.mark.parametrize(
    ("text", "held", "reason"),
    [
        pytest.param(
            "y = Pad (x, by) q = com.microsoft.QuantizeLinear (y, s, z)"
            " Z = com.microsoft.DequantizeLinear (q, s, z)",
            {"by": np.int64([1, 0, 0, 0, 0, 0]), "z": np.int16(3)},
            "onnxruntime has no Pad of int16 in operator set 17",
            id="1-no-kernel",
        ),
        pytest.param(
            "y = Transpose (x) t = Abs (s) Y = QuantizeLinear (y, t, z)",
            {},
            "'t' is not one constant scale",
            id="2-computed",
        ),
        pytest.param(
            "y = Transpose (x) Y = QuantizeLinear <axis = 0> (y, v, w)",
            {"v": np.ones(4, np.float32), "w": np.zeros(4, np.int8)},
            "'v' is not one constant scale",
            id="2-a-scale-for-each-place",
        ),
        pytest.param(
            "y = Transpose (x) Y = QuantizeLinear (y, s, z) Z = Neg (y)", {}, READ, id="3-read"
        ),
        pytest.param(
            "Z = Transpose (x) Y = QuantizeLinear (Z, s, z)",
            {},
            READ.replace("'y'", "'Z'"),
            id="3-output",
        ),
        pytest.param(
            "y, w = Split <axis = 2> (x) Y = QuantizeLinear (y, s, z) q = QuantizeLinear (w, r, z)"
            " Z = DequantizeLinear (q, r, z)",
            {"r": np.float32(2)},
            "what it makes is quantized by different scales",
            id="3-split",
        ),
        pytest.param(
            "y = Slice (x, a, b) Y = QuantizeLinear (y, s, z)",
            {"a": np.int64([1]), "b": np.int64([2])},
            LESS,
            id="4-slice",
        ),
        pytest.param(
            "y = Gather <axis = 1> (x, zero) Y = QuantizeLinear (y, s, z)",
            {"zero": np.int64(0)},
            LESS,
            id="4-gather",
        ),
        pytest.param(
            "n = NonZero (x) i = Transpose (n) y = GatherND (x, i) Y = QuantizeLinear (y, s, z)",
            {},
            LESS,
            id="4-mask",
        ),
        pytest.param(
            "y = Gather (W, i) Y = QuantizeLinear (y, s, z) Z = MatMul (x, W)",
            {"W": np.ones((4, 5), np.float32), "i": np.int64([1])},
            "something else reads 'W', which would be stored twice",
            id="4-constant",
        ),
        pytest.param(
            "y = Pad (x, by, v) Y = QuantizeLinear (y, s, z)",
            {"by": np.int64([1, 0, 0, 0, 0, 0]), "v": np.float32(1)},
            "it pads with another value than 0",
            id="6-pad",
        ),
    ],
)
def test_near_misses(apply, contrib, shaped, normal, text, held, reason):
    """Each stays as it is, and runs."""
    outputs = ", ".join(f"{kind} {y}" for y, kind in KINDS.items() if f"{y} =" in text)
    model = contrib(f"g (float[2,3,4] x) => ({outputs}) {{ {text} }}", **(GRID | held))
    after = apply(HoistQuantize(), shaped(model, {"x": normal(2, 3, 4)}))
    assert after.rewrites == 0
    assert reason in {miss.reason for miss in after.journal.missed}


def test_near_miss_4_fewer_in_symbols(apply, text_model):
    """One position of every sequence."""
    before = text_model(
        """g (float[B,S,4] x, int64 first) => (int8[B,4] Y) {
             y = Gather <axis = 1> (x, first)
             Y = QuantizeLinear (y, s, z)
           }""",
        **GRID,
    )
    after = apply(HoistQuantize(), before)
    assert after.rewrites == 0
    assert [miss.reason for miss in after.journal.missed] == [LESS]


def test_near_miss_5_quantized_in_a_graph_inside(apply, text_model):
    before = text_model(
        """g (bool c, float[2,3] x) => (int8[3,2] Y) {
             y = Transpose (x)
             Y = If (c) <
               then_branch = t () => (int8[3,2] r1) { r1 = QuantizeLinear (y, s, z) },
               else_branch = e () => (int8[3,2] r2) { r2 = Identity (z2) }
             >
           }""",
        z2=np.zeros((3, 2), np.int8),
        **GRID,
    )
    after = apply(HoistQuantize(), before)
    assert after.rewrites == 0
    assert [miss.reason for miss in after.journal.missed] == ["it is quantized in a graph inside"]


def test_bodies_by_themselves(apply, text_model, same_bits, normal):
    body = "y = Transpose (x) r{0} = QuantizeLinear (y, s, z)"
    before = text_model(
        f"""g (bool c, float[2,3] x) => (int8[3,2] Y) {{
             Y = If (c) <
               then_branch = t () => (int8[3,2] r1) {{ {body.format(1)} }},
               else_branch = e () => (int8[3,2] r2) {{ {body.format(2)} }}
             >
           }}""",
        **GRID,
    )
    after = apply(HoistQuantize(), before)
    assert (after.rewrites, after.again) == (2, 0)
    for c in (True, False):
        same_bits(before, after.model, {"c": np.array(c), "x": normal(2, 3)})
