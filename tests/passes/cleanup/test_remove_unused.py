"""remove-unused: a node none of whose outputs is needed -> nothing."""

import numpy as np

from sardonyx.passes.cleanup.remove_unused import RemoveUnused


def test_before_after(apply, text_model, run_ort):
    before = text_model(
        """g (float[N,2] X) => (float[N,2] Y) {
             A = Neg (X)
             dead = Mul (A, gone)
             deader, other = Split <axis = 1> (dead)
             Y = Add (A, kept)
           }""",
        gone=np.float32(2),
        kept=np.float32(3),
    )
    after = apply(RemoveUnused(), before)
    assert (after.rewrites, after.again) == (2, 0)
    assert [node.op_type for node in after.model.graph.node] == ["Neg", "Add"]
    assert [t.name for t in after.model.graph.initializer] == ["kept"]
    x = np.ones((1, 2), np.float32)
    assert np.array_equal(run_ort(before, {"X": x}), run_ort(after.model, {"X": x}))


def test_a_node_with_one_needed_output_stays(apply, text_model):
    before = text_model(
        "g (float[4] X) => (float[2] Y) { dead, Y = Split (X, sizes) }", sizes=np.array([2, 2])
    )
    after = apply(RemoveUnused(), before)
    assert after.rewrites == 0
    assert list(after.model.graph.node[0].output) == ["dead", "Y"]


def test_an_output_that_is_read_too_stays(apply, text_model):
    before = text_model("g (float[2] X) => (float[2] A, float[2] B) { A = Neg (X)\n B = Neg (A) }")
    assert apply(RemoveUnused(), before).rewrites == 0


def test_inputs_of_the_graph_stay_when_nothing_reads_them(apply, text_model):
    before = text_model("g (float[2] X, float[2] Z) => (float[2] Y) { D = Neg (Z)\n Y = Neg (X) }")
    after = apply(RemoveUnused(), before)
    assert after.rewrites == 1
    assert [value.name for value in after.model.graph.input] == ["X", "Z"]


def test_near_miss_1_a_node_that_only_a_subgraph_reads(apply, text_model, run_ort):
    before = text_model(
        """g (float[1] X, bool c) => (float[1] Y) {
             outer = Neg (X)
             Y = If (c) <
               then_branch = t () => (float[1] A) {
                 A = If (c) <then_branch = tt () => (float[1] C) { C = Neg (outer) },
                             else_branch = te () => (float[1] D) { D = Identity (X) }>
               },
               else_branch = e () => (float[1] B) { B = Identity (X) }>
           }"""
    )
    after = apply(RemoveUnused(), before)
    assert after.rewrites == 0
    feeds = {"X": np.array([3], np.float32), "c": np.array(True)}
    assert run_ort(after.model, feeds) == run_ort(before, feeds) == [[3]]
