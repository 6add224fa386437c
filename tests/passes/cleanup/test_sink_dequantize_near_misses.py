"""sink-dequantize: what it leaves as it is, and why."""

import numpy as np
import pytest

from sardonyx.passes.cleanup.sink_dequantize import SinkDequantize

SCALE, ZERO = np.float32(0.037), np.int8(-3)


@pytest.mark.parametrize(
    ("other", "rewrites"),
    [
        ("k = DequantizeLinear (A, s, z)", 1),
        ("i = DequantizeLinear (A, s, z) k = Identity (i)", 2),
        ("k = Cast <to = 1> (A)", 0),
        ("i = Cast <to = 1> (A) k = Identity (i)", 0),
    ],
)
def test_near_miss_7_a_product_that_turns_its_operand(
    apply, text_model, same_bits, other, rewrites
):
    """A product of codes is made of what is moved as codes; one of floats turns it itself."""
    before = text_model(
        f"""g (int8[2,3,4] q, int8[2,3,4] A) => (float[2,3,3] Y) {{
             x = DequantizeLinear (q, s, z)
             {other}
             t = Transpose <perm = [0, 2, 1]> (x)
             Y = MatMul (k, t)
           }}""",
        s=SCALE,
        z=ZERO,
    )
    after = apply(SinkDequantize(), before)
    assert (after.rewrites, after.again) == (rewrites, 0)
    reasons = [miss.reason for miss in after.journal.missed]
    assert reasons == ([] if rewrites else ["products of floats turn it as they multiply"])
    codes = np.arange(24, dtype=np.int8).reshape(2, 3, 4)
    same_bits(before, after.model, {"q": codes, "A": codes[::-1].copy()})


def test_near_miss_5_a_movement_inside(apply, text_model):
    before = text_model(
        """g (bool c, int8[2,3] q) => (float[3,2] Y) {
             x = DequantizeLinear (q, s, z)
             Y = If (c) <
               then_branch = t () => (float[3,2] r1) { r1 = Transpose (x) },
               else_branch = e () => (float[3,2] r2) { a = Transpose (x) r2 = Neg (a) }
             >
           }""",
        s=SCALE,
        z=ZERO,
    )
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
    q = np.arange(48, dtype=np.uint8).reshape(2, 6, 4)
    after = apply(SinkDequantize(), shaped(model, {"q": q}))
    assert after.rewrites == 0
    assert reason in {miss.reason for miss in after.journal.missed}
