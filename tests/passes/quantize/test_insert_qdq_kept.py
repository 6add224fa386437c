"""insert-qdq: products of activations that are rounded already keep their grid."""

import numpy as np
import pytest

from sardonyx.compiler import Recipe, compile
from sardonyx.compiler.load import load
from sardonyx.passes.quantize.insert_qdq import InsertQdq
from sardonyx.passes.quantize.kept_grid import kept_grid
from sardonyx.runtime_ops.uniform import Grid, encode

ROUNDED = """g (float[M,8,8] X) => (float[M,96] Y) {
  Q = QuantizeLinear (X, S, Z)
  D = DequantizeLinear (Q, S, Z)
  MOVE
  [product] P = MatMul (R, W)
  [total] Y = Add (P, b)
}"""

KINDS = [np.uint8, np.int8, np.uint16, np.int16]

MOVES = {
    "Reshape": "R = Reshape (D, shape)",
    "Transpose": "A = Transpose <perm = [0, 2, 1]> (D)\n R = Reshape (A, shape)",
    "Slice": "A = Identity (D)\n B = Reshape (A, shape)\n R = Slice (B, one, two)",
}


@pytest.fixture
def rounded(text_model, normal):
    """A product of an activation of some type, moved on the way."""

    def make(kind=np.uint8, move="Reshape", scale=None, weights=None):
        bits = np.dtype(kind).itemsize * 8
        zero = np.iinfo(kind).min + (1 << (bits - 1))
        return text_model(
            ROUNDED.replace("MOVE", MOVES[move]),
            21,
            10,
            S=np.array(8 / 2**bits if scale is None else scale, np.float32),
            Z=np.array(zero, kind),
            shape=np.array([-1, 64], np.int64),
            one=np.array([0], np.int64),
            two=np.array([6], np.int64),
            W=normal(64, 96) if weights is None else weights,
            b=20 * normal(96, seed=3),
        )

    return make


@pytest.fixture
def feeds(x):
    return {"X": x.reshape(7, 8, 8)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("move", MOVES)
def test_the_grid_of_the_operand_stays(done, sqnr, rounded, feeds, kind, move):
    before = rounded(kind, move)
    after = done(InsertQdq(), before, feeds)
    moved = [node.op_type for node in before.graph.node]
    assert after.rewrites == 1
    kept = [line for line in after.wiring if " DequantizeLinear (W" not in line]
    assert [line.split(" = ")[0] for line in kept][-3:] == ["product/Bias:0", "P", "Y"]
    assert sum(node.op_type == "QuantizeLinear" for node in after.model.graph.node) == 1
    assert [node.op_type for node in after.model.graph.node if node.op_type in MOVES] == [
        op for op in moved if op in MOVES
    ]
    assert np.array_equal(
        after.constants["b.scale"], after.constants["S"] * after.constants["W.scale"]
    )
    assert after.constants["b.codes"].dtype == np.int32
    assert after.activations == {}  # whoever rounded it has told of it
    assert after.encoded["W"].compute == f"int{np.dtype(kind).itemsize * 8}"
    assert sqnr(before, after.model, feeds) > 35  # the weights alone, of 7 bits


def test_nothing_is_measured(rounded):
    """No calibration data is needed where all operands are rounded."""
    done = compile(rounded(np.uint16), Recipe("mine", "", (InsertQdq(),)))
    assert [entry.name for entry in done.report.tensors] == ["W"]
    assert done.report.calibration is None


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_the_codes_say(done, rounded, feeds, x, run_ort, kind):
    after = done(InsertQdq(), rounded(kind), feeds)
    info, scale = np.iinfo(kind), after.constants["S"]
    grid = Grid(np.float32(scale), int(after.constants["Z"]), info.min < 0, info.bits)
    tensor = encode(after.encoded["W"].views[0].matrix(), 7)[0]
    product = grid.rounded(x).astype(float) @ tensor.decode()
    want = product + after.constants["b.codes"] * after.constants["b.scale"].astype(float)
    (have,) = run_ort(after.model, feeds)
    # the order of 64 float32 additions
    assert np.abs(want - have).max() <= 2e-6 * np.abs(want).max()


def test_a_bias_of_16_bit_steps_that_int32_does_not_hold(done, rounded, feeds, normal):
    """Steps of the product are scale_x scale_w: with finer ones a bias may not fit."""
    before = rounded(np.uint16, scale=1e-7, weights=1e-3 * normal(64, 96))
    after = done(InsertQdq(), before, feeds)
    assert after.rewrites == 1
    assert after.constants["b"].dtype == np.float32


def test_dynamic_products_of_rounded_operands_are_static(done, rounded, feeds, census):
    after = done(InsertQdq(activations="dynamic"), rounded(), feeds)
    assert census(after.model)["DynamicQuantizeLinear"] == 0
    assert census(after.model)["QuantizeLinear"] == 1


def test_products_of_two_rounded_activations_stay(done, text_model, census):
    before = text_model(
        """g (float[B,4,8] X) => (float[B,4,4] Y) {
          Q = QuantizeLinear (X, S, Z)
          D = DequantizeLinear (Q, S, Z)
          T = Transpose <perm = [0, 2, 1]> (D)
          Y = MatMul (D, T)
        }""",
        S=np.float32(0.1),
        Z=np.uint8(128),
    )
    feeds = {"X": np.ones((2, 4, 8), np.float32)}
    assert done(InsertQdq(act_act=True), before, feeds).rewrites == 0


NO_GRID = {
    "a scale a channel": "D = DequantizeLinear <axis = 1> (Q, C, K)\n R = Reshape (D, shape)",
    "two grids": "D = DequantizeLinear (Q, S, Z)\n E = DequantizeLinear (Q, T, Z)\n"
    "R = Concat <axis = 1> (D, E)",
    "computed": "D = DequantizeLinear (Q, S, Z)\n R = Neg (D)",
    "another filling": "D = DequantizeLinear (Q, S, Z)\n R = Pad (D, pads, filling)",
    "a scale that is computed": "D = DequantizeLinear (Q, A, Z)\n R = Reshape (D, shape)",
    "the input": "R = Reshape (X, shape)",
}


@pytest.mark.parametrize("why", NO_GRID)
def test_no_grid(text_model, why):
    model = text_model(
        f"""g (float[M,64] X, float A) => (float[M,K] R) {{
          Q = QuantizeLinear (X, S, Z)
          {NO_GRID[why]}
        }}""",
        S=np.float32(0.1),
        T=np.float32(0.2),
        Z=np.uint8(128),
        C=np.full(64, 0.1, np.float32),
        K=np.full(64, 128, np.uint8),
        shape=np.array([-1, 64]),
        pads=np.array([0, 0, 0, 1]),
        filling=np.float32(7),
    )
    _, graph = load(model)
    assert kept_grid(graph.outputs[0]) is None
