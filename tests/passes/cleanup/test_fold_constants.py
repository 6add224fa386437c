"""fold-constants: ``y = Op(c1, c2)`` -> a constant y, in a file that does not grow."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from sardonyx.compiler import Recipe, compile
from sardonyx.compiler.emit import emit
from sardonyx.compiler.load import load
from sardonyx.passes.cleanup.fold_constants import FoldConstants

SINK = "Y = Add (X, y) }"


def size(model):
    """Bytes of a model whose constants are initializers, as all others are lifted to."""
    return emit(*load(model)).ByteSize()


@pytest.fixture
def folded(apply, same_bits):
    """Fold in a model, and check that it computes the same and did not grow."""

    def fold(before, feeds, slack_bytes=0):
        after = apply(FoldConstants(slack_bytes), before)
        assert after.again == 0
        assert after.model.ByteSize() <= size(before) + slack_bytes * after.rewrites
        same_bits(before, after.model, feeds)
        return after

    return fold


def test_a_transposed_weight(text_model, folded, normal):
    before = text_model(
        "g (float[N,5] X) => (float[N,3] Y) { y = Transpose (W)\n p = Add (X, b)\n"
        "Y = MatMul (p, y) }",
        W=normal(3, 5),
        b=normal(5),
    )
    after = folded(before, _x(2, 5))
    assert (after.rewrites, after.ops) == (1, ["Add", "MatMul"])
    assert set(after.constants) == {"y", "b"}
    assert np.array_equal(after.constants["y"], normal(3, 5).T)
    compiled = compile(before, Recipe("r", "", (FoldConstants(),), alone=True))
    assert compiled.report.verification.regions_run == 1


def _x(*shape):
    return {"X": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}


def test_what_reads_each_other_goes_together(text_model, folded):
    """A value larger than both ends is never stored."""
    before = text_model(
        """g (float[2] X) => (float[2] Y) {
             big = Expand (c, shape)
             low, high = Split <axis = 0> (big)
             sum = Add (low, high)
             squares = Mul (sum, sum)
             y = ReduceMean <keepdims = 0> (squares)
             Y = Add (X, y)
           }""",
        c=np.float32(1.5),
        shape=np.array([64, 64]),
    )
    after = folded(before, _x(2))
    assert after.rewrites == 5
    assert after.constants.keys() == {"y"}
    assert after.constants["y"] == 9


def test_a_shape_is_folded_and_its_tensor_stays(text_model, folded, normal):
    before = text_model(
        """g (float[N,8] X) => (float[N,4] Y, int64[3] Z) {
             shape = Shape (W)
             more = Concat <axis = 0> (shape, one)
             Z = Identity (more)
             Y = MatMul (X, W)
           }""",
        W=normal(8, 4),
        one=np.array([1]),
    )
    after = folded(before, _x(2, 8))
    assert after.ops == ["Identity", "MatMul"]
    assert after.constants["more"].tolist() == [8, 4, 1]


def test_a_result_that_many_read_is_stored_once(text_model, folded, normal):
    before = text_model(
        "g (float[4] X) => (float[4] Y, float[4] Z) { y = Neg (c)\n Y = Add (X, y)\n"
        "Z = Mul (y, X) }",
        c=normal(4),
    )
    after = folded(before, _x(4))
    assert (after.ops, after.constants.keys()) == (["Add", "Mul"], {"y"})


def test_a_quantized_weight_is_stored_as_codes(text_model, folded, normal):
    """Four times as small; the other half of the pair stays, by case 2."""
    before = text_model(
        "g (float[N,64] X) => (float[N,64] Y) { q = QuantizeLinear (W, s, z)\n"
        "y = DequantizeLinear (q, s, z)\n Y = MatMul (X, y) }",
        W=normal(64, 64),
        s=np.float32(0.001),
        z=np.int8(0),
    )
    after = folded(before, _x(2, 64))
    assert after.ops == ["DequantizeLinear", "MatMul"]
    assert after.constants["q"].dtype == np.int8


@pytest.mark.parametrize("opset", [11, 13, 18, 21])
def test_axes_as_attribute_and_as_input(text_model, folded, opset):
    old = "y = Unsqueeze <axes = [0]> (s)\n"
    new = "y = Unsqueeze (s, zero)\n"
    text = "g (float[2] X) => (float[1,2] Y) { s = Slice (c, zero, two)\n"
    before = text_model(
        text + (old if opset < 13 else new) + SINK,
        opset,
        c=np.float32([1, 2, 3]),
        zero=np.array([0]),
        two=np.array([2]),
    )
    assert folded(before, _x(2)).rewrites == 2


def test_inside_bodies(text_model, folded, normal):
    """Constants of the body and of the graph around it; bodies may use one name each."""
    before = text_model(
        """g (bool c, float[2] X) => (float[2] Y) {
             outer = Neg (W)
             Y = If (c) <
               then_branch = t () => (float[2] r1) { p = Abs (outer) r1 = Add (p, X) },
               else_branch = e () => (float[2] r2) { q = Exp (outer) s = Neg (q) r2 = Add (s, X) }
             >
           }""",
        W=normal(2),
    )
    body = before.graph.node[1].attribute[1].g
    body.node[1].output[0] = body.node[2].input[0] = "p"
    after = folded(before, {"c": np.array(True), **_x(2)})
    assert after.rewrites == 4
    assert [n.op_type for a in after.model.graph.node[0].attribute for n in a.g.node] == ["Add"] * 2
    folded(before, {"c": np.array(False), **_x(2)})


def test_a_body_reads_what_the_graph_computes(text_model, folded, normal):
    before = text_model(
        """g (bool c, float[2] X) => (float[2] Y) {
             y = Neg (W)
             Y = If (c) <
               then_branch = t () => (float[2] r1) { r1 = Add (y, X) },
               else_branch = e () => (float[2] r2) { r2 = Identity (X) }
             >
           }""",
        W=normal(2),
    )
    after = folded(before, {"c": np.array(True), **_x(2)})
    assert after.rewrites == 1
    assert after.constants.keys() == {"y"}


W, HALF = np.ones((16, 16), np.float32), np.ones((16, 16), np.float16)
SCALAR, SHAPE = np.float32(1), np.array([16, 16])


@pytest.mark.parametrize(
    ("text", "constants"),
    [
        pytest.param("y = Transpose (W)\n Z = Mul (X, W)", {"W": W}, id="1-other-reader"),
        pytest.param("y = Expand (s, n)", {"s": SCALAR, "n": SHAPE}, id="1-expand"),
        pytest.param("y = Cast <to = 1> (h)", {"h": HALF}, id="1-wider-type"),
        pytest.param("y = ConstantOfShape (n)", {"n": SHAPE}, id="1-constant-of-shape"),
        pytest.param("y = Neg (W)\n Z = Transpose (W)", {"W": W}, id="1-read-by-an-output"),
        pytest.param(
            "y = DequantizeLinear (q, s)", {"q": np.int32([7]), "s": SCALAR}, id="2-dequantize"
        ),
        pytest.param("y = RandomUniformLike (s)", {"s": SCALAR}, id="3-random"),
        pytest.param("y = Dropout (s)", {"s": SCALAR}, id="3-dropout"),
        pytest.param("y = com.microsoft.Gelu (s)", {"s": SCALAR}, id="3-other-domain"),
        pytest.param("y = Neg (s)\n Z = Abs (s)", {"s": SCALAR}, id="4-output"),
        pytest.param("y = Neg (X)", {}, id="an-input"),
        pytest.param("i = NonZero (v)\n y = Cast <to = 1> (i)", {"v": SHAPE}, id="6-unknown-size"),
        pytest.param(
            "b = Expand (s, n)\n y = ReduceMax (b)",
            {"s": SCALAR, "n": np.array([5000, 5000])},
            id="6-large",
        ),
    ],
)
def test_near_misses(apply, contrib, text, constants):
    """Nothing is folded, except, in case 4, y itself."""
    more = ", float[16,16] Z" if "Z =" in text else ""
    before = contrib(
        f"g (float[16,16] X) => (float[16,16] Y{more}) {{ {text}\n {SINK}", 18, **constants
    )
    after = apply(FoldConstants(), before)
    assert after.rewrites == ("Abs" in text)
    assert not after.journal.missed


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int4", "uint4"])
def test_near_miss_5_types_that_numpy_lacks(apply, text_model, dtype):
    before = text_model(
        "g (float[2] X) => (float[2] Y) { i = Identity (c)\n y = Cast <to = 1> (i)\n" + SINK, 21, 10
    )
    values = np.array([1, 2], getattr(ml_dtypes, dtype))
    before.graph.initializer.append(numpy_helper.from_array(values, "c"))
    assert apply(FoldConstants(), before).rewrites == 0


def test_near_miss_5_a_type_that_numpy_lacks_is_made(apply, text_model):
    before = text_model(
        "g (float[2] X) => (float[2] Y) { b = Cast <to = 16> (c)\n y = Cast <to = 1> (b)\n" + SINK,
        c=np.float32([1, 2]),
    )
    assert apply(FoldConstants(), before).rewrites == 0


def test_near_miss_5_text(apply, text_model):
    before = text_model(
        "g (float[2] X) => (float[2] Y) { e = Equal (a, b)\n y = Cast <to = 1> (e)\n" + SINK,
        19,
        a=np.array(["x", "y"], object),
        b=np.array(["x", "z"], object),
    )
    assert apply(FoldConstants(), before).rewrites == 0


def test_near_miss_5_a_sparse_constant(apply, text_model):
    before = text_model("g (float[64] X) => (float[64] Y) { y = Neg (c)\n" + SINK)
    values = onnx.helper.make_tensor("c", 1, [1], [3.0])
    places = onnx.helper.make_tensor("c_at", 7, [1], [5])
    before.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, places, [64]))
    assert apply(FoldConstants(), before).rewrites == 0


def test_near_miss_5_what_callers_may_override(apply, text_model):
    before = text_model(
        "g (float[2] X, float[2] c) => (float[2] Y) { y = Neg (c)\n" + SINK, c=np.float32([1, 2])
    )
    assert apply(FoldConstants(), before).rewrites == 0


def test_near_miss_7_what_cannot_run_stops_nothing_else(apply, text_model):
    """It may stand in a branch that is never taken."""
    before = text_model(
        """g (float[2] X) => (float[2] Y) {
             a = Neg (c)
             wrong = Gather (a, at)
             one = Abs (wrong)
             two = Exp (d)
             y = Add (one, two)
             Y = Add (X, y)
           }""",
        c=np.float32([1, 2]),
        d=np.float32([3, 4]),
        at=np.array(7),
    )
    after = apply(FoldConstants(), before)
    assert after.ops == ["Gather", "Abs", "Add", "Add"]
    assert [(miss.node, miss.by) for miss in after.journal.missed] == [("wrong", "fold-constants")]
    assert "out of data bounds" in after.journal.missed[0].reason


def test_slack_lets_the_file_grow(text_model, folded):
    before = text_model(
        "g (float[64] X) => (float[64] Y) { y = Expand (s, n)\n" + SINK, s=SCALAR, n=np.array([64])
    )
    assert folded(before, _x(64)).rewrites == 0
    assert folded(before, _x(64), slack_bytes=256).rewrites == 1


@pytest.mark.parametrize("values", [[], [np.nan, -0.0, np.inf, 1e-45]], ids=["empty", "odd"])
def test_odd_values(text_model, folded, values):
    """Sizes of 0, NaN, -0, infinity, denormal numbers."""
    before = text_model(
        "g (float[N] X) => (float[M] Y) { y = Neg (c)\n Y = Concat <axis = 0> (X, y) }",
        c=np.float32(values),
    )
    assert folded(before, _x(3)).rewrites == 1


def test_products_round_as_they_did(text_model, folded, normal):
    """By an operand that is packed ahead, and by one that is computed."""
    before = text_model(
        """g (float[1,64] X) => (float[1,64] Y) {
             p = MatMul (a, W)
             t = Transpose (V)
             y = MatMul (p, t)
             Y = Add (X, y)
           }""",
        a=normal(1, 64),
        W=normal(64, 64),
        V=normal(64, 64, seed=1),
    )
    assert folded(before, _x(1, 64)).rewrites == 3


UNARY = ["Neg", "Abs", "Exp", "Identity", "Transpose", "ReduceSum", "Sigmoid", "QuantizeLinear"]
BINARY = ["Add", "Sub", "Mul", "Div", "Max", "Expand"]


@st.composite
def graphs(draw):
    """A graph of nodes that read constants, inputs and each other, with several outputs."""
    names, lines = ["X", "c", "row", "one"], []
    for number in range(draw(st.integers(1, 12))):
        op = draw(st.sampled_from(UNARY + BINARY))
        a, b = (draw(st.sampled_from(names)) for _ in "ab")
        name = f"t{number}"
        if op == "QuantizeLinear":
            lines.append(f"q{number} = QuantizeLinear ({a}, one, zero)")
            lines.append(f"{name} = Cast <to = 1> (q{number})")
        elif op == "Expand":
            lines.append(f"s{number} = Shape ({b})\n {name} = Expand ({a}, s{number})")
        elif op in UNARY:
            lines.append(f"{name} = {op} ({a})")
        else:
            lines.append(f"{name} = {op} ({a}, {b})")
        names.append(name)
    made = st.sampled_from(names[4:])
    outputs = [names[-1], *draw(st.lists(made, max_size=2))]
    ends = [f"Y{i} = Add (X, {name})" for i, name in enumerate(outputs)]
    types = ", ".join(f"float[4,4] Y{i}" for i in range(len(outputs)))
    return f"g (float[4,4] X) => ({types}) {{ " + "\n".join(lines + ends) + " }"


@given(graphs())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_graph_computes_the_same_and_does_not_grow(text_model, folded, text):
    generator = np.random.default_rng(0)
    before = text_model(
        text,
        c=generator.standard_normal((4, 4)).astype(np.float32),
        row=generator.standard_normal((1, 4)).astype(np.float32),
        one=np.float32([[1]]).reshape(()),
        zero=np.uint8(3),
    )
    folded(before, _x(4, 4))
