"""fuse-skip-layer-norm: a sum and its norm become one op, near-misses say why not."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.compiler import Recipe, compile
from sardonyx.passes.fuse.skip_layer_norm import FuseSkipLayerNorm

H = 6
X = f"float[B,S,{H}]"

D = "d = Sub (x, m) q = Pow (d, two)"
ROOT = "e = Add (v, eps) r = Sqrt (e) n = Div (d, r) s = Mul (n, gamma)"
WRITTEN_OUT = f"""m = ReduceMean <axes = [-1]> (x) {D} v = ReduceMean <axes = [-1]> (q) {ROOT}
  Y = Add (s, beta)"""
RMS_WRITTEN_OUT = """q = Pow (x, two) v = ReduceMean <axes = [-1]> (q) e = Add (v, eps)
  r = Sqrt (e) i = Reciprocal (r) n = Mul (x, i) Y = Mul (gamma, n)"""

NORMS = {
    "op": (17, "Y = LayerNormalization <epsilon = 0.001> (x, gamma, beta)", True),
    "op over a counted axis": (
        17,
        "Y = LayerNormalization <epsilon = 0.001, axis = 2> (x, gamma, beta)",
        True,
    ),
    "written out": (13, WRITTEN_OUT, True),
    "RMS op": (23, "Y = RMSNormalization <epsilon = 0.001> (x, gamma)", False),
    "onnxruntime's op": (
        17,
        "Y = SimplifiedLayerNormalization <epsilon = 0.001> (x, gamma)",
        False,
    ),
    "RMS written out": (13, RMS_WRITTEN_OUT, False),
}

NUMBERS = {"two": np.float32(2), "eps": np.float32(1e-3)}


@pytest.fixture(scope="module")
def vectors(normal):
    return {
        "gamma": 1 + normal(H, seed=1),
        "beta": normal(H, seed=2),
        "bias": normal(H, seed=3),
    }


@pytest.fixture(scope="module")
def model(contrib, vectors):
    """A model of A and B, added up and normalized, in some way each."""

    def make(total, norm, opset=17, a=X, b=X, more="", **constants):
        text = f"g ({a} A, {b} B) => ({X} Y{more}) {{ {total} {norm} }}"
        return contrib(text, opset, **NUMBERS | vectors | constants)

    return make


@pytest.fixture(scope="module")
def feeds(normal):
    return {"A": normal(2, 5, H) * np.float32(25), "B": normal(2, 5, H, seed=9) * np.float32(25)}


def op(centred, *operands, outputs=("Y",)):
    name = "SkipLayerNormalization" if centred else "SkipSimplifiedLayerNormalization"
    return (f"com.microsoft.{name}", list(operands), list(outputs), {"epsilon": 0.001})


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm(fuse, model, nodes_of, feeds, norm):
    opset, text, centred = NORMS[norm]
    after = fuse(FuseSkipLayerNorm(), model("x = Add (A, B)", text, opset), **feeds)
    shift = ["beta"] if centred else []
    assert nodes_of(after.model) == [op(centred, "A", "B", "gamma", *shift)]
    assert (after.rewrites, after.journal.missed) == (1, [])


@pytest.mark.parametrize(
    "total",
    [
        "a = Add (A, bias) x = Add (a, B)",
        "a = Add (bias, A) x = Add (B, a)",
        "b = Add (B, bias) x = Add (A, b)",
        "a = Add (A, B) x = Add (bias, a)",
    ],
)
@pytest.mark.parametrize("norm", NORMS)
def test_a_bias_goes_in(fuse, model, nodes_of, feeds, norm, total):
    opset, text, centred = NORMS[norm]
    after = fuse(FuseSkipLayerNorm(), model(total, text, opset), **feeds)
    ((name, operands, outputs, attributes),) = nodes_of(after.model)
    shift = ["beta"] if centred else []
    assert sorted(operands[:2]) == ["A", "B"]
    assert (name, operands[2:], outputs, attributes) == (
        op(centred)[0],
        ["gamma", *shift, "bias"],
        ["Y"],
        {"epsilon": 0.001},
    )


@pytest.mark.parametrize("norm", NORMS)
def test_a_sum_that_others_read_is_an_output(fuse, model, nodes_of, feeds, norm):
    opset, text, centred = NORMS[norm]
    text = f"early = Neg (x) {text} Z = Mul (early, x)"  # also before the norm
    after = fuse(
        FuseSkipLayerNorm(), model("x = Add (A, B)", text, opset, more=f", {X} Z"), **feeds
    )
    shift = ["beta"] if centred else []
    skip = op(centred, "A", "B", "gamma", *shift, outputs=["Y", "", "", "x"])
    assert nodes_of(after.model) == [
        skip,
        ("Neg", ["x"], ["early"], {}),
        ("Mul", ["early", "x"], ["Z"], {}),
    ]


@pytest.mark.parametrize("norm", NORMS)
def test_a_sum_that_is_an_output_of_the_graph(fuse, model, nodes_of, feeds, norm):
    opset, text, _ = NORMS[norm]
    after = fuse(
        FuseSkipLayerNorm(), model("x = Add (A, B)", text, opset, more=f", {X} x"), **feeds
    )
    ((_, _, outputs, _),) = nodes_of(after.model)
    assert outputs == ["Y", "", "", "x"]


def test_a_sum_read_through_a_cast_to_its_own_type(fuse, model, nodes_of, feeds):
    total = "t = Add (A, B) x = Cast <to = 1> (t)"
    after = fuse(
        FuseSkipLayerNorm(),
        model(total, f"{RMS_WRITTEN_OUT} Z = Neg (x)", 13, more=f", {X} Z"),
        **feeds,
    )
    assert nodes_of(after.model) == [
        op(False, "A", "B", "gamma", outputs=["Y", "", "", "t"]),
        ("Cast", ["t"], ["x"], {"to": 1}),
        ("Neg", ["x"], ["Z"], {}),
    ]
    after = fuse(FuseSkipLayerNorm(), model(total, RMS_WRITTEN_OUT, 13), **feeds)
    assert nodes_of(after.model) == [op(False, "A", "B", "gamma")]


def test_without_beta(fuse, model, nodes_of, feeds):
    norm = "Y = LayerNormalization <epsilon = 0.001> (x, gamma)"
    after = fuse(FuseSkipLayerNorm(), model("x = Add (A, B)", norm), **feeds)
    assert nodes_of(after.model) == [op(True, "A", "B", "gamma")]
    after = fuse(FuseSkipLayerNorm(), model("a = Add (A, bias) x = Add (a, B)", norm), **feeds)
    ((_, operands, _, _),) = nodes_of(after.model)
    assert operands[2:] == ["gamma", "", "bias"]


def test_the_default_epsilon(fuse, model, nodes_of, feeds):
    after = fuse(
        FuseSkipLayerNorm(),
        model("x = Add (A, B)", "Y = LayerNormalization (x, gamma, beta)"),
        **feeds,
    )
    ((_, _, _, attributes),) = nodes_of(after.model)
    assert attributes == {"epsilon": 1e-5}


@pytest.mark.parametrize("norm", ["op", "RMS op"])
@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        (X, f"float[1,S,{H}]", ["A", "B"]),
        (f"float[1,S,{H}]", X, ["B", "A"]),
        (X, f"float[S,{H}]", ["A", "B"]),
        (f"float[S,{H}]", X, ["B", "A"]),
        (f"float[1,5,{H}]", f"float[1,5,{H}]", ["A", "B"]),
    ],
)
def test_one_first_axis_may_be_1_or_missing(fuse, model, nodes_of, feeds, norm, a, b, wanted):
    cut = {
        f"float[1,S,{H}]": slice(0, 1),
        f"float[1,5,{H}]": slice(0, 1),
        f"float[S,{H}]": 0,
        X: slice(None),
    }
    opset, text, _ = NORMS[norm]
    built = model("x = Add (A, B)", text, opset, a=a, b=b)
    after = fuse(FuseSkipLayerNorm(), built, A=feeds["A"][cut[a]], B=feeds["B"][cut[b]])
    ((_, operands, _, _),) = nodes_of(after.model)
    assert operands[:2] == wanted


def test_two_axes(fuse, contrib, vectors, nodes_of, feeds):
    text = f"""g (float[T,{H}] A, float[T,{H}] B) => (float[T,{H}] Y) {{
      x = Add (A, B) Y = LayerNormalization <epsilon = 0.001> (x, gamma, beta) }}"""
    after = fuse(FuseSkipLayerNorm(), contrib(text, **vectors), A=feeds["A"][0], B=feeds["B"][0])
    assert nodes_of(after.model) == [op(True, "A", "B", "gamma", "beta")]


def test_a_table_of_positions_may_be_constant(fuse, contrib, vectors, nodes_of, normal, feeds):
    text = f"""g (float[B,5,{H}] A) => (float[B,5,{H}] Y) {{
      x = Add (P, A) Y = LayerNormalization <epsilon = 0.001> (x, gamma, beta) }}"""
    built = contrib(text, P=normal(1, 5, H, seed=4), **vectors)
    after = fuse(FuseSkipLayerNorm(), built, A=feeds["A"])
    assert nodes_of(after.model) == [op(True, "A", "P", "gamma", "beta")]


def test_one_after_another_shares_the_sum(fuse, model, nodes_of, feeds):
    """The residual stream of a pre-norm model."""
    norm = """n = LayerNormalization <epsilon = 0.001> (x, gamma, beta) f = Neg (n)
      z = Add (x, f) Y = RMSNormalization <epsilon = 0.001> (z, gamma) Z = Abs (z)"""
    after = fuse(FuseSkipLayerNorm(), model("x = Add (A, B)", norm, 23, more=f", {X} Z"), **feeds)
    ops = [(op, inputs, outputs) for op, inputs, outputs, _ in nodes_of(after.model)]
    assert ops == [
        (op(True)[0], ["A", "B", "gamma", "beta"], ["n", "", "", "x"]),
        ("Neg", ["n"], ["f"]),
        (op(False)[0], ["x", "f", "gamma"], ["Y", "", "", "z"]),
        ("Abs", ["z"], ["Z"]),
    ]


def test_a_bias_in_a_sum_that_others_read_stays_outside(fuse, model, nodes_of, feeds):
    total = "a = Add (A, bias) x = Add (a, B) Z = Neg (a)"
    after = fuse(FuseSkipLayerNorm(), model(total, NORMS["op"][1], more=f", {X} Z"), **feeds)
    ops = [(name, inputs) for name, inputs, *_ in nodes_of(after.model)]
    assert (op(True)[0], ["a", "B", "gamma", "beta"]) in ops


def test_in_the_body_of_an_if(fuse, contrib, vectors, feeds):
    text = f"""g ({X} A, {X} B, bool C) => ({X} Y) {{
      Y = If (C) <then_branch = a () => ({X} P) {{
        x = Add (A, B) P = LayerNormalization (x, gamma, beta)
      }}, else_branch = b () => ({X} Q) {{ Q = Neg (A) }}>
    }}"""
    for condition in (True, False):
        built = contrib(text, **vectors)
        after = fuse(FuseSkipLayerNorm(), built, C=np.array(condition), **feeds)
        (node,) = after.model.graph.node
        bodies = {a.name: [n.op_type for n in a.g.node] for a in node.attribute}
        assert bodies == {"then_branch": ["SkipLayerNormalization"], "else_branch": ["Neg"]}


def test_not_of_a_sum_around_a_body(missed, contrib, vectors):
    text = f"""g ({X} A, {X} B, bool C) => ({X} Y) {{
      x = Add (A, B)
      Y = If (C) <then_branch = a () => ({X} P) {{ P = LayerNormalization (x, gamma, beta) }},
                  else_branch = b () => ({X} Q) {{ Q = Neg (A) }}>
    }}"""
    assert missed(FuseSkipLayerNorm(), contrib(text, **vectors)) == [
        "P: 'x' inside it is computed in another graph"
    ]


SHAPES = "are not known to have one shape of two or three axes"


@pytest.mark.parametrize(
    ("a", "b", "known"),
    [
        (X, f"float[B,1,{H}]", f"'A' [B, S, {H}] and 'B' [B, 1, {H}]"),
        (X, f"float[C,S,{H}]", f"'A' [B, S, {H}] and 'B' [C, S, {H}]"),
        (f"float[N,B,S,{H}]", f"float[N,B,S,{H}]", f"'A' [N, B, S, {H}] and 'B' [N, B, S, {H}]"),
        (f"float[B,1,{H}]", f"float[1,S,{H}]", f"'A' [B, 1, {H}] and 'B' [1, S, {H}]"),
    ],
)
def test_near_miss_1_shapes(missed, contrib, vectors, a, b, known):
    text = f"""g ({a} A, {b} B) => (float[N,B,S,{H}] Y) {{
      x = Add (A, B) n = LayerNormalization (x, gamma, beta) Y = Identity (n) }}"""
    text = text if "N" in a else text.replace("[N,", "[")
    assert missed(FuseSkipLayerNorm(), contrib(text, **vectors)) == [f"n: {known} {SHAPES}"]


NEAR_MISSES = {
    "axis": (
        "Y = LayerNormalization <axis = 1> (x, wide, wide)",
        "Y: LayerNormalization 'Y' is over the axes [1], not the last alone",
    ),
    "gamma": (
        "Y = LayerNormalization (x, B, beta)",
        "Y: gamma is no constant but the input 'B'",
    ),
    "short beta": (
        "Y = LayerNormalization (x, gamma, short)",
        f"Y: beta 'short' is [1] and 'x' [B, S, {H}]",
    ),
    "epsilon": (
        RMS_WRITTEN_OUT.replace("eps", "B"),
        "v: the input 'B' is no constant of one element",
    ),
    "read": (
        f"{RMS_WRITTEN_OUT} Z = Neg (n)",
        "v: 'n' inside it is also read by Neg 'Z'",
    ),
}


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_near_misses_2_and_3(missed, model, case):
    norm, reason = NEAR_MISSES[case]
    more = f", {X} Z" if "Z" in norm else ""
    short, wide = np.ones(1, np.float32), np.ones((5, H), np.float32)
    built = model("x = Add (A, B)", norm, more=more, short=short, wide=wide)
    assert missed(FuseSkipLayerNorm(), built) == [reason]


def test_near_miss_3_the_mean_is_read(missed, fuse, model, nodes_of, feeds):
    norm = "Y, M, D = LayerNormalization <epsilon = 0.001> (x, gamma, beta)"
    built = model("x = Add (A, B)", f"{norm} Z = Neg (M)", more=", float[B,S,1] Z")
    assert missed(FuseSkipLayerNorm(), built) == ["Y: 'M' inside it is also read by Neg 'Z'"]
    after = fuse(FuseSkipLayerNorm(), model("x = Add (A, B)", norm), **feeds)
    assert nodes_of(after.model) == [op(True, "A", "B", "gamma", "beta")]


def test_near_miss_4_float16(missed, contrib, vectors):
    half = X.replace("float", "float16")
    text = f"""g ({half} A, {half} B) => ({half} Y) {{
      x = Add (A, B) Y = LayerNormalization (x, gamma, beta) }}"""
    halves = {name: vector.astype(np.float16) for name, vector in vectors.items()}
    assert missed(FuseSkipLayerNorm(), contrib(text, **halves)) == [
        "Y: 'x' is float16, and not float32"
    ]


@pytest.mark.parametrize(
    "total",
    ["x = Mul (A, B)", "x = Add (A, bias)", "a = Add (A, B) x = Relu (a)", "x = Add (A, one)"],
)
@pytest.mark.parametrize("norm", ["op", "written out"])
def test_plainly_no_residual_sum_is_passed_over_in_silence(missed, model, total, norm):
    opset, text, _ = NORMS[norm]
    assert missed(FuseSkipLayerNorm(), model(total, text, opset, one=np.float32(1))) == []


def test_the_check_of_what_changed_knows_what_a_cast_passes_on(model):
    total = "t = Add (A, B) x = Cast <to = 1> (t)"
    built = model(total, f"{RMS_WRITTEN_OUT} Z = Neg (x)", 13, more=f", {X} Z")
    del built.opset_import[1:]
    done = compile(built, Recipe("fused", "", (FuseSkipLayerNorm(),)))
    assert (done.report.verification.regions_run, done.report.verification.unchecked) == (1, [])
