"""merge-equal: ``y = Op(x) ... z = Op(x)`` -> ``y = Op(x)``."""

import numpy as np
import pytest
from onnx import helper

from sardonyx.passes.cleanup.merge_equal import MergeEqual


def ops(model):
    return [node.op_type for node in model.graph.node]


def test_a_chain_is_computed_once(apply, text_model, run_ort, normal):
    before = text_model(
        """g (float[N,2] X) => (float[N,2] Y) {
             a = Neg (X)
             a1 = Mul (a, two)
             b = Neg (X)
             b1 = Mul (b, again_two)
             c = Div (a1, b1)
             Y = Add (X, c)
           }""",
        two=np.float32(2),
        again_two=np.float32(2),
    )
    after = apply(MergeEqual(), before)
    assert (after.rewrites, after.again) == (2, 0)
    assert ops(after.model) == ["Neg", "Mul", "Div", "Add"]
    assert len(set(after.model.graph.node[2].input)) == 1
    assert len(after.model.graph.initializer) == 1
    x = normal(3, 2)
    assert np.array_equal(run_ort(before, {"X": x}), run_ort(after.model, {"X": x}))


@pytest.mark.parametrize(
    ("second", "constants"),
    [
        pytest.param("Neg (W)", {}, id="other-operand"),
        pytest.param("Abs (X)", {}, id="other-op"),
        pytest.param("Mul (X, c)", {"c": np.float32(3)}, id="other-constant"),
        pytest.param("Mul (X, c)", {"c": np.float32([2])}, id="other-shape-of-a-constant"),
        pytest.param("Softmax <axis = 0> (X)", {}, id="other-attribute"),
        pytest.param("RandomUniformLike (X)", {}, id="random"),
        pytest.param("Dropout (X)", {}, id="dropout"),
    ],
)
def test_what_only_looks_equal_stays(apply, text_model, second, constants):
    firsts = {"Mul": "Mul (X, two)", "Softmax": "Softmax <axis = 1> (X)"}
    op = second.split()[0]
    first = firsts.get(op, second if op in ("RandomUniformLike", "Dropout") else "Neg (X)")
    before = text_model(
        f"g (float[N,2] X, float[N,2] W) => (float[N,2] Y) {{ a = {first}\n b = {second}\n"
        "Y = Add (a, b) }",
        **constants | ({"two": np.float32(2)} if "two" in first else {}),
    )
    assert apply(MergeEqual(), before).rewrites == 0


def test_an_output_of_the_graph_stays(apply, text_model):
    before = text_model("g (float[2] X) => (float[2] A, float[2] B) { A = Neg (X)\n B = Neg (X) }")
    after = apply(MergeEqual(), before)
    assert after.rewrites == 0
    assert ops(after.model) == ["Neg", "Neg"]


def test_readers_of_an_output_read_the_first(apply, text_model, run_ort):
    before = text_model(
        "g (float[2] X) => (float[2] A, float[2] Y) { A = Neg (X)\n b = Neg (X)\n Y = Abs (b) }"
    )
    after = apply(MergeEqual(), before)
    assert after.rewrites == 1
    x = np.float32([1, -2])
    assert np.array_equal(run_ort(before, {"X": x}), run_ort(after.model, {"X": x}))


def test_ops_of_other_domains_stay(apply, text_model):
    before = text_model(
        "g (float[2] X) => (float[2] Y) { a = com.microsoft.Gelu (X)\n"
        "b = com.microsoft.Gelu (X)\n Y = Add (a, b) }"
    )
    before.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert apply(MergeEqual(), before).rewrites == 0


def test_bodies_merge_by_themselves(apply, text_model, run_ort):
    """What a body computes again stays there: the other body may run in its place."""
    before = text_model(
        """g (bool c, float[2] X) => (float[2] Y) {
             a = Neg (X)
             r = If (c) <
               then_branch = t () => (float[2] r1) { p = Neg (X) q = Neg (X) r1 = Add (p, q) },
               else_branch = e () => (float[2] r2) { r2 = Abs (X) }
             >
             Y = Add (a, r)
           }"""
    )
    after = apply(MergeEqual(), before)
    assert after.rewrites == 1
    for c in (True, False):
        feeds = {"c": np.array(c), "X": np.float32([1, -2])}
        assert np.array_equal(run_ort(before, feeds), run_ort(after.model, feeds))


def test_what_a_body_reads_stays(apply, text_model):
    """A body is checked by itself, where nothing says that its operands are equal."""
    before = text_model(
        """g (bool c, float[2] X) => (float[2] Y) {
             a = Neg (X)
             b = Neg (X)
             Y = If (c) <
               then_branch = t () => (float[2] r1) { r1 = Add (a, b) },
               else_branch = e () => (float[2] r2) { r2 = Abs (a) }
             >
           }"""
    )
    assert apply(MergeEqual(), before).rewrites == 0


def test_each_makes_what_the_other_leaves_out(apply, text_model):
    before = text_model(
        """g (float[N,2] X) => (float[N,1] Y) {
             a, m, d = LayerNormalization (X, g)
             b, n, e = LayerNormalization (X, g)
             Y = Add (d, n)
           }""",
        g=np.ones(2, np.float32),
    )
    before.graph.node[0].output[1] = ""
    del before.graph.node[1].output[2]
    before.graph.node[1].output.append("")
    assert apply(MergeEqual(), before).rewrites == 0
