"""keep-layer-norm: what onnxruntime makes of a graph at load, and that nothing else changes."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from sardonyx.passes.lower.keep_layer_norm import KeepLayerNorm

PASS = KeepLayerNorm()

POST = """
  A = MatMul (X, W) B = Add (A, c) S = Add (B, X) N = LayerNormalization (S, g, b)
  D = MatMul (N, W) E = Add (D, c) T = Add (E, N) Y = LayerNormalization (T, g, b)
"""
"""Two residual sums, each normalized, as in BERT."""

PRE = """
  N = LayerNormalization (X, g, b) A = MatMul (N, W) B = Add (A, c) S = Add (B, X)
  M = LayerNormalization (S, g, b) D = MatMul (M, W) E = Add (D, c) T = Add (S, E)
  O = LayerNormalization (T, g, b) F = MatMul (O, W) Y = Add (T, F)
"""
"""Normalized values go into a block, others around it, as in GPT-2."""

VALUES = {"POST": "A B S N D E T", "PRE": "N A B S M D E T O F"}
JOINS = {"POST": True, "PRE": False}
"""Whether onnxruntime joins them: it leaves a sum that something else reads too."""

BODIES = {"POST": POST, "PRE": PRE}


@pytest.fixture(scope="module")
def weights(normal):
    ones = np.ones(6, np.float32)
    vectors = {"c": normal(6, seed=1), "g": ones + normal(6, seed=2), "b": normal(6, seed=3)}
    return {"W": normal(6, 6) * 20} | vectors


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal((2, 3, 6)).astype(np.float32)


@pytest.fixture
def optimized(tmp_path):
    """How many nodes of each op a model has in onnxruntime, and its outputs there."""

    def run(model, feeds):
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.log_severity_level = 3
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return census(onnx.load(tmp_path / "optimized.onnx").graph), session.run(None, feeds)

    return run


def census(graph):
    counts = Counter(node.op_type for node in graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            counts += census(attribute.g) if attribute.HasField("g") else Counter()
    return counts


@pytest.fixture
def kept(apply, run_ort, optimized):
    """A model after the pass: equal outputs, and no sum joined with its normalization; ``joins``:
    whether there was one before."""

    def check(model, feeds, sums, joins=True):
        joined, _ = optimized(model, feeds)
        assert (joined["SkipLayerNormalization"] > 0) == joins
        after = apply(PASS, model)
        assert (after.rewrites, after.again) == (sums, 0)
        assert after.model.graph.output == model.graph.output
        assert after.model.graph.input == model.graph.input
        assert census(after.model.graph) - census(model.graph) == Counter(Reshape=sums)
        apart, outputs = optimized(after.model, feeds)
        assert "SkipLayerNormalization" not in apart
        assert apart["LayerNormalization"] == census(model.graph)["LayerNormalization"]
        for runs in zip(run_ort(model, feeds), run_ort(after.model, feeds), outputs, strict=True):
            np.testing.assert_array_equal(runs[0], runs[1], strict=True)
            np.testing.assert_array_equal(runs[0], runs[2], strict=True)
        return after

    return check


def declare(model, names, dims=("B", "L", 6)):
    for name in names:
        model.graph.value_info.append(helper.make_tensor_value_info(name, 1, dims))


@pytest.mark.parametrize("opset", [17, 23])
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("kind", BODIES)
def test_one_reshape_is_enough(kept, text_model, weights, x, kind, declared, opset):
    text = f"g (float[B,L,6] X) => (float[B,L,6] Y) {{ {BODIES[kind]} }}"
    model = text_model(text, opset, **weights)
    if declared:
        declare(model, VALUES[kind].split())
    after = kept(model, {"X": x}, 1, JOINS[kind])
    (reshape,) = (node for node in after.model.graph.node if node.op_type == "Reshape")
    assert reshape.input[1] == "S/Length/Shape"
    assert reshape.metadata_props[0].value == "keep-layer-norm"
    assert "slower kernel" in reshape.doc_string


@pytest.mark.parametrize("kind", BODIES)
def test_sizes_that_are_declared_ahead_stay(kept, text_model, weights, x, kind):
    """Only what the file says of values behind the Reshape goes."""
    text = f"g (float[B,L,6] X) => (float[B,L,6] Y) {{ Z = Relu (X) {BODIES[kind]} }}"
    text = text.replace("(X, W)", "(Z, W)")
    model = text_model(text, **weights)
    declare(model, ["Z", *VALUES[kind].split()])
    after = kept(model, {"X": x}, 1, JOINS[kind]).model.graph
    ahead = {"POST": "Z A B", "PRE": "Z N A B"}[kind].split()
    assert [v for v in after.value_info if v.name in ahead] == [
        v for v in model.graph.value_info if v.name in ahead
    ]
    for info in after.value_info:
        assert (info.name in ahead) == info.type.tensor_type.HasField("shape"), info.name


def test_a_node_with_a_name(kept, text_model, weights, x):
    text = f"g (float[B,L,6] X) => (float[B,L,6] Y) {{ {POST} }}".replace(" S =", " [sum] S =")
    after = kept(text_model(text, **weights), {"X": x}, sums=1)
    (reshape,) = (node for node in after.model.graph.node if node.op_type == "Reshape")
    assert (reshape.name, list(reshape.input)) == ("sum/Length", ["B", "sum/Length/Shape"])


def test_outputs_of_the_graph_keep_what_they_declare(kept, text_model, weights, x):
    """Which tells onnxruntime the length again: the next sum needs a Reshape of its own."""
    text = f"g (float[B,L,6] X) => (float[B,L,6] N, float[B,L,6] Y) {{ {POST} }}"
    kept(text_model(text, **weights), {"X": x}, sums=2)


def test_two_that_do_not_depend_on_each_other(kept, text_model, weights, x):
    text = """g (float[B,L,6] X, float[B,K,6] Z) => (float[B,L,6] Y, float[B,K,6] V) {
      A = MatMul (X, W) S = Add (A, X) Y = LayerNormalization (S, g, b)
      C = MatMul (Z, W) T = Add (C, Z) V = LayerNormalization (T, g, b)
    }"""
    held = {name: weights[name] for name in "Wgb"}
    kept(text_model(text, **held), {"X": x, "Z": x[:, :2]}, sums=2)


def test_a_sum_that_two_normalizations_read(apply, text_model, weights):
    text = """g (float[B,L,6] X) => (float[B,L,6] Y, float[B,L,6] V) {
      A = MatMul (X, W) S = Add (A, X)
      Y = LayerNormalization (S, g, b) V = LayerNormalization (S, b, g)
    }"""
    after = apply(PASS, text_model(text, **{name: weights[name] for name in "Wgb"}))
    assert (after.rewrites, after.again) == (1, 0)


BRANCH = """{name} () => (float[B,L,6] {out}) {{
  A = MatMul (N, W) [sum] S = Add (A, N) {out} = LayerNormalization (S, g, b)
}}"""


def branches(body):
    then, other = (BRANCH.format(name=name, out=out) for name, out in (("t", "P"), ("e", "Q")))
    return f"""g (float[B,L,6] X, bool c) => (float[B,L,6] Y) {{
      {body}
      Y = If (c) <then_branch = {then}, else_branch = {other}>
    }}"""


@pytest.mark.parametrize("chosen", [True, False])
def test_in_both_branches_of_an_if(kept, text_model, weights, x, chosen):
    """Nodes and values of the branches have equal names."""
    held = {name: weights[name] for name in "Wgb"}
    model = text_model(branches("N = Relu (X)"), **held)
    after = kept(model, {"X": x, "c": np.array(chosen)}, sums=2)
    assert after.rewrites == 2


@pytest.mark.parametrize("chosen", [True, False])
def test_a_reshape_around_bodies_serves_them(kept, text_model, weights, x, chosen):
    around = "Z = MatMul (X, W) R = Add (Z, X) N = LayerNormalization (R, g, b)"
    held = {name: weights[name] for name in "Wgb"}
    kept(text_model(branches(around), **held), {"X": x, "c": np.array(chosen)}, sums=1)


LEFT = {
    "no sum": ("float[B,L,6] X", "S = Relu (X)"),
    "two axes": ("float[B,6] X", "A = Relu (X) S = Add (A, X)"),
    "four axes": ("float[B,L,K,6] X", "A = Relu (X) S = Add (A, X)"),
    "a vector": ("float[B,L,6] X", "S = Add (X, c)"),
    "one batch": ("float[B,L,6] X, float[1,L,6] P", "S = Add (X, P)"),
    "other lengths": ("float[B,L,6] X, float[B,K,6] P", "S = Add (X, P)"),
    "no fixed width": ("float[B,L,K] X", "A = Relu (X) S = Add (A, X)"),
}


@pytest.mark.parametrize("case", LEFT)
def test_near_misses_2(apply, text_model, weights, case):
    inputs, body = LEFT[case]
    held = {name: weights[name] for name in "gbc" if name != "c" or " c)" in body}
    output = inputs.split(" X")[0]
    text = f"g ({inputs}) => ({output} Y) {{ {body} Y = LayerNormalization (S, g, b) }}"
    model = text_model(text, **held)
    after = apply(PASS, model)
    assert (after.rewrites, after.model) == (0, model)


def test_a_product_is_no_sum(apply, text_model, weights):
    text = """g (float[B,L,6] X) => (float[B,L,6] Y) {
      A = Relu (X) S = Mul (A, X) Y = LayerNormalization (S, g, b)
    }"""
    assert apply(PASS, text_model(text, g=weights["g"], b=weights["b"])).rewrites == 0


def test_gamma_is_an_input(apply, text_model, weights, x, run_ort):
    """Nothing is known of its length: the width is that of the sum."""
    text = """g (float[B,L,6] X, float[K] g) => (float[B,L,6] Y) {
      A = MatMul (X, W) S = Add (A, X) Y = LayerNormalization (S, g)
    }"""
    model = text_model(text, W=weights["W"])
    after = apply(PASS, model)
    assert after.rewrites == 1
    feeds = {"X": x, "g": weights["g"]}
    np.testing.assert_array_equal(run_ort(model, feeds), run_ort(after.model, feeds))


def test_where_nothing_is_rewritten_no_sizes_go(apply, text_model, weights):
    """A Reshape that hides the length is there already, and what lies behind it keeps its sizes."""
    body = POST.replace("(B, X)", "(H, X)").replace("S =", "H = Reshape (B, sizes) S =")
    text = f"g (float[B,L,6] X) => (float[B,L,6] Y) {{ {body} }}"
    model = text_model(text, **weights, sizes=np.array([0, -1, 6]))
    declare(model, VALUES["POST"].split())
    after = apply(PASS, model)
    assert (after.rewrites, after.model) == (0, model)
