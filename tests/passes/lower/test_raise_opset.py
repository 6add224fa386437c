"""raise-opset: the same graph in a newer operator set; what stays in its own, and why."""

import re

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.compiler import compile
from sardonyx.passes.lower.raise_opset import RaiseOpset

PASS = RaiseOpset()
OLD = [13, 14, 15, 16, 17, 18, 19, 20, 21, 22]
REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare"]


def opset_of(model):
    return next(o.version for o in model.opset_import if o.domain == "")


def nodes_of(model):
    return [
        (
            n.op_type,
            list(n.input),
            {a.name: onnx.helper.get_attribute_value(a) for a in n.attribute},
        )
        for n in model.graph.node
    ]


def held(model, name):
    return next(
        onnx.numpy_helper.to_array(t).tolist() for t in model.graph.initializer if t.name == name
    )


@pytest.fixture(scope="module")
def raised(apply, run_ort):
    """A model in opset 23, its outputs bit for bit those of the model given."""

    def check(model, feeds, a_pass=PASS):
        after = apply(a_pass, model)
        assert after.rewrites > 0
        assert (after.again, after.journal.missed) == (0, [])
        assert opset_of(after.model) == a_pass.to
        assert after.model.ir_version == model.ir_version
        wanted, had = run_ort(model, feeds), run_ort(after.model, feeds)
        for want, have in zip(wanted, had, strict=True):
            np.testing.assert_array_equal(want, have, strict=True)
        return after

    return check


@pytest.fixture(scope="module")
def why(apply):
    """Why a model stays in its opset."""

    def check(model, a_pass=PASS):
        after = apply(a_pass, model)
        assert after.rewrites == 0
        assert opset_of(after.model) == opset_of(model)
        (miss,) = after.journal.missed
        assert miss.by == "raise-opset"
        return f"{miss.node}: {miss.reason}"

    return check


@pytest.fixture(scope="module")
def x():
    return np.abs(np.random.default_rng(0).standard_normal((2, 3, 4))).astype(np.float32) + 1


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("kind", REDUCTIONS)
def test_axes_become_an_input(raised, text_model, x, kind, opset):
    model = text_model(
        f"""g (float[A,B,4] X) => (float[A,B,1] Y, float[A,B] Z, float[1,1,1] U) {{
          [mean] Y = Reduce{kind} <axes = [-1]> (X)
          Z = Reduce{kind} <axes = [2], keepdims = 0> (X)
          U = Reduce{kind} (X)
        }}""",
        opset,
    )
    after = raised(model, {"X": x})
    assert after.rewrites == 3
    assert nodes_of(after.model) == [
        (f"Reduce{kind}", ["X", "mean/axes"], {}),
        (f"Reduce{kind}", ["X", "Z/axes"], {"keepdims": 0}),
        (f"Reduce{kind}", ["X"], {}),
    ]
    assert held(after.model, "mean/axes") == [-1]


@pytest.mark.parametrize("opset", [18, 22])
def test_axes_that_are_an_input_stay(raised, text_model, x, opset):
    model = text_model(
        "g (float[A,B,4] X) => (float[A,B,1] Y) { Y = ReduceMean (X, axes) }",
        opset,
        axes=np.array([-1]),
    )
    after = raised(model, {"X": x})
    assert after.rewrites == 1
    assert nodes_of(after.model) == nodes_of(model)


def test_axes_that_name_none(raised, text_model, x):
    model = text_model("g (float[A,B,4] X) => (float[1,1,1] Y) { Y = ReduceMean (X) }")
    model.graph.node[0].attribute.append(
        onnx.helper.make_attribute("axes", [], attr_type=onnx.AttributeProto.INTS)
    )
    raised(model, {"X": x})


@pytest.mark.parametrize("opset", [13, 17])
def test_splits_count_their_parts(raised, text_model, x, opset):
    model = text_model(
        """g (float[2,3,4] X) => (float[2,3,2] P, float[2,3,2] Q, float[2,1,4] R, float[2,2,4] S,
                                  float[1,3,4] T, float[1,3,4] U) {
          P, Q = Split <axis = 2> (X)
          R, S = Split <axis = 1> (X, sizes)
          T, U = Split <axis = 0> (X, )
        }""",
        opset,
        sizes=np.array([1, 2]),
    )
    after = raised(model, {"X": x})
    assert [attrs.get("num_outputs") for _, _, attrs in nodes_of(after.model)] == [2, None, 2]


def test_inside_bodies_where_names_repeat(raised, text_model, x):
    """Both branches name their nodes and values alike; the axes differ."""
    branch = """(float[A,B,C] {out}) {{
      [mean] m = ReduceMean <axes = [{axis}], keepdims = 1> (X)
      {out} = Sub (X, m)
    }}"""
    model = text_model(
        f"""g (float[A,B,4] X, bool c) => (float[A,B,C] Y) {{
          [mean] t = ReduceMax <axes = [0]> (X)
          Z = If (c) <then_branch = t () => {branch.format(out="P", axis=2)},
                      else_branch = e () => {branch.format(out="Q", axis=1)}>
          Y = Add (Z, t)
        }}"""
    )
    for chosen in (True, False):
        after = raised(model, {"X": x, "c": np.array(chosen)})
    assert after.rewrites == 4
    assert {t.name for t in after.model.graph.initializer} == {
        "mean/axes",
        "mean/axes_",
        "mean/axes__",
    }


def test_a_name_that_is_taken(raised, text_model, x):
    model = text_model(
        """g (float[A,B,4] X) => (float[A,B,4] Y) {
          [a] m = ReduceMean <axes = [-1]> (X)
          Y = Add (m, taken)
        }""",
        taken=np.ones(4, np.float32),
    )
    model.graph.initializer[0].name = model.graph.node[1].input[1] = "a/axes"
    after = raised(model, {"X": x})
    assert nodes_of(after.model)[0][1] == ["X", "a/axes_"]


MOVED = {
    "a mask": """M = Cast <to = 1> (I) N = Sub (one, M) L = Mul (N, low) U = Unsqueeze (L, axis)
                 V = Unsqueeze (I, axis) K = Cast <to = 9> (V) W = Where (K, U, one)
                 O = Add (W, X) Y = Identity (O)""",
    "positions": """S = Shape (I) B = Gather (S, first) R = Range (first0, B, stride)
                    E = Equal (R, first0) F = Cast <to = 1> (E) C = CumSum (I, last)
                    D = Cast <to = 1> (C) G = ReduceSum (F) H = Add (D, G)
                    P = Unsqueeze (H, axis) Y = Add (X, P)""",
    "a norm": """M = ReduceMean <axes = [-1]> (X) D = Sub (X, M) Q = Pow (D, two)
                 V = ReduceMean <axes = [-1]> (Q) E = Add (V, eps) R = Sqrt (E) Y = Div (D, R)""",
    "waves": "S = Sin (X) C = Cos (X) P = Softplus (S) R = Round (C) Y = Add (P, R)",
    "activations": """A = Relu (X) B = LeakyRelu (A) C = HardSigmoid (B) D = Elu (C) E = Selu (D)
                      Y = Softsign (E)""",
    "weights": """D = DequantizeLinear <axis = 1> (eight, scales, zeros)
                  E = DequantizeLinear (eight, step) F = Add (D, E) Y = MatMul (X, F)""",
    "a pad": "P = Pad (X, pads) S = Slice (P, s0, s1, axis1) Y = Identity (S)",
    "shapes": """S = Shape (X) R = Reshape (X, S) T = Transpose <perm = [0, 2, 1]> (R)
                 F = Flatten (T) N = IsNaN (F) Z = Cast <to = 1> (N) G = Add (F, Z)
                 H = Reshape (G, turned) Y = Transpose <perm = [0, 2, 1]> (H)""",
}
CONSTANTS = {
    "one": np.float32(1),
    "low": np.float32(-1e4),
    "two": np.float32(2),
    "eps": np.float32(1e-5),
    "axis": np.array([2]),
    "minus": np.array([-1]),
    "axis1": np.array([1]),
    "first": np.array(1),
    "first0": np.array(0),
    "stride": np.array(1),
    "last": np.array(1),
    "pads": np.array([0, 1, 0, 0, 1, 0]),
    "s0": np.array([1]),
    "s1": np.array([4]),
    "eight": np.arange(16, dtype=np.uint8).reshape(4, 4),
    "scales": np.array([1, 2, 3, 4], np.float32),
    "zeros": np.array([1, 2, 3, 4], np.uint8),
    "step": np.float32(0.3),
    "turned": np.array([2, 4, 3]),
}


@pytest.mark.parametrize("opset", OLD)
@pytest.mark.parametrize("part", MOVED)
def test_parts_of_transformers(raised, text_model, x, part, opset):
    body = MOVED[part]
    if opset > 17:
        body = re.sub(r"<axes = \[-1\]> \((\w)\)", r"(\1, minus)", body)
    held = {name: value for name, value in CONSTANTS.items() if name in body}
    ids = ", int64[2,3] I" if "(I" in body else ""
    model = text_model(f"g (float[2,3,4] X{ids}) => (float[2,3,4] Y) {{ {body} }}", opset, **held)
    feeds = {"X": x} | ({"I": np.array([[1, 1, 0], [1, 0, 0]])} if ids else {})
    raised(model, feeds)


@given(
    opset=st.sampled_from(OLD[:5]),
    to=st.integers(14, 23),
    axes=st.lists(st.integers(-3, 2), min_size=1, max_size=3, unique_by=lambda a: a % 3),
    keep=st.booleans(),
)
def test_any_axes_and_any_opset(raised, text_model, x, opset, to, axes, keep):
    model = text_model(
        f"""g (float[A,B,C] X) => (float Y) {{
          M = ReduceMean <axes = {axes}, keepdims = {int(keep)}> (X)
          P, Q = Split <axis = 2> (X)
          S = ReduceMax <keepdims = 0> (P)
          T = ReduceMin <keepdims = 0> (M)
          Y = Add (S, T)
        }}""",
        opset,
    )
    if to > opset:
        raised(model, {"X": x}, RaiseOpset(to=to))


def test_loops_and_scans(raised, text_model, x):
    model = text_model(
        """g (float[2,3,4] X) => (float[3,4] Y, float[2,3,4] Z, float[3,4] V) {
          Y, Z = Scan <num_scan_inputs = 1, body = s (float[3,4] a, float[3,4] b)
                       => (float[3,4] c, float[3,4] d) { c = Add (a, b) d = Relu (c) }> (zero, X)
          V = Loop (trips, go, zero) <body = l (int64 i, bool k, float[3,4] p)
                       => (bool n, float[3,4] q) {
                n = Identity (k)
                m = ReduceMean <axes = [1]> (p)
                r = Add (m, one)
                q = Sub (r, p)
          }>
        }""",
        13,
        zero=np.zeros((3, 4), np.float32),
        one=np.float32(1),
        trips=np.array(3),
        go=np.array(True),
    )
    assert raised(model, {"X": x}).rewrites == 2


CHANGED = {
    "Resize": "Y = Resize (X, , scales)",
    "AveragePool": "Y = AveragePool <kernel_shape = [1], strides = [1]> (X)",
    "BatchNormalization": "Y = BatchNormalization (X, ones, ones, ones, ones)",
    "QuantizeLinear": "Q = QuantizeLinear (X, one) Y = DequantizeLinear (Q, one)",
    "RandomUniformLike": "Y = RandomUniformLike (X)",
}


@pytest.mark.parametrize("op", CHANGED)
def test_near_miss_2_another_meaning(why, text_model, op):
    held = {"scales": np.ones(3, np.float32), "one": np.float32(1), "ones": np.ones(3, np.float32)}
    held = {name: value for name, value in held.items() if f" {name}" in CHANGED[op]}
    body = f"R = Relu (X) {CHANGED[op].replace('(X', '(R')}"
    text = f"g (float[2,3,4] X) => (float[2,3,4] Y) {{ {body} }}"
    name = "Q" if "Q =" in body else "Y"
    assert why(text_model(text, 13, **held)) == f"{name}: {op} changed between opset 13 and 23"


def test_near_miss_2_inside_a_body(why, text_model):
    model = text_model(
        """g (float[1,1,4,4] X, bool c) => (float[1,1,B,B] Y) {
          Y = If (c) <
            then_branch = t () => (float[1,1,B,B] P) { [odd] P = GridSample (X, grid) },
            else_branch = e () => (float[1,1,B,B] Q) { Q = Relu (X) }>
        }""",
        16,
        grid=np.zeros((1, 4, 4, 2), np.float32),
    )
    assert why(model) == "odd: GridSample changed between opset 16 and 23"


def test_near_miss_2_an_op_of_onnxruntime_in_the_standard_domain(why, text_model):
    """onnxruntime had a LayerNormalization there before the standard had one."""
    held = {"one": np.ones(4, np.float32)}
    text = "g (float[2,3,4] X) => (float[2,3,4] Y) { Y = LayerNormalization (X, one) }"
    assert why(text_model(text, 16, **held)).startswith("Y: LayerNormalization changed")


@pytest.mark.parametrize("opset", [9, 12])
def test_near_miss_1_older_than_13(why, text_model, opset):
    text = "g (float[A] X) => (float[A] Y) { Y = Relu (X) }"
    assert why(text_model(text, opset)) == f"g: opset {opset} is older than 13"


@pytest.mark.parametrize("opset", [23, 24, 25, 26])
def test_near_miss_1_newer_already(apply, text_model, opset):
    model = text_model("g (float[A] X) => (float[A] Y) { Y = Relu (X) }", opset)
    after = apply(PASS, model)
    assert (after.rewrites, after.journal.missed, after.model) == (0, [], model)


def test_to_0_leaves_all(apply, text_model):
    model = text_model("g (float[A] X) => (float[A] Y) { Y = ReduceMean <axes = [0]> (X) }")
    after = apply(RaiseOpset(to=0), model)
    assert (after.rewrites, after.journal.missed, after.model) == (0, [], model)


def test_no_standard_ops(apply):
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["com.microsoft": 1]>
           g (float[A] X) => (float[A] Y) { Y = com.microsoft.Gelu (X) }"""
    )
    after = apply(PASS, model)
    assert (after.rewrites, after.journal.missed, after.model) == (0, [], model)


@pytest.mark.parametrize("ir_version", [8, 9, 10])
def test_the_ir_version_stays(raised, text_model, x, ir_version):
    text = "g (float[A,B,C] X) => (float[A,B,C] Y) { Y = Relu (X) }"
    raised(text_model(text, 17, ir_version), {"X": x})


FUNCTIONS = """<ir_version: 8, opset_import: ["": 17, "my": 1]>
g (float[A,B,4] X) => (float[A,B,1] Y) {{ {body} }}
<domain: "my", opset_import: ["": 17]> Mean (a) => (b) {{ b = ReduceMean <axes = [-1]> (a) }}
<domain: "my", opset_import: ["": 17, "my": 1]>
Twice (a) => (b) {{ c = my.Mean (a) b = Add (c, c) }}
"""


@pytest.mark.parametrize("body", ["Y = my.Twice (X)", "Y = ReduceMax <axes = [-1]> (X)"])
def test_functions_of_the_model_follow(run_ort, x, body):
    """In the opset of the model onnxruntime would read, and the checker refuse, them otherwise."""
    model = onnx.parser.parse_model(FUNCTIONS.format(body=body))
    done = compile(model, "float", target="cpu", verify="full")
    assert (opset_of(done.model), list(done.model.functions)) == (23, [])
    (want,), (have,) = (run_ort(m, {"X": x}) for m in (model, done.model))
    np.testing.assert_array_equal(want, have)
    assert len(compile(model, "float").model.functions) == 2
