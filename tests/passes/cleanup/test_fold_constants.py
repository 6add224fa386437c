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


def ops(model):
    return [node.op_type for node in model.graph.node]


def held(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def size(model):
    """Bytes of a model whose constants are initializers, as all others are lifted to."""
    return emit(*load(model)).ByteSize()


@pytest.fixture
def folded(apply, run_ort):
    """Fold in a model, and check that it computes the same and did not grow."""

    def fold(before, feeds, slack_bytes=0):
        after = apply(FoldConstants(slack_bytes), before)
        assert after.again == 0
        assert after.model.ByteSize() <= size(before) + slack_bytes * after.rewrites
        wanted, got = run_ort(before, feeds), run_ort(after.model, feeds)
        for want, have in zip(wanted, got, strict=True):
            assert want.dtype == have.dtype
            assert want.tobytes() == have.tobytes()
        return after

    return fold


def test_a_transposed_weight(text_model, folded, normal):
    before = text_model(
        "g (float[N,5] X) => (float[N,3] Y) { y = Transpose (W)\n p = Add (X, b)\n"
        "Y = MatMul (p, y) }",
        W=normal(3, 5),
        b=normal(5),
    )
    after = compile(before, Recipe("r", "", (FoldConstants(),), alone=True))
    assert ops(after.model) == ["Add", "MatMul"]
    assert set(held(after.model)) == {"y", "b"}
    assert np.array_equal(held(after.model)["y"], normal(3, 5).T)
    assert after.report.verification.regions_run == 1
    assert folded(before.__class__.FromString(before.SerializeToString()), _x(2, 5)).rewrites == 1


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
    assert held(after.model).keys() == {"y"}
    assert held(after.model)["y"] == 9


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
    assert ops(after.model) == ["Identity", "MatMul"]
    assert held(after.model)["more"].tolist() == [8, 4, 1]


def test_a_result_that_many_read_is_stored_once(text_model, folded, normal):
    before = text_model(
        "g (float[4] X) => (float[4] Y, float[4] Z) { y = Neg (c)\n Y = Add (X, y)\n"
        "Z = Mul (y, X) }",
        c=normal(4),
    )
    after = folded(before, _x(4))
    assert (ops(after.model), held(after.model).keys()) == (["Add", "Mul"], {"y"})


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
    assert ops(after.model) == ["DequantizeLinear", "MatMul"]
    assert held(after.model)["q"].dtype == np.int8


@pytest.mark.parametrize("opset", [11, 13, 18, 21])
def test_axes_as_attribute_and_as_input(text_model, folded, opset):
    old = "y = Unsqueeze <axes = [0]> (s)\n"
    new = "y = Unsqueeze (s, zero)\n"
    text = f"g (float[2] X) => (float[1,2] Y) {{ s = Slice (c, zero, two)\n{old if opset < 13 else new}"
    before = text_model(
        text + SINK, opset, c=np.float32([1, 2, 3]), zero=np.array([0]), two=np.array([2])
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
    assert held(after.model).keys() == {"y"}


@pytest.mark.parametrize(
    ("text", "constants"),
    [
        pytest.param("y = Transpose (W)\n z = Add (y, W)", {}, id="weight-with-another-reader"),
        pytest.param("y = Expand (s, shape)\n z = Neg (X)", {}, id="expand"),
        pytest.param("y = Cast <to = 11> (W)\n y2 = Cast <to = 1> (y)\n z = Neg (y)", {}, id="cast"),
        pytest.param("y = ConstantOfShape (shape)\n z = Neg (X)", {}, id="constant-of-shape"),
    ],
)
def test_near_miss_1_the_file_would_grow(apply, text_model, normal, text, constants):
    values = {"W": normal(16, 16), "s": np.float32(1), "shape": np.array([16, 16])}
    used = {name: values[name] for name in values if name in text} | constants
    before = text_model(f"g (float[16,16] X) => (y, z) {{ {text} }}".replace("(y, z)", "(float[16,16] A)")
                        .replace("z =", "z0 =").replace("}", "A = Add (X, X) }"), **used)
    before.graph.node.append(onnx.helper.make_node("Cast", ["y"], ["B"], to=1))
    before.graph.node.insert(len(before.graph.node) - 1, onnx.helper.make_node("Mul", ["y", "y"], ["unused"]))
    before.graph.output.append(onnx.helper.make_tensor_value_info("B", 1, [16, 16]))
    assert "y" in {name for node in apply(FoldConstants(), before).model.graph.node for name in node.output}
