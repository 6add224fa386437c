"""merge-equal: ``y = Op(x) ... z = Op(x)`` -> ``y = Op(x)``."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from sardonyx.compiler import Recipe, compile
from sardonyx.compiler.load import load
from sardonyx.passes.cleanup.merge_equal import MergeEqual
from sardonyx.passes.journal import Journal

RECIPE = Recipe("r", "", (MergeEqual(),), alone=True)


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
    assert after.ops == ["Neg", "Mul", "Div", "Add"]
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


def test_nodes_that_give_other_outputs_stay(apply, text_model, run_ort, normal):
    before = text_model(
        """g (float[3,2,4] X) => (float[1,2,3] Y, float[3,1,2,3] Z) {
             skipped, last = LSTM <hidden_size = 3> (X, W, R)
             all, again = LSTM <hidden_size = 3> (X, W, R)
             Y = Neg (last)
             Z = Neg (all)
           }""",
        W=normal(1, 12, 4),
        R=normal(1, 12, 3, seed=1),
    )
    before.graph.node[0].output[0] = ""
    after = apply(MergeEqual(), before)
    assert after.rewrites == 0
    run_ort(after.model, {"X": normal(3, 2, 4)})


def test_near_miss_2_two_outputs_of_the_graph(apply, text_model):
    before = text_model("g (float[2] X) => (float[2] A, float[2] B) { A = Neg (X)\n B = Neg (X) }")
    after = apply(MergeEqual(), before)
    assert after.rewrites == 0
    assert after.ops == ["Neg", "Neg"]


def test_the_first_makes_the_output_of_the_second(apply, text_model, run_ort):
    """What reads either of them is then seen to be equal too; a third is merged as well."""
    before = text_model(
        """g (float[2] X) => (float[2] B, float[2] Y) {
             a = Neg (X)
             p = Abs (a)
             B = Neg (X)
             q = Abs (B)
             c = Neg (X)
             r = Mul (p, q)
             Y = Add (r, c)
           }"""
    )
    after = apply(MergeEqual(), before)
    assert (after.rewrites, after.again) == (3, 0)
    assert after.ops == ["Neg", "Abs", "Mul", "Add"]
    assert list(after.model.graph.node[1].input) == ["B"]
    x = np.float32([1, -2])
    assert np.array_equal(run_ort(before, {"X": x}), run_ort(after.model, {"X": x}))
    assert compile(before, RECIPE).report.verification.regions_run == 1


def test_each_makes_one_of_the_outputs(apply, text_model, run_ort):
    """The first's own output and, in the place of another, the second's."""
    before = text_model(
        """g (float[4] X) => (float[2] A, float[2] D, float[2] Y) {
             A, b = Split (X, sizes)
             c, D = Split (X, sizes)
             e = Mul (b, c)
             Y = Add (e, D)
           }""",
        sizes=np.array([2, 2]),
    )
    after = apply(MergeEqual(), before)
    assert (after.rewrites, after.again) == (1, 0)
    assert list(after.model.graph.node[0].output) == ["A", "D"]
    x = np.float32([1, -2, 3, 4])
    for want, have in zip(run_ort(before, {"X": x}), run_ort(after.model, {"X": x}), strict=True):
        assert np.array_equal(want, have)


def test_readers_of_an_output_read_the_first(apply, text_model, run_ort):
    before = text_model(
        "g (float[2] X) => (float[2] A, float[2] Y) { A = Neg (X)\n b = Neg (X)\n Y = Abs (b) }"
    )
    after = apply(MergeEqual(), before)
    assert after.rewrites == 1
    x = np.float32([1, -2])
    assert np.array_equal(run_ort(before, {"X": x}), run_ort(after.model, {"X": x}))


@pytest.mark.parametrize(
    ("op", "operands"),
    [
        ("Gelu", "X"),
        ("QuantizeLinear", "X, s, z"),
        ("MultiHeadAttention <num_heads = 1>", "X, X, X"),
    ],
)
def test_onnxruntimes_own_ops(apply, contrib, run_ort, normal, op, operands):
    reads = "Add" if "Q" not in op else "MatMulInteger"
    before = contrib(
        f"g (float[2,3,3] X) => (float[2,3,3] Y) {{ a = com.microsoft.{op} ({operands})\n"
        f"b = com.microsoft.{op} ({operands})\n c = {reads} (a, b)\n Y = Cast <to = 1> (c) }}",
        **{"s": np.float32(0.1), "z": np.uint8(100)} if "s" in operands else {},
    )
    after = apply(MergeEqual(), before)
    assert (after.rewrites, after.again) == (1, 0)
    x = {"X": normal(2, 3, 3) * 25}
    assert np.array_equal(run_ort(before, x), run_ort(after.model, x))


def test_near_miss_1_other_domains_and_buffers_that_are_written(apply, contrib):
    before = contrib(
        """g (float[2,3] X) => (float[2,3] Y) {
             a = my.Own (X)
             b = my.Own (X)
             c = com.microsoft.Unheard (X)
             d = com.microsoft.Unheard (X)
             e = com.microsoft.Attention <num_heads = 1, past_present_share_buffer = 1> (a, b)
             f = com.microsoft.Attention <num_heads = 1, past_present_share_buffer = 1> (a, b)
             Y = Sum (a, b, c, d, e, f)
           }"""
    )
    before.opset_import.append(helper.make_opsetid("my", 1))
    _, graph = load(before)
    assert MergeEqual().run(graph, Journal()) == 0


@pytest.mark.parametrize("op", ["Add", "Mul", "Equal"])
def test_operands_in_either_order(apply, text_model, run_ort, op):
    before = text_model(
        f"""g (float[2] X, float[2] Z) => (float[2] Y) {{
             a = {op} (X, Z)
             b = {op} (Z, X)
             c = {op} (X, k)
             d = {op} (k, X)
             e = Cast <to = 1> (a)
             f = Cast <to = 1> (b)
             g = Cast <to = 1> (c)
             h = Cast <to = 1> (d)
             Y = Sum (e, f, g, h)
           }}""",
        k=np.float32([1, 3]),
    )
    after = apply(MergeEqual(), before)
    assert (after.rewrites, after.again) == (4, 0)
    feeds = {"X": np.float32([1, np.nan]), "Z": np.float32([1, 2])}
    assert np.array_equal(run_ort(before, feeds), run_ort(after.model, feeds), equal_nan=True)


@pytest.mark.parametrize("op", ["Sub", "Div", "Pow", "Max"])
def test_operands_whose_order_counts(apply, text_model, op):
    """Of 0 and -0 a maximum is the first."""
    before = text_model(
        f"g (float[2] X, float[2] Z) => (float[2] Y) {{ a = {op} (X, Z)\n b = {op} (Z, X)\n"
        "Y = Add (a, b) }"
    )
    assert apply(MergeEqual(), before).rewrites == 0


def test_what_is_left_out_at_the_end(apply, text_model, run_ort):
    before = text_model(
        "g (float[2] X) => (float[2] Y) { a = Clip (X, low)\n b = Clip (X, low, )\n"
        "Y = Add (a, b) }",
        low=np.float32(0),
    )
    before.graph.node[1].input[2:] = [""]
    after = apply(MergeEqual(), before)
    assert (after.rewrites, after.again) == (1, 0)
    x = {"X": np.float32([1, -2])}
    assert np.array_equal(run_ort(before, x), run_ort(after.model, x))


@pytest.mark.parametrize("opset", [13, 21])
def test_quantization_by_equal_scales(apply, text_model, run_ort, normal, opset):
    """Each pair has constants of its own."""
    before = text_model(
        """g (float[N,4] X) => (float[N,4] Y) {
             q1 = QuantizeLinear (X, s1, z1)
             x1 = DequantizeLinear (q1, s1, z1)
             q2 = QuantizeLinear (X, s2, z2)
             x2 = DequantizeLinear (q2, s2, z2)
             Y = Add (x1, x2)
           }""",
        opset,
        **{f"s{i}": np.float32(0.01) for i in (1, 2)},
        **{f"z{i}": np.uint8(7) for i in (1, 2)},
    )
    after = apply(MergeEqual(), before)
    assert (after.rewrites, after.again) == (2, 0)
    x = {"X": normal(3, 4)}
    assert np.array_equal(run_ort(before, x), run_ort(after.model, x))


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


def test_near_miss_2_two_that_a_body_reads(apply, text_model):
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


def test_one_that_a_body_reads(apply, text_model, run_ort):
    before = text_model(
        """g (bool c, float[2] X) => (float[2] Y) {
             a = Neg (X)
             p = Abs (a)
             b = Neg (X)
             r = If (c) <
               then_branch = t () => (float[2] r1) { r1 = Add (b, X) },
               else_branch = e () => (float[2] r2) { r2 = Abs (b) }
             >
             Y = Add (p, r)
           }"""
    )
    after = apply(MergeEqual(), before)
    assert (after.rewrites, after.again) == (1, 0)
    assert compile(before, RECIPE).report.verification.regions_run == 1
    for c in (True, False):
        feeds = {"c": np.array(c), "X": np.float32([1, -2])}
        assert np.array_equal(run_ort(before, feeds), run_ort(after.model, feeds))


@st.composite
def graphs(draw):
    """Nodes of few ops that read few tensors, so that many are alike; some are outputs."""
    names, lines = ["X", "Z", "k", "l"], []
    for number in range(draw(st.integers(2, 14))):
        a, b = (draw(st.sampled_from(names)) for _ in "ab")
        op = draw(st.sampled_from(["Neg", "Abs", "Add", "Mul", "Sub"]))
        lines.append(f"t{number} = {op} ({a if op in ('Neg', 'Abs') else f'{a}, {b}'})")
        names.append(f"t{number}")
    outputs = draw(st.sets(st.sampled_from(names[4:]), min_size=1))
    types = ", ".join(f"float[2] {name}" for name in sorted({names[-1], *outputs}))
    return f"g (float[2] X, float[2] Z) => ({types}) {{ " + "\n".join(lines) + " }"


@given(graphs())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_graph_computes_the_same(apply, text_model, run_ort, text):
    before = text_model(text, k=np.float32([2, 3]), l=np.float32([2, 3]))
    after = apply(MergeEqual(), before)
    assert after.again == 0
    nodes = after.model.graph.node
    assert len(nodes) + after.rewrites == len(before.graph.node)
    feeds = {"X": np.float32([1.5, -2]), "Z": np.float32([-1, 0.1])}
    for want, have in zip(run_ort(before, feeds), run_ort(after.model, feeds), strict=True):
        assert want.tobytes() == have.tobytes()
