"""fuse-linear-bias: the sum of a product and a bias as one op, bit for bit."""

import re

import numpy as np
import pytest
from onnx import numpy_helper

from sardonyx.passes.fuse.linear_bias import FuseLinearBias
from sardonyx.passes.gobo.encode import Gobo
from sardonyx.passes.metadata import PREFIX

PASS = FuseLinearBias()
SMALL = Gobo(bits=2, min_weights=1, outliers="share", threshold=0)
"""What makes even one column smaller, if it is of double numbers."""

K, N = 64, 96
INPUTS, OUTPUTS = f"float[B,S,{K}] X", f"float[B,S,{N}] Y"


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal((2, 3, K)).astype(np.float32)


@pytest.fixture
def gobo(apply, text_model, normal):
    """A model from text whose weight W [64, 96] is encoded; ``b``: a bias that it may name."""

    def make(body, inputs=INPUTS, outputs=OUTPUTS, opset=17, a_pass=None, **held):
        known = {"W": normal(K, N), "b": normal(N, seed=1)} | held
        read = {n: v for n, v in known.items() if re.search(rf"[(, ]{n}[,)]", body)}
        model = text_model(f"g ({inputs}) => ({outputs}) {{ {body} }}", opset, **read)
        return apply(a_pass or Gobo(min_weights=1), model).model

    return make


@pytest.fixture
def fused(fuse):
    """The one GoboLinear that the pass makes of a model, and the model; outputs bit for bit."""

    def check(model, **feeds):
        after = fuse(PASS, model, **feeds)
        assert (after.rewrites, after.journal.missed) == (1, [])
        (node,) = (n for n in after.model.graph.node if n.op_type.startswith("GoboLinear"))
        assert [(f.op, f.node) for f in after.journal.fused] == [(node.op_type, node.name)]
        return node, after.model

    return check


def constant(model, name):
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def notes_of(node):
    return {prop.key.removeprefix(PREFIX): prop.value for prop in node.metadata_props}


@pytest.mark.parametrize("opset", [13, 17, 23])
@pytest.mark.parametrize("operands", ["p, b", "b, p"])
def test_text(gobo, fused, nodes_of, x, opset, operands):
    model = gobo(f"[mm] p = MatMul (X, W) [plus] Y = Add ({operands})", opset=opset)
    node, after = fused(model, X=x)
    weight = [f"W.{part}" for part in ("indices", "centroids", "positions", "values")]
    shape = {"shape": [K, N]}
    assert nodes_of(after) == [("sardonyx.GoboLinear3", ["X", *weight, "b"], ["Y"], shape)]
    assert [function.name for function in after.functions] == ["GoboLinear3"]
    assert node.name == "mm"
    assert notes_of(node) == notes_of(model.graph.node[0]) | {"bias": "b"}
    assert node.doc_string == model.graph.node[0].doc_string


def test_the_sizes_of_what_it_makes_are_written(gobo, fused, x):
    """No shape inference knows what our ops make."""
    model = gobo("p = MatMul (X, W) s = Add (p, b) Y = Relu (s)")
    _, after = fused(model, X=x)
    (info,) = (info for info in after.graph.value_info if info.name == "s")
    dims = [dim.dim_param or dim.dim_value for dim in info.type.tensor_type.shape.dim]
    assert (info.type.tensor_type.elem_type, dims) == (1, ["B", "S", N])
    assert "p" not in {info.name for info in after.graph.value_info}


def test_compute_stays(gobo, fused, nodes_of, x):
    model = gobo("p = MatMul (X, W) Y = Add (p, b)", a_pass=Gobo(compute="int8"))
    _, after = fused(model, X=x)
    assert nodes_of(after)[0][3] == {"shape": [K, N], "compute": b"int8"}


def test_what_a_gemm_became(gobo, fused, x):
    inputs, outputs = f"float[M,{K}] X", f"float[M,{N}] Y"
    node, after = fused(gobo("[g] Y = Gemm (X, W, b)", inputs, outputs), X=x[0])
    assert (node.name, len(after.graph.node)) == ("g", 1)


@pytest.mark.parametrize("shape", [(1, N), (1, 1, N)])
def test_a_bias_with_more_axes(gobo, fused, normal, x, shape):
    model = gobo("p = MatMul (X, W) Y = Add (p, c)", c=normal(*shape, seed=1))
    node, after = fused(model, X=x)
    held = constant(after, node.input[5])
    assert held.shape == (N,)
    np.testing.assert_array_equal(held, constant(model, "c").reshape(-1))


@pytest.mark.parametrize("dtype", ["float16", "double"])
def test_other_types(gobo, fused, normal, x, dtype):
    kind = np.dtype(dtype).type
    inputs, outputs = (text.replace("float", dtype) for text in (INPUTS, OUTPUTS))
    held = {"W": normal(K, N, dtype=kind), "b": normal(N, dtype=kind, seed=1)}
    fused(gobo("p = MatMul (X, W) Y = Add (p, b)", inputs, outputs, **held), X=x.astype(kind))


def test_a_product_of_a_vector(gobo, fused, x):
    model = gobo("p = MatMul (X, W) Y = Add (p, b)", f"float[{K}] X", f"float[{N}] Y")
    fused(model, X=x[0, 0])


def test_one_column(gobo, fused, normal, x):
    held = {"W": normal(K, 1, dtype=np.float64), "b": normal(1, dtype=np.float64)}
    ends = f"double[B,S,{K}] X", "double[B,S,1] Y"
    model = gobo("p = MatMul (X, W) Y = Add (p, b)", *ends, a_pass=SMALL, **held)
    fused(model, X=x.astype(np.float64))


@pytest.mark.parametrize("shared", [True, False])
def test_two_products_by_one_weight(gobo, fuse, nodes_of, x, shared):
    other = "b" if shared else "c"
    model = gobo(
        f"p = MatMul (X, W) Y = Add (p, b) q = MatMul (X, W) Z = Add (q, {other})",
        outputs=f"{OUTPUTS}, float[B,S,{N}] Z",
        c=np.ones(N, np.float32),
    )
    after = fuse(PASS, model, X=x)
    assert after.rewrites == 2
    one, two = (inputs for _, inputs, _, _ in nodes_of(after.model))
    assert one[:5] == two[:5]
    assert [one[5], two[5]] == ["b", other]


BRANCH = "{0} () => (float[B,S,96] {0}Y) {{ {0}p = MatMul (X, W) {0}Y = Add ({0}p, b) }}"


@pytest.mark.parametrize("chosen", [True, False])
def test_in_two_branches(gobo, fuse, x, chosen):
    model = gobo(
        f"Y = If (c) <then_branch = {BRANCH.format('t')}, else_branch = {BRANCH.format('e')}>",
        f"{INPUTS}, bool c",
    )
    after = fuse(PASS, model, X=x, c=np.array(chosen))
    assert after.rewrites == 2
    for attribute in after.model.graph.node[0].attribute:
        assert [node.op_type for node in attribute.g.node] == ["GoboLinear3"]


MISSES = {
    "1 another reader": (
        "[mm] p = MatMul (X, W) s = Add (p, b) Y = Mul (s, p)", {}, "mm: 'p' is read 2 times",
    ),
    "1 a reader in a body": (
        """[mm] p = MatMul (X, W) s = Add (p, b)
           Y = If (c) <then_branch = t () => (float[B,S,96] T) { T = Mul (s, p) },
                       else_branch = e () => (float[B,S,96] E) { E = Identity (s) }>""",
        {"inputs": f"{INPUTS}, bool c"},
        "mm: 'p' is read 2 times",
    ),
    "1 an output": (
        "[mm] p = MatMul (X, W) Y = Add (p, b)",
        {"outputs": f"{OUTPUTS}, float[B,S,{N}] p"},
        "mm: 'p' is an output",
    ),
    "2 a matrix": (
        "[mm] p = MatMul (X, W) Y = Add (p, c)",
        {"c": np.ones((3, N), np.float32)},
        "mm: 'c' [3, 96] is no vector of 96 elements",
    ),
    "2 one element": (
        "[mm] p = MatMul (X, W) Y = Add (p, c)",
        {"c": np.ones(1, np.float32)},
        "mm: 'c' [1] is no vector of 96 elements",
    ),
    "2 a column": (
        "[mm] p = MatMul (X, W) Y = Add (p, c)",
        {"c": np.ones((3, 1), np.float32)},
        "mm: 'c' [3, 1] is no vector of 96 elements",
    ),
    "2 a wider sum": (
        "[mm] p = MatMul (X, W) Y = Add (p, b)",
        {
            "W": np.resize([0.25, 1, 2], (K, 1)),
            "b": np.ones(N),
            "inputs": f"double[B,S,{K}] X",
            "outputs": f"double[B,S,{N}] Y",
            "a_pass": SMALL,
        },
        "mm: 'b' [96] is no vector of 1 elements",
    ),
    "2 more axes than the product": (
        "[mm] p = MatMul (X, W) Y = Add (p, c)",
        {"c": np.ones((1, 1, 1, N), np.float32), "outputs": f"float[1,B,S,{N}] Y"},
        "mm: 'c' [1, 1, 1, 96] may have more axes than the product",
    ),
    "2 a product of a rank that is not known": (
        "r = Reshape (X, shape) [mm] p = MatMul (r, W) Y = Add (p, c)",
        {
            "c": np.ones((1, N), np.float32),
            "inputs": "float[M] X, int64[R] shape",
            "outputs": "float Y",
        },
        "mm: 'c' [1, 96] may have more axes than the product",
    ),
    "3 a sum in a body": (
        """[mm] p = MatMul (X, W)
           Y = If (c) <then_branch = t () => (float[B,S,96] T) { T = Add (p, b) },
                       else_branch = e () => (float[B,S,96] E) { E = Neg (X2) }>""",
        {"inputs": f"{INPUTS}, float[B,S,{N}] X2, bool c"},
        "mm: the bias 'b' is added in a graph inside the product's",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISSES)
def test_near_misses(gobo, missed, case):
    body, given, reason = MISSES[case]
    assert missed(PASS, gobo(body, **given)) == [reason]


OTHERS = {
    "2 no constant": ("p = MatMul (X, W) Y = Add (p, Z)", f"{INPUTS}, float[{N}] Z"),
    "2 a number": ("p = MatMul (X, W) Y = Add (p, one)", INPUTS),
    "a difference": ("p = MatMul (X, W) Y = Sub (p, b)", INPUTS),
    "no product": ("Y = Add (X, one)", f"float[B,S,{N}] X"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_does_not_look_like_it(gobo, missed, case):
    body, inputs = OTHERS[case]
    assert missed(PASS, gobo(body, inputs, one=np.float32(1))) == []


def test_a_bias_that_a_user_may_override(gobo, missed):
    model = gobo("p = MatMul (X, W) Y = Add (p, b)", f"{INPUTS}, float[{N}] b")
    assert missed(PASS, model) == []


def test_the_op_is_a_barrier_with_a_weight_and_a_bias(gobo, apply, x):
    """A second compile sees an encoded weight and a vector."""
    model = apply(PASS, gobo("p = MatMul (X, W) Y = Add (p, b)")).model
    again = apply(Gobo(min_weights=1), model)
    assert again.rewrites == 0
    assert again.reasons["b"] == "a vector (bias or normalisation parameter), not a weight matrix"
    assert again.reasons["W.values"].startswith("already quantized: belongs to the codes")
