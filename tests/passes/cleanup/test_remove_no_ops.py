"""remove-no-ops: a node that gives back what it reads goes."""

import numpy as np
import pytest
from onnx import TensorProto

from sardonyx.compiler import compile
from sardonyx.passes.cleanup.remove_no_ops import RemoveNoOps

X = np.float32([[[1, -2, 0], [np.inf, np.nan, 5]]])
TEXT = "g (float[B,S,3] X) => (float[B,S,3] Y) {{ a = Abs (X)\n {}\n Y = Neg (b) }}"


def of(*shape, dtype=np.float32):
    """Values of a shape, no two alike."""
    return (np.arange(np.prod(shape)) - 3).reshape(shape).astype(dtype)


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        pytest.param("b = Identity (a)", {}, id="1-identity"),
        pytest.param("b = Dropout (a)", {}, id="2-dropout"),
        pytest.param("b = Dropout (a, r, t)", {"r": 0.5, "t": False}, id="2-dropout-told"),
        pytest.param("b, m = Dropout (a)", {}, id="2-dropout-mask-unread"),
        pytest.param("b = Cast <to = 1> (a)", {}, id="3-cast"),
        pytest.param("b = CastLike (a, X)", {}, id="3-cast-like"),
        pytest.param("b = Reshape (a, t)", {"t": [0, -1, 3]}, id="4-reshape"),
        pytest.param("s = Shape (X)\n b = Reshape (a, s)", {}, id="4-reshape-computed"),
        pytest.param("b = Expand (a, t)", {"t": [1, 3]}, id="4-expand-by-ones"),
        pytest.param("s = Shape (X)\n b = Expand (a, s)", {}, id="4-expand-computed"),
        pytest.param("b = Transpose <perm = [0, 1, 2]> (a)", {}, id="5-transpose"),
        pytest.param("b = Slice (a, i, e)", {"i": [0, 0], "e": [2**31 - 1, 2**63 - 1]}, id="6"),
        pytest.param("b = Slice (a, i, e, x)", {"i": [0], "e": [3], "x": [-1]}, id="6-slice-size"),
        pytest.param(
            "s = Shape <start = 1, end = 2> (X)\n b = Slice (a, i, s, x)",
            {"i": [0], "x": [1]},
            id="6-slice-computed",
        ),
        pytest.param("b = Pad (a, p)", {"p": [0] * 6}, id="6-pad"),
        pytest.param("b = Tile (a, p)", {"p": [1] * 3}, id="6-tile"),
        pytest.param("b = Split <axis = 1> (a)", {}, id="6-split"),
        pytest.param("b = Concat <axis = 1> (a)", {}, id="7-concat"),
        pytest.param("b = Max (a)", {}, id="7-max"),
        pytest.param("b = Mean (a)", {}, id="7-mean"),
        pytest.param("b = Min (a)", {}, id="7-min"),
        pytest.param("b = Sum (a)", {}, id="7-sum"),
        pytest.param("b = Mul (a, o)", {"o": np.float32(1)}, id="8-mul"),
        pytest.param("b = Mul (o, a)", {"o": np.float32([[1]])}, id="8-mul-first"),
        pytest.param("b = Div (a, o)", {"o": np.float32(1)}, id="8-div"),
        pytest.param("b = Add (o, a)", {"o": np.float32([0])}, id="8-add"),
        pytest.param("b = Sub (a, o)", {"o": np.float32(0)}, id="8-sub"),
    ],
)
def test_before_after(cleaned, text_model, nodes, constants):
    constants = {k: np.float32(v) if k == "r" else np.array(v) for k, v in constants.items()}
    model = text_model(TEXT.format(nodes), **constants)
    feeds = [{"X": X}, {"X": of(3, 5, 3)}, {"X": of(1, 1, 3)}, {"X": of(2, 0, 3)}]
    left = cleaned(RemoveNoOps(), model, *feeds, rewrites=1)
    assert [op for op in left if op != "Shape"] == ["Abs", "Neg"]


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        pytest.param("b = Dropout (a, r, t)", {"r": 0.0, "t": True}, id="2-trains"),
        pytest.param("d, m = Dropout (a)\n b = Where (m, d, a)", {}, id="2-mask-is-read"),
        pytest.param("d = Cast <to = 10> (a)\n b = Cast <to = 1> (d)", {}, id="3-other-type"),
        pytest.param("b = Reshape (a, t)", {"t": [-1, 2, 3]}, id="4-other-sizes"),
        pytest.param("b = Reshape (a, t)", {"t": [1, -1, 3]}, id="4-a-batch-of-1-perhaps"),
        pytest.param("b = Expand (a, t)", {"t": [1, 1, 1, 1]}, id="4-more-axes"),
        pytest.param("b = Expand (a, t)", {"t": [2, 1, 1]}, id="4-wider"),
        pytest.param("b = Transpose <perm = [1, 0, 2]> (a)", {}, id="5-moves"),
        pytest.param("b = Slice (a, i, e, x)", {"i": [0], "e": [9], "x": [1]}, id="6-cuts"),
        pytest.param("b = Slice (a, i, e, x)", {"i": [1], "e": [3], "x": [2]}, id="6-starts"),
        pytest.param(
            "b = Slice (a, i, e, x, p)", {"i": [0], "e": [3], "x": [2], "p": [2]}, id="6-steps"
        ),
        pytest.param("b = Pad (a, p)", {"p": [0, 0, 0, 0, 0, 1]}, id="6-pads"),
        pytest.param("b = Tile (a, p)", {"p": [1, 2, 1]}, id="6-tiles"),
        pytest.param("b = Concat <axis = 1> (a, X)", {}, id="7-two"),
        pytest.param("b = Mul (a, o)", {"o": np.float32(2)}, id="8-other-number"),
        pytest.param("b = Mul (a, o)", {"o": np.float32([1, 1, 1])}, id="8-more-elements"),
        pytest.param("b = Div (o, a)", {"o": np.float32(1)}, id="8-one-over"),
        pytest.param("b = Sub (o, a)", {"o": np.float32(0)}, id="8-zero-less"),
        pytest.param("b = Add (a, o)", {"o": np.float32([[[[0]]]])}, id="near-miss-3-more-axes"),
    ],
)
def test_what_changes_something_stays(apply, text_model, nodes, constants):
    constants = {k: np.float32(v) if k == "r" else np.array(v) for k, v in constants.items()}
    assert apply(RemoveNoOps(), text_model(TEXT.format(nodes), **constants)).rewrites == 0


@pytest.mark.parametrize(
    ("op", "truth", "rewrites"),
    [("And", True, 1), ("And", False, 0), ("Or", False, 1), ("Or", True, 0), ("Xor", False, 0)],
)
def test_truths(cleaned, text_model, op, truth, rewrites):
    model = text_model(
        "g (bool[N,3] X) => (bool[N,3] Y) { a = Not (X)\n"
        f"b = {op} (t, a)\n c = {op} (b, X)\n Y = Not (c) }}",
        t=np.array(truth),
    )
    x = np.array([[True, False, True], [False, False, True]])
    left = cleaned(RemoveNoOps(), model, {"X": x}, rewrites=rewrites)
    assert left.count(op) == 2 - rewrites


def test_a_sum_by_0_loses_a_sign_of_0_alone(apply, text_model, run_ort):
    before = text_model(
        "g (float[2] X) => (float[2] Y) { a = Abs (X)\n b = Neg (a)\n"
        "c = Add (b, z)\n Y = Identity (c) }",
        z=np.float32(0),
    )
    after = apply(RemoveNoOps(), before)
    (want,), (have,) = (run_ort(m, {"X": np.float32([0, 1])}) for m in (before, after.model))
    assert np.array_equal(want, have)
    assert not np.signbit(want[0])
    assert np.signbit(have[0])


def test_a_chain_goes_at_once(cleaned, text_model):
    model = text_model(
        """g (float[N,2] X) => (float[N,2] Y) {
             a = Neg (X) b = Identity (a) c = Mul (b, one) d = Cast <to = 1> (c) e = Abs (d)
             f = Identity (e) Y = Identity (f)
           }""",
        one=np.float32(1),
    )
    assert cleaned(RemoveNoOps(), model, {"X": of(3, 2)}, rewrites=5) == ["Neg", "Abs"]


def test_what_makes_x_makes_an_output(apply, text_model, run_ort):
    before = text_model(
        "g (float[2] X) => (float[2] Y) { a = Neg (X)\n b = Abs (a)\n c = Add (a, b)\n"
        "d = Sub (c, b)\n Y = Identity (d) }"
    )
    after = apply(RemoveNoOps(), before)
    assert list(after.model.graph.node[-1].output) == ["Y"]
    assert np.array_equal(*(run_ort(m, {"X": of(2)})[0] for m in (before, after.model)))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        pytest.param("(float[2] Y) { Y = Identity (X) }", ["Identity"], id="from-an-input"),
        pytest.param(
            "(float[2] A, float[2] Y) { A = Neg (X)\n Y = Identity (A) }",
            ["Neg", "Identity"],
            id="from-an-output",
        ),
        pytest.param(
            "(float[2] A, float[2] B) { a = Neg (X)\n A = Identity (a)\n B = Identity (a) }",
            ["Neg", "Identity"],
            id="two-outputs",
        ),
    ],
)
def test_near_miss_1_outputs(cleaned, text_model, text, left):
    assert cleaned(RemoveNoOps(), text_model(f"g (float[2] X) => {text}"), {"X": of(2)}) == left


BODIES = """g (bool c, float[2] X) => (float[2] Y) {{
    a = Neg (X)
    b = Identity (a)
    d = Abs (b)
    r = If (c) <
      then_branch = t () => (float[2] r1) {{ {} }},
      else_branch = e () => (float[2] r2) {{ r2 = Abs (X) }}>
    Y = Add (d, r)
}}"""


@pytest.mark.parametrize(
    ("body", "rewrites", "outside", "inside"),
    [
        pytest.param("r1 = Neg (b)", 1, ["Neg", "Identity", "Abs", "If", "Add"], ["Neg"], id="2"),
        pytest.param(
            "p = Neg (a) q = Identity (p) r1 = Abs (q)",
            2,
            ["Neg", "Abs", "If", "Add"],
            ["Neg", "Abs"],
            id="inside",
        ),
        pytest.param(
            "p = Neg (X) r1 = Identity (p)",
            2,
            ["Neg", "Abs", "If", "Add"],
            ["Neg"],
            id="its-output",
        ),
        pytest.param(
            "r1 = Identity (a)", 1, ["Neg", "Abs", "If", "Add"], ["Identity"], id="1-from-outside"
        ),
    ],
)
def test_bodies(apply, text_model, run_ort, body, rewrites, outside, inside):
    before = text_model(BODIES.format(body))
    after = apply(RemoveNoOps(), before)
    assert (after.rewrites, after.again) == (rewrites, 0)
    assert after.ops == outside
    held = after.model.graph.node[outside.index("If")].attribute
    then = next(attribute.g for attribute in held if attribute.name == "then_branch")
    assert [node.op_type for node in then.node] == inside
    for c in (True, False):
        feeds = {"c": np.array(c), "X": of(2)}
        assert np.array_equal(run_ort(before, feeds), run_ort(after.model, feeds))


def test_near_miss_2_a_body_reads_what_would_be_renamed(apply, text_model):
    before = text_model(
        """g (bool c, float[2] X) => (float[2] Y, float[2] Z) {
             a = Neg (X)
             Y = Identity (a)
             Z = If (c) <then_branch = t () => (float[2] r1) { r1 = Abs (a) },
                         else_branch = e () => (float[2] r2) { r2 = Neg (X) }>
           }"""
    )
    assert apply(RemoveNoOps(), before).rewrites == 0


def test_near_miss_3_nothing_is_known(apply, text_model):
    """Of what an op makes that nobody knows, neither sizes nor type."""
    before = text_model(
        """g (float[N] X) => (float[?] Y) {
             u = com.microsoft.Unheard (X)
             s = Shape (u)
             a = Cast <to = 1> (u)
             b = Add (a, z)
             c = Slice (b, i, e)
             Y = Transpose (c)
           }""",
        z=np.float32([[0]]),
        i=np.array([0]),
        e=np.array([9]),
    )
    before.opset_import.add(domain="com.microsoft", version=1)
    assert apply(RemoveNoOps(), before).rewrites == 0


def test_an_output_keeps_what_is_known_of_its_sizes(text_model):
    """No rule of ours follows Pad: the sizes of Y are those that shape inference found for p."""
    text = """
    g (float[B,1,S] X) => (float[?,?,?] Y, int64 Z, int64[?] t) {
      p = Pad (X, ones)
      s = Shape (p)
      b = Gather (s, first)
      r = Shape (p)
      n = Gather (r, end)
      m = Unsqueeze (n, first)
      t = Concat <axis = 0> (b, two, m)
      Y = Reshape (p, t)
      Z = Gather (t, last)
    }"""
    model = text_model(
        text,
        opset=13,
        ones=np.array([0, 1, 0, 0, 0, 0]),
        first=np.array([0]),
        end=np.array(2),
        two=np.array([2]),
        last=np.array(-1),
    )
    cleaned = compile(model, "cleanup").model
    assert {n.input[0] for n in cleaned.graph.node if n.op_type == "Shape"} == {"X"}


def test_near_miss_4_a_constant(apply, text_model):
    before = text_model(
        "g (float[N,2] X) => (float[N,2] Y) { w = Identity (W)\n Y = MatMul (X, w) }", W=of(2, 2)
    )
    assert apply(RemoveNoOps(), before).rewrites == 0


def test_sizes_of_one_name_are_one_size_and_of_two_are_not(cleaned, text_model):
    text = (
        "g (float[A,6] X, float[{},6] W) => (float[?,6] Y) {{ s = Shape (W)\n a = Neg (X)\n"
        "b = Reshape (a, s)\n Y = Abs (b) }}"
    )
    feeds = {"X": of(3, 6), "W": of(3, 6)}
    same, other = (text_model(text.format(name)) for name in "AB")
    assert cleaned(RemoveNoOps(), same, feeds) == ["Shape", "Neg", "Abs"]
    assert cleaned(RemoveNoOps(), other, feeds) == ["Shape", "Neg", "Reshape", "Abs"]


@pytest.mark.parametrize("opset", [11, 12])
def test_attributes_of_older_operator_sets(cleaned, text_model, opset):
    model = text_model(
        "g (float[2,3] X) => (float[2,3] Y) { a = Neg (X)\n b, m = Dropout (a)\n"
        "c = Split <axis = 0, split = [2]> (b)\n d = Pad (c, p)\n Y = Abs (d) }",
        opset=opset,
        p=np.zeros(4, np.int64),
    )
    assert cleaned(RemoveNoOps(), model, {"X": of(2, 3)}, rewrites=3) == ["Neg", "Abs"]


@pytest.mark.parametrize("opset", [18, 21])
def test_attributes_of_newer_operator_sets(cleaned, text_model, opset):
    model = text_model(
        "g (float[2,3] X) => (float[2,3] Y) { a = Neg (X)\n b = Split <num_outputs = 1> (a)\n"
        "c = Pad (b, p, , x)\n Y = Abs (c) }",
        opset=opset,
        p=np.zeros(2, np.int64),
        x=np.array([1]),
    )
    assert cleaned(RemoveNoOps(), model, {"X": of(2, 3)}, rewrites=2) == ["Neg", "Abs"]


def test_types_that_numpy_lacks(apply, text_model):
    before = text_model(
        "g (bfloat16[2] X) => (bfloat16[2] Y) { a = Neg (X)\n b = Cast <to = 16> (a)\nY = Neg (b) }"
    )
    after = apply(RemoveNoOps(), before)
    assert after.rewrites == 1
    assert after.model.graph.output[0].type.tensor_type.elem_type == TensorProto.BFLOAT16
