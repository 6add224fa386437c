"""lift-constants: ``y = Constant <value = c>`` -> an initializer y = c."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from sardonyx.compiler.load import load
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS


def test_before_after(apply, text_model, census, run_ort):
    before = text_model(
        """g (float[N,2] X) => (float[N,2] Y) {
             one = Constant <value = float[2] {1, 2}> ()
             A = Add (X, one)
             two = Constant <value_float: float = 3.0> ()
             Y = Mul (A, two)
           }"""
    )
    after = apply(LiftConstants(), before)
    assert (after.rewrites, after.again) == (2, 0)
    assert census(after.model) == {"Add": 1, "Mul": 1}
    assert [list(node.input) for node in after.model.graph.node] == [["X", "one"], ["A", "two"]]
    x = np.array([[1, -5]], np.float32)
    assert np.array_equal(run_ort(before, {"X": x}), run_ort(after.model, {"X": x}))
    assert np.array_equal(run_ort(after.model, {"X": x})[0], [[6, -9]])


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("value_int = 7", np.int64(7)),
        ("value_ints = [1, 2, 3]", np.array([1, 2, 3])),
        ("value_float = 0.1", np.float32(0.1)),
        ("value_floats: floats = [0.1, 2.5]", np.array([0.1, 2.5], np.float32)),
        ("value = int8[2] {-1, 2}", np.array([-1, 2], np.int8)),
        ('value = string[1] {"a"}', np.array(["a"], object)),
    ],
)
def test_attributes(apply, text_model, attribute, value):
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    before = text_model(
        f"g (float[1] X) => (float[1] Y) {{ c = Constant <{attribute}> ()\n Z = Identity(c)\n"
        "Y = Identity (X) }"
    )
    after = apply(LiftConstants(), before)
    have = after.constants["c"]
    assert after.rewrites == 1
    assert (have.shape, helper.np_dtype_to_tensor_dtype(have.dtype)) == (value.shape, kind)
    assert np.array_equal(have, value)


def test_large_constant_keeps_its_bytes(apply, text_model, normal):
    before = text_model("g (float[N,64] X) => (float[N,96] Y) { Y = MatMul (X, W) }")
    node = helper.make_node("Constant", [], ["W"], value=numpy_helper.from_array(normal(64, 96)))
    before.graph.node.insert(0, node)
    assert np.array_equal(apply(LiftConstants(), before).constants["W"], normal(64, 96))


def test_one_that_a_subgraph_reads_is_lifted(apply, text_model, run_ort):
    before = text_model(
        """g (float[1] X, bool c) => (float[1] Y) {
             k = Constant <value = float[1] {2}> ()
             Y = If (c) <then_branch = t () => (float[1] A) { A = Mul (X, k) },
                         else_branch = e () => (float[1] B) { B = Identity (X) }>
           }"""
    )
    after = apply(LiftConstants(), before)
    feeds = {"X": np.array([3], np.float32), "c": np.array(True)}
    assert list(after.constants) == ["k"]
    assert run_ort(after.model, feeds) == run_ort(before, feeds) == [[6]]


def test_near_miss_1_a_string_given_as_an_attribute(apply, text_model):
    before = text_model(
        'g () => (string Y) { c = Constant <value_string = "a"> ()\n Y = Identity (c) }'
    )
    after = apply(LiftConstants(), before)
    assert (after.rewrites, len(after.model.graph.node)) == (0, 2)


def test_near_miss_2_an_output_of_the_graph(apply, text_model, run_ort):
    before = text_model("g () => (float[1] Y) { Y = Constant <value = float[1] {2}> () }")
    after = apply(LiftConstants(), before)
    assert (after.rewrites, list(after.constants)) == (0, [])
    assert run_ort(after.model, {}) == [[2]]


def test_the_fact_it_establishes_sees_a_constant_that_is_left(text_model):
    model = text_model(
        "g (float[1] X) => (float[1] Y) { c = Constant <value_float = 1.0> ()\n Y = Add (X, c) }"
    )
    _, graph = load(model)
    assert not CONSTANTS_ARE_INITIALIZERS.holds(graph)
    LiftConstants().run(graph, None)
    assert CONSTANTS_ARE_INITIALIZERS.holds(graph)
