"""fuse-layer-norm: norms written out become the standard ops, near-misses say why not."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, strategies

from sardonyx.passes.fuse.layer_norm import FuseLayerNorm

H = 6
AXES_ARE_AN_INPUT = 18

D = "m = ReduceMean <axes = [-1]> (X) d = Sub (X, m)"
VARIANCE = {
    "power": "q = Pow (d, two) v = ReduceMean <axes = [-1]> (q)",
    "product": "q = Mul (d, d) v = ReduceMean <axes = [2]> (q)",
    "computed twice": "m2 = ReduceMean <axes = [-1]> (X) d2 = Sub (X, m2) q = Pow (d2, two)"
    " v = ReduceMean <axes = [-1]> (q)",
}
SCALED = {
    "over the root": "r = Sqrt (e) n = Div (d, r) s = Mul (n, gamma)",
    "gamma first": "r = Sqrt (e) n = Div (d, r) s = Mul (gamma, n)",
    "reciprocal": "r = Sqrt (e) i = Reciprocal (r) n = Mul (d, i) s = Mul (n, gamma)",
    "one over": "r = Sqrt (e) i = Div (one, r) n = Mul (i, d) s = Mul (n, gamma)",
    "power": "i = Pow (e, minus_half) n = Mul (d, i) s = Mul (n, gamma)",
    "root as a power": "r = Pow (e, half) n = Div (d, r) s = Mul (n, gamma)",
    "gamma over": "r = Sqrt (e) n = Div (gamma, r) s = Mul (d, n)",
    "gamma before": "r = Sqrt (e) n = Mul (gamma, d) s = Div (n, r)",
}

LAYER = f"{D} {VARIANCE['power']} e = Add (v, eps) {SCALED['over the root']}"
SHIFTED = f"{LAYER} Y = Add (s, beta)"
SHIFTED_MEAN = f"""{D} {VARIANCE["power"]} e = Add (eps, v) r = Sqrt (e) i = Reciprocal (r)
  k = Mul (i, gamma) a = Mul (X, k) b = Mul (m, k) c = Sub (beta, b) Y = Add (a, c)"""
RMS = """q = Pow (X, two) v = ReduceMean <axes = [-1]> (q) e = Add (v, eps) r = Sqrt (e)
  n = Div (X, r) Y = Mul (n, gamma)"""

NUMBERS = {
    "one": 1,
    "two": 2,
    "half": 0.5,
    "minus_half": -0.5,
    "eps": 1e-3,
}


@pytest.fixture(scope="module")
def norm(contrib, normal):
    """A model of a formula of X [B, S, H]."""

    def make(body, opset=17, kind="float", more="", inputs="", **constants):
        dtype = {"float": np.float32, "float16": np.float16, "double": np.float64}[kind]
        held = {name: np.asarray(number, dtype) for name, number in NUMBERS.items()}
        held["gamma"] = (1 + normal(H, seed=1)).astype(dtype)
        held["beta"] = normal(H, seed=2).astype(dtype)
        if opset >= AXES_ARE_AN_INPUT:
            held |= {"axis_2": np.array([2]), "axis_last": np.array([-1])}
            body = re.sub(r"<axes = \[-1]> \((\w+)\)", r"(\1, axis_last)", body)
            body = re.sub(r"<axes = \[2]> \((\w+)\)", r"(\1, axis_2)", body)
        text = f"g ({kind}[B,S,{H}] X{inputs}) => ({kind}[B,S,{H}] Y{more}) {{ {body} }}"
        return contrib(text, opset, **held | constants)

    return make


@pytest.fixture(scope="module")
def x(normal):
    """Values with a mean that matters."""
    return normal(2, 5, H) * np.float32(25) + np.float32(3)


def layer_norm(*operands, epsilon=0.001):
    return [("LayerNormalization", list(operands), ["Y"], {"axis": -1, "epsilon": epsilon})]


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("scaled", SCALED)
@pytest.mark.parametrize("variance", VARIANCE)
def test_every_writing(fuse, norm, nodes_of, x, variance, scaled, opset):
    body = f"{D} {VARIANCE[variance]} e = Add (v, eps) {SCALED[scaled]} Y = Add (s, beta)"
    after = fuse(FuseLayerNorm(), norm(body, opset), X=x)
    assert nodes_of(after.model) == layer_norm("X", "gamma", "beta")
    assert (after.rewrites, after.journal.missed) == (1, [])


@pytest.mark.parametrize("shifted", ["Add (beta, s)", "Add (s, beta)"])
def test_beta_on_either_side(fuse, norm, nodes_of, x, shifted):
    after = fuse(FuseLayerNorm(), norm(f"{LAYER} Y = {shifted}"), X=x)
    assert nodes_of(after.model) == layer_norm("X", "gamma", "beta")


def test_the_mean_taken_off_beta(fuse, norm, nodes_of, x):
    after = fuse(FuseLayerNorm(), norm(SHIFTED_MEAN), X=x)
    assert nodes_of(after.model) == layer_norm("X", "gamma", "beta")


def test_without_beta(fuse, norm, nodes_of, x):
    after = fuse(FuseLayerNorm(), norm(f"{LAYER} Y = Identity (s)"), X=x)
    (node, _) = nodes_of(after.model)
    assert node == ("LayerNormalization", ["X", "gamma"], ["s"], layer_norm()[0][3])


@pytest.mark.parametrize("beta", [np.ones((1, H)), np.ones(1)])
def test_a_beta_of_another_shape_stays_outside(fuse, norm, census, x, beta):
    after = fuse(FuseLayerNorm(), norm(SHIFTED, beta=beta.astype(np.float32)), X=x)
    assert census(after.model) == {"LayerNormalization": 1, "Add": 1}


def test_without_epsilon(fuse, norm, nodes_of, x):
    body = SHIFTED.replace("e = Add (v, eps)", "e = Identity (v)")
    after = fuse(FuseLayerNorm(), norm(body), X=x)
    assert nodes_of(after.model) == layer_norm("X", "gamma", "beta", epsilon=0.0)


def test_casts_to_the_same_type_are_passed_over(fuse, norm, nodes_of, x):
    body = SHIFTED.replace("d, r", "f, r").replace("n, gamma", "o, gamma")
    body = body.replace("n = Div", "f = Cast <to = 1> (d) n = Div")
    body = body.replace("s = Mul", "o = Cast <to = 1> (n) s = Mul")
    after = fuse(FuseLayerNorm(), norm(body), X=x)
    assert nodes_of(after.model) == layer_norm("X", "gamma", "beta")


@pytest.mark.parametrize("epsilon", [1e-12, 1e-6, 0.5])
@pytest.mark.parametrize("scaled", [s for s in SCALED if "n = " in SCALED[s]])
def test_rms_norm(fuse, norm, nodes_of, x, scaled, epsilon):
    body = f"q = Mul (d, d) v = ReduceMean <axes = [-1]> (q) e = Add (v, eps) {SCALED[scaled]}"
    body = f"d = Identity (X) {body} Y = Identity (s)"
    after = fuse(FuseLayerNorm(), norm(body, 23, eps=np.float32(epsilon)), X=x)
    node = nodes_of(after.model)[0]
    attributes = {"axis": -1, "epsilon": epsilon}
    assert node == ("RMSNormalization", ["X", "gamma"], ["s"], attributes)


def test_what_had_another_mean_taken_off_is_rms_norm(fuse, norm, nodes_of, x):
    body = SHIFTED.replace("ReduceMean <axes = [-1]> (X)", "ReduceMean <axes = [1]> (X)")
    body = body.replace("<axes = [1]> (X)", "(X, one_axis)")
    after = fuse(FuseLayerNorm(), norm(body, 23, one_axis=np.array([1])), X=x)
    ops = [(op, inputs) for op, inputs, *_ in nodes_of(after.model)]
    assert ops[2:] == [("RMSNormalization", ["d", "gamma"]), ("Add", ["s", "beta"])]


@pytest.mark.parametrize("variance", ["Sub (v, minus_eps)", "Add (v, eps)"])
def test_what_has_no_mean_taken_off_is_rms_norm(fuse, norm, nodes_of, x, variance):
    body = RMS.replace("Add (v, eps)", variance)
    model = norm(body, 23, minus_eps=np.float32(-1e-3))
    after = fuse(FuseLayerNorm(), model, X=x)
    assert [node[0] for node in nodes_of(after.model)] == ["RMSNormalization"]


def test_in_the_body_of_an_if(fuse, norm, x):
    body = f"""Y = If (C) <then_branch = a () => (float[B,S,{H}] P) {{
      {SHIFTED.replace("Y =", "P =")}
    }}, else_branch = b () => (float[B,S,{H}] Q) {{ Q = Neg (X) }}>"""
    for condition in (True, False):
        after = fuse(FuseLayerNorm(), norm(body, inputs=", bool C"), X=x, C=np.array(condition))
        (node,) = after.model.graph.node
        bodies = {a.name: [n.op_type for n in a.g.node] for a in node.attribute}
        assert bodies == {"then_branch": ["LayerNormalization"], "else_branch": ["Neg"]}


def test_two_in_a_row(fuse, norm, nodes_of, x):
    first = SHIFTED.replace("Y =", "Y1 =")
    second = """q9 = Mul (Y1, Y1) v9 = ReduceMean <axes = [-1]> (q9) e9 = Add (v9, eps)
      r9 = Sqrt (e9) n9 = Div (Y1, r9) Y = Mul (n9, gamma)"""
    model = norm(first + second, 23)
    after = fuse(FuseLayerNorm(), model, X=x)
    assert [op for op, *_ in nodes_of(after.model)] == ["LayerNormalization", "RMSNormalization"]


NEAR_MISSES = {
    "variance over two axes": (
        SHIFTED.replace("ReduceMean <axes = [-1]> (q)", "ReduceMean <axes = [1, 2]> (q)"),
        "ReduceMean 'v' is over the axes [1, 2], not the last alone",
    ),
    "variance over all": (
        SHIFTED.replace("ReduceMean <axes = [-1]> (q)", "ReduceMean (q)"),
        "ReduceMean 'v' is over the axes all, not the last alone",
    ),
    "epsilon": (SHIFTED.replace("eps", "W"), "the input 'W' is no constant of one element"),
    "gamma": (SHIFTED.replace("gamma", "W"), "gamma is no constant but the input 'W'"),
    "read": (SHIFTED + " Z = Identity (n)", "'n' inside it is also read by Identity 'Z'"),
    "the deviation read": (SHIFTED + " Z = Neg (d)", "'d' inside it is also read by Neg 'Z'"),
    "no gamma": (SHIFTED.replace("Mul (n, gamma)", "Neg (n)"), "Neg 's' is no Sub"),
    "the variance of something else": (
        SHIFTED.replace("Pow (d, two)", "Pow (X, two)"),
        "the input 'X' is no Sub",
    ),
    "a scaled scale": (RMS.replace("(n, gamma)", "(n, two)"), "gamma 'two' is no vector but []"),
}


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_near_misses_1_to_3(missed, norm, case):
    body, reason = NEAR_MISSES[case]
    more = f", float[B,S,{H}] Z" if " Z " in body else ""
    (found,) = missed(FuseLayerNorm(), norm(body, inputs=", float W", more=more))
    assert found.startswith("v: ")
    assert reason in found


def test_near_miss_1_a_mean_that_drops_its_axis(missed, norm):
    body = SHIFTED.replace("<axes = [-1]> (q)", "<axes = [-1], keepdims = 0> (q)")
    assert missed(FuseLayerNorm(), norm(body)) == [
        "v: ReduceMean 'v' does not keep the axis it is over"
    ]


def test_near_miss_1_axes_that_are_computed(missed, norm):
    body = SHIFTED.replace("<axes = [-1]> (q)", "(q, A)")
    assert missed(FuseLayerNorm(), norm(body, 18, inputs=", int64[1] A")) == [
        "v: ReduceMean 'v' is over the axes in 'A', which is no constant"
    ]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((1, H), f"gamma 'gamma' is no vector but [1, {H}]"),
        ((1,), f"gamma 'gamma' is [1] and 'X' [B, S, {H}]"),
    ],
)
def test_near_miss_2_the_shape_of_gamma(missed, norm, shape, reason):
    model = norm(SHIFTED, gamma=np.ones(shape, np.float32))
    assert missed(FuseLayerNorm(), model) == [f"v: {reason}"]


@pytest.mark.parametrize("body", [f"{LAYER} Y = Mul (s, two)", SHIFTED])
def test_near_miss_3_an_output_of_the_graph(missed, norm, body):
    assert missed(FuseLayerNorm(), norm(body, more=f", float[B,S,{H}] n")) == [
        "v: 'n' inside it is an output of the graph"
    ]


@pytest.mark.parametrize("kind", ["float16", "double"])
def test_near_miss_4_other_types(missed, norm, kind):
    name = {"double": "float64"}.get(kind, kind)
    assert missed(FuseLayerNorm(), norm(SHIFTED, kind=kind)) == [
        f"v: 'X' is {name}, and not float32"
    ]


@pytest.mark.parametrize(
    ("body", "opset", "op", "since"),
    [(SHIFTED, 13, "LayerNormalization", 17), (RMS, 22, "RMSNormalization", 23)],
)
def test_near_miss_5_an_older_opset(missed, norm, body, opset, op, since):
    assert missed(FuseLayerNorm(), norm(body, opset)) == [
        f"v: {op} exists from opset {since} on, and the model has {opset}"
    ]


@pytest.mark.parametrize(
    "body",
    [
        "m = ReduceMean <axes = [1]> (X) Y = Sub (X, m)",
        "q = Sqrt (X) Y = Div (X, q)",
        "e = Exp (X) m = ReduceMean <axes = [-1]> (e) Y = Div (e, m)",
    ],
)
def test_plainly_something_else_is_passed_over_in_silence(missed, norm, body):
    assert missed(FuseLayerNorm(), norm(body)) == []


@given(data=strategies.data())
def test_any_order_and_grouping(data, fuse, contrib, write, normal, x):
    def mean(part):
        return ("ReduceMean <axes = [-1]>", part)

    deviation = ("Sub", "X", mean("X"))
    variance = mean(("Pow", deviation, 2.0))
    root = ("/", ("Sqrt", ("+", variance, 1e-3)))
    body, constants = write(data.draw, ("+", ("*", deviation, root, "gamma"), "beta"))
    vectors = {"gamma": 1 + normal(H, seed=1), "beta": normal(H, seed=2)}
    text = f"g (float[B,S,{H}] X) => (float[B,S,{H}] Y) {{ {body} }}"
    after = fuse(FuseLayerNorm(), contrib(text, **constants, **vectors), X=x)
    ops = [node.op_type for node in after.model.graph.node]
    assert ops.count("LayerNormalization") == 1
    assert set(ops) <= {"LayerNormalization", "Identity"}
