"""fuse-gelu: every writing of Gelu becomes an op, near-misses say why not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies

from sardonyx.passes.fuse.gelu import FuseGelu

H = 6

NUMBERS = {
    "half": np.float32(0.5),
    "one": np.float32(1),
    "two": np.float32(2),
    "three": np.float32(3),
    "root": np.float32(math.sqrt(2)),
    "cube": np.float32(0.044715),
    "c": np.float32(math.sqrt(2 / math.pi)),
    "c_cube": np.float32(math.sqrt(2 / math.pi) * 0.044715),
    "alpha": np.float32(1.702),
}

ERF = "d = Div (x, root) s = Erf (d)"
CUBIC = "p = Pow (x, three) q = Mul (p, cube) r = Add (x, q) t = Mul (r, c)"
TANH = f"{CUBIC} s = Tanh (t)"

HALVED = {
    "half last": "u = Add (s, one) v = Mul (x, u) Y = Mul (v, half)",
    "half first": "h = Mul (x, half) u = Add (one, s) Y = Mul (h, u)",
    "half between": "u = Add (s, one) v = Mul (half, u) Y = Mul (v, x)",
    "over two": "u = Add (s, one) v = Mul (u, x) Y = Div (v, two)",
    "shared out": "w = Mul (s, half) u = Add (w, half) Y = Mul (x, u)",
    "multiplied out": "h = Mul (x, half) w = Mul (h, s) Y = Add (w, h)",
    "multiplied out twice": "h = Mul (x, half) v = Mul (x, s) w = Mul (v, half) Y = Add (h, w)",
}

CUBICS = {
    "power": CUBIC,
    "products": "a = Mul (x, x) p = Mul (x, a) q = Mul (cube, p) r = Add (q, x) t = Mul (c, r)",
    "number inside": "a = Mul (cube, x) p = Mul (a, x) q = Mul (p, x) r = Add (x, q)"
    " t = Mul (r, c)",
    "x outside": "p = Pow (x, two) q = Mul (p, cube) r = Add (q, one) g = Mul (x, c)"
    " t = Mul (g, r)",
    "multiplied out": "p = Pow (x, three) q = Mul (p, c_cube) g = Mul (x, c) t = Add (g, q)",
    "halfway": "p = Mul (x, x) q = Mul (p, c_cube) r = Add (q, c) t = Mul (x, r)",
}


@pytest.fixture(scope="module")
def gelu(contrib, normal):
    """A model of a formula of x: the input X, or X + bias."""

    def make(body, biased=False, kind="float", opset=17, more="", **constants):
        head = "x = Add (X, bias)" if biased else "x = Identity (X)"
        numbers = {
            name: np.asarray(value, {"float16": np.float16}.get(kind, np.float32))
            for name, value in NUMBERS.items()
        }
        held = numbers | {"bias": normal(H, seed=1).astype(numbers["one"].dtype)} | constants
        text = f"g ({kind}[B,S,{H}] X) => ({kind}[B,S,{H}] Y{more}) {{ {head} {body} }}"
        return contrib(text, opset, **held)

    return make


@pytest.fixture(scope="module")
def x(normal):
    """Values on both sides of 0, some large."""
    return normal(2, 5, H) * np.float32(60)


def only(op, *inputs, **attributes):
    return [(f"com.microsoft.{op}", list(inputs), ["Y"], attributes)]


@pytest.mark.parametrize("ending", HALVED)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("start", "op"), [(ERF, "Gelu"), (TANH, "FastGelu")], ids=["erf", "tanh"])
def test_every_grouping(fuse, gelu, nodes_of, x, start, op, biased, ending):
    after = fuse(FuseGelu(), gelu(f"{start} {HALVED[ending]}", biased), X=x)
    with_bias = "BiasGelu" if op == "Gelu" else op
    wanted = only(with_bias, "X", "bias") if biased else only(op, "X")
    assert nodes_of(after.model) == wanted
    assert (after.rewrites, after.journal.missed) == (1, [])


@pytest.mark.parametrize("form", CUBICS)
def test_every_cubic(fuse, gelu, nodes_of, x, form):
    body = f"{CUBICS[form]} s = Tanh (t) {HALVED['half last']}"
    assert nodes_of(fuse(FuseGelu(), gelu(body), X=x).model) == only("FastGelu", "X")


def test_the_record_names_the_node_of_the_file(fuse, gelu, x):
    body = f"{ERF} {HALVED['half last'].replace('Y', 'Z')} Y = Identity (Z)"
    model = gelu(body)
    model.graph.node[-1].name = "Z/Gelu"
    after = fuse(FuseGelu(), model, X=x)
    assert [node.name for node in after.model.graph.node] == ["Z/Gelu_", "Z/Gelu"]
    assert [entry.node for entry in after.journal.fused] == ["Z/Gelu_"]


@pytest.mark.parametrize("scaled", ["Mul (x, alpha)", "Mul (alpha, x)", "Div (x, inverse)"])
def test_quick_gelu(fuse, gelu, nodes_of, x, scaled):
    body = f"z = {scaled} s = Sigmoid (z) Y = Mul (s, x)"
    after = fuse(FuseGelu(), gelu(body, inverse=np.float32(1 / 1.702)), X=x)
    assert nodes_of(after.model) == only("QuickGelu", "X", alpha=1.702)


def test_quick_gelu_of_alpha_1(fuse, gelu, nodes_of, x):
    after = fuse(FuseGelu(), gelu("s = Sigmoid (x) Y = Mul (x, s)"), X=x)
    assert nodes_of(after.model) == only("QuickGelu", "X", alpha=1.0)


@pytest.mark.parametrize(
    ("attribute", "op"),
    [
        ("", "BiasGelu"),
        ('<approximate = "none">', "BiasGelu"),
        ('<approximate = "tanh">', "FastGelu"),
    ],
)
def test_the_standard_op_with_a_bias(fuse, gelu, nodes_of, x, attribute, op):
    after = fuse(FuseGelu(), gelu(f"Y = Gelu {attribute} (x)", biased=True, opset=20), X=x)
    assert nodes_of(after.model) == only(op, "X", "bias")


def test_identity_and_a_cast_to_the_same_type_are_passed_over(fuse, gelu, nodes_of, x):
    body = """i = Cast <to = 1> (x) d = Div (i, root) s = Erf (d) j = Identity (s)
              u = Add (j, one) k = Cast <to = 1> (x) v = Mul (k, u) Y = Mul (v, half)"""
    assert nodes_of(fuse(FuseGelu(), gelu(body, True), X=x).model) == only("BiasGelu", "X", "bias")


def test_names_and_notes(apply, gelu):
    before = gelu(f"{ERF} {HALVED['half last']}")
    before.graph.node[-1].name = "act"
    before.graph.node[-1].doc_string = "a line"
    after = apply(FuseGelu(), before)
    (node,) = after.model.graph.node
    assert (node.name, node.doc_string) == ("act/Gelu", "a line")
    assert [(p.key, p.value) for p in node.metadata_props] == [("sardonyx.pass", "fuse-gelu")]
    (entry,) = after.journal.fused
    assert (entry.by, entry.node, entry.op, entry.replaced) == (
        "fuse-gelu",
        "act/Gelu",
        "Gelu",
        6,
    )


def test_in_the_body_of_an_if(fuse, contrib, x, census):
    text = f"""g (float[B,S,{H}] X, bool C) => (float[B,S,{H}] Y) {{
      Y = If (C) <then_branch = a () => (float[B,S,{H}] P) {{
        x = Identity (X) {ERF} {HALVED["half last"].replace("Y", "P")}
      }}, else_branch = b () => (float[B,S,{H}] Q) {{ Q = Neg (X) }}>
    }}"""
    used = {name: NUMBERS[name] for name in ("root", "one", "half")}
    for condition in (True, False):
        after = fuse(FuseGelu(), contrib(text, **used), X=x, C=np.array(condition))
        (node,) = after.model.graph.node
        bodies = {a.name: [n.op_type for n in a.g.node] for a in node.attribute}
        assert bodies == {"then_branch": ["Gelu"], "else_branch": ["Neg"]}


def test_not_across_the_border_of_a_body(missed, contrib):
    text = f"""g (float[B,S,{H}] x, bool C) => (float[B,S,{H}] Y) {{
      {ERF} u = Add (s, one)
      Y = If (C) <then_branch = a () => (float[B,S,{H}] P) {{ v = Mul (x, u) P = Mul (v, half) }},
                  else_branch = b () => (float[B,S,{H}] Q) {{ Q = Neg (x) }}>
    }}"""
    assert missed(FuseGelu(), contrib(text, **NUMBERS)) == [
        "s: 'P' inside it is computed in another graph"
    ]


def test_a_bias_that_others_read_stays_outside(fuse, gelu, nodes_of, x):
    body = f"{ERF} {HALVED['half last']} Z = Neg (x)"
    after = fuse(FuseGelu(), gelu(body, biased=True, more=f", float[B,S,{H}] Z"), X=x)
    ops = [(op, inputs) for op, inputs, *_ in nodes_of(after.model)]
    assert ops == [("Add", ["X", "bias"]), ("com.microsoft.Gelu", ["x"]), ("Neg", ["x"])]


@pytest.mark.parametrize("bias", [np.ones((1, H)), np.ones(1), np.ones((H, 1, H))[:, :1]])
def test_a_bias_of_another_shape_stays_outside(fuse, gelu, census, x, bias):
    x = x if bias.ndim < 3 else np.repeat(x[:1], H, 0)
    model = gelu(f"{ERF} {HALVED['half last']}", biased=True, bias=bias.astype(np.float32))
    assert census(fuse(FuseGelu(), model, X=x).model) == {"Add": 1, "Gelu": 1}


GELU = f"{ERF} {HALVED['half last']}"
FAST = f"{TANH} {HALVED['half last']}"

NEAR_MISSES = {
    "half": (GELU.replace("half", "cube"), "Mul 'Y' has the constant 0.044715, not 0.5"),
    "root": (GELU.replace("root", "two"), "Div 'd' has the constant 0.5, not 0.707107"),
    "one": (GELU.replace("one", "two"), "Add 'u' has the constant 2, not 1"),
    "cube": (FAST.replace("cube", "half"), "Mul 'q' has the constant 0.5, not 0.044715"),
    "power": (FAST.replace("three", "two"), "Pow 'p' raises to the power of 2.0"),
    "c": (FAST.replace("(r, c)", "(r, one)"), "Mul 't' has the constant 1, not 0.797885"),
    "another x": (GELU.replace("Mul (x, u)", "Mul (W, u)"), "x is 'W' and 'X'"),
    "an output": (GELU + " Z = Identity (u)", "'u' inside it is also read by Identity 'Z'"),
    "read": (GELU + " n = Neg (s) Z = Abs (n)", "'s' inside it is also read by Neg 'n'"),
    "minus": (GELU.replace("Add (s, one)", "Sub (one, s)"), "Sub 'u' is no Erf"),
    "alone": ("Y = Erf (x)", "nothing around it is written like the formula"),
    "a tensor for a number": (GELU.replace("(v, half)", "(v, W)"), "the input 'W' is no constant"),
    "alpha": ("z = Mul (x, W) s = Sigmoid (z) Y = Mul (x, s)", "the input 'W' is no constant"),
}


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_near_misses_1_and_2(missed, contrib, case):
    body, reason = NEAR_MISSES[case]
    more = f", float[B,S,{H}] Z" if "Z" in body else ""
    text = f"g (float[B,S,{H}] X, float W) => (float[B,S,{H}] Y{more}) {{x = Identity (X) {body}}}"
    (found,) = missed(FuseGelu(), contrib(text, **NUMBERS))
    assert found.startswith(("s: ", "Y: "))
    assert reason in found


@pytest.mark.parametrize("body", [GELU, FAST, "z = Mul (x, alpha) s = Sigmoid (z) Y = Mul (s, x)"])
def test_near_miss_2_an_output_of_the_graph(missed, gelu, body):
    (found,) = missed(FuseGelu(), gelu(body, more=f", float[B,S,{H}] s"))
    assert found == "s: 's' inside it is an output of the graph"


@pytest.mark.parametrize("body", [GELU, FAST])
def test_near_miss_3_float16(missed, gelu, body):
    assert missed(FuseGelu(), gelu(body, kind="float16")) == ["s: 'X' is float16, and not float32"]


def test_near_miss_3_an_unknown_type(missed, contrib):
    text = """g (float[B] X) => (float[B] Z) {
      x = com.other.Op (X) s = Sigmoid (x) Y = Mul (x, s) Z = com.other.Op (Y)
    }"""
    model = contrib(text)
    model.opset_import.add(domain="com.other", version=1)
    assert missed(FuseGelu(), model) == ["s: the type of 'Y' is not known"]


def test_a_number_that_adds_axes_is_a_near_miss(missed, contrib):
    text = f"g (float[{H}] x) => (float[1,{H}] Y) {{ {GELU} }}"
    numbers = NUMBERS | {"half": np.full((1, 1), 0.5, np.float32)}
    assert missed(FuseGelu(), contrib(text, **numbers)) == ["s: 'x' has 1 axes and 'Y' 2"]


def test_numbers_may_add_axes_to_one_of_unknown_rank(missed, contrib):
    text = f"""g (float[N] X, int64[K] shape) => (float[M] Z) {{
      x = Reshape (X, shape) {GELU} Z = Reshape (Y, flat)
    }}"""
    numbers = NUMBERS | {"half": np.full((1, 1), 0.5, np.float32), "flat": np.array([-1])}
    reason = "s: 'half' is [1, 1], and 'x' of unknown shape"
    assert missed(FuseGelu(), contrib(text, **numbers)) == [reason]


def test_near_miss_4_the_standard_op_alone(missed, gelu):
    assert missed(FuseGelu(), gelu("y = Relu (x) Y = Gelu (y)", opset=20)) == [
        "Y: nothing is gained: 'y' is no sum of a tensor and a constant vector"
    ]


def test_near_miss_4_the_standard_op_of_a_sum_that_others_read(missed, gelu):
    model = gelu("Y = Gelu (x) Z = Neg (x)", True, opset=20, more=f", float[B,S,{H}] Z")
    assert missed(FuseGelu(), model) == ["Y: 'x' inside it is also read by Neg 'Z'"]


@pytest.mark.parametrize(
    "body", ["m = MatMul (x, W) Y = Tanh (m)", "s = Sigmoid (x) n = Neg (x) Y = Mul (n, s)"]
)
def test_plainly_something_else_is_passed_over_in_silence(missed, gelu, normal, body):
    assert missed(FuseGelu(), gelu(body, W=normal(H, H))) == []


@given(data=strategies.data())
def test_any_order_and_grouping(data, fuse, contrib, write, census):
    half, erf = 0.5, ("Erf", ("*", "X", 1 / math.sqrt(2)))
    body, constants = write(data.draw, ("*", "X", ("+", erf, 1.0), half))
    text = f"g (float[B,4] X) => (float[B,4] Y) {{ {body} }}"
    x = np.linspace(-4, 4, 8, dtype=np.float32).reshape(2, 4)
    after = fuse(FuseGelu(), contrib(text, **constants), X=x)
    found = census(after.model)
    assert (found["Gelu"], found.keys() - {"Gelu", "Identity"}) == (1, set())
