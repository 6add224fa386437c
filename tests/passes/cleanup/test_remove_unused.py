"""remove-unused: a node none of whose outputs is needed -> nothing."""

import numpy as np
import pytest
from onnx import numpy_helper

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
    assert after.ops == ["Neg", "Add"]
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


def test_near_miss_3_inputs_of_the_graph_stay_when_nothing_reads_them(apply, text_model):
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


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
@pytest.mark.parametrize(
    ("node", "left"),
    [
        ("y, mask = Dropout (X)", ["y"]),
        ("y, places = MaxPool <kernel_shape = [2]> (X)", ["y"]),
        ("all, last = GRU <hidden_size = 3> (X, W, R)\n y = Neg (last)", ["", "last"]),
        ("all, last = RNN <hidden_size = 3> (X, V, U)\n y = Neg (all)", ["all"]),
        ("all, last, cell = LSTM <hidden_size = 3> (X, L, K)\n y = Neg (cell)", ["", "", "cell"]),
        ("u, i, j, n = Unique (X)\n y = Neg (u)", ["u"]),
        ("y, mean, inverse = LayerNormalization (X, g)", ["y"]),
    ],
    ids=["dropout", "max-pool", "gru", "rnn", "lstm", "unique", "layer-norm"],
)
def test_optional_outputs(apply, text_model, run_ort, normal, opset, node, left):
    if "Layer" in node and opset < 17:
        pytest.skip("there is no LayerNormalization yet")
    weights = {
        "W": normal(1, 9, 4),
        "R": normal(1, 9, 3),
        "V": normal(1, 3, 4),
        "U": normal(1, 3, 3),
        "L": normal(1, 12, 4),
        "K": normal(1, 12, 3),
        "g": normal(4),
    }
    used = {name: values for name, values in weights.items() if f" {name}" in node}
    rank = {"Unique": 1, "all, last, cell": 3, "GRU": 3, "RNN": 4}
    axes = next((count for key, count in rank.items() if key in node), 3)
    shape = ", ".join("abcd"[:axes])
    before = text_model(
        f"g (float[2,3,4] X) => (float[{shape}] Y) {{ {node}\n Y = Abs (y) }}", opset, **used
    )
    after = apply(RemoveUnused(), before)
    assert (after.rewrites, after.again) == (1, 0)
    assert list(after.model.graph.node[0].output) == left
    x = {"X": normal(2, 3, 4, seed=1)}
    assert np.array_equal(run_ort(before, x), run_ort(after.model, x))


def test_optional_outputs_of_onnxruntimes_own(apply, contrib, run_ort, normal):
    before = contrib(
        "g (float[2,3,4] X) => (float[2,3,4] Y) {\n"
        "y, mean, inverse, sum = com.microsoft.SkipLayerNormalization (X, X, g)\n"
        "z, m, i, s = com.microsoft.SkipLayerNormalization (X, y, g)\n Y = Add (z, s) }",
        g=normal(4),
    )
    after = apply(RemoveUnused(), before)
    assert (after.rewrites, after.again) == (2, 0)
    outputs = [list(node.output) for node in after.model.graph.node[:2]]
    assert outputs == [["y"], ["z", "", "", "s"]]
    x = {"X": normal(2, 3, 4, seed=1)}
    assert np.array_equal(run_ort(before, x), run_ort(after.model, x))


def test_near_miss_2_what_must_be_made(apply, text_model, normal):
    before = text_model(
        """g (float[4] X) => (float[2] Y, float[2] mask) {
             top, places = TopK (X, two)
             a, mask = Dropout (top)
             Y = Neg (a)
           }""",
        two=np.array([2]),
    )
    before.graph.output[1].type.tensor_type.elem_type = 9
    after = apply(RemoveUnused(), before)
    assert after.rewrites == 0
    assert [list(node.output) for node in after.model.graph.node[:2]] == [
        ["top", "places"],
        ["a", "mask"],
    ]


def test_initializers_that_nothing_reads(apply, text_model, run_ort):
    """They are never written; near miss 3: one that callers may give is an input, and stays."""
    before = text_model(
        "g (float[2] X, float[2] free) => (float[2] Y) { Y = Add (X, used) }",
        free=np.float32([1, 2]),
        unused=np.ones(1000, np.float32),
        used=np.float32([3, 4]),
    )
    after = apply(RemoveUnused(), before)
    assert after.rewrites == 0
    held = {t.name: numpy_helper.to_array(t) for t in after.model.graph.initializer}
    assert held.keys() == {"free", "used"}
    assert [value.name for value in after.model.graph.input] == ["X", "free"]
    x = {"X": np.float32([1, 1])}
    assert np.array_equal(run_ort(before, x), run_ort(after.model, x))


def test_a_body_that_goes_lets_go_of_what_it_read(apply, text_model):
    before = text_model(
        """g (bool c, float[2] X) => (float[2] Y) {
             a = Neg (X)
             dead = If (c) <
               then_branch = t () => (float[2] r1) { r1 = Neg (a) },
               else_branch = e () => (float[2] r2) { p = Abs (a) unread = Exp (p) r2 = Neg (p) }
             >
             Y = Abs (X)
           }"""
    )
    after = apply(RemoveUnused(), before)
    assert (after.rewrites, after.again) == (3, 0)
    assert after.ops == ["Abs"]
