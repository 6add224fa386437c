"""fuse-projection-bias: the biases of queries, keys and values in the op itself, bit for bit."""

import re

import numpy as np
import pytest
from onnx import numpy_helper
from onnx.helper import make_opsetid

from sardonyx.compiler import compile
from sardonyx.models.real_models import exported_models
from sardonyx.passes.fuse.projection_bias import FuseProjectionBias

PASS = FuseProjectionBias()
INPUTS = "float[B,S,8] X"
Q, K, V = "q = Add (X, bq)", "k = Add (X, bk)", "v = Add (X, bv)"
MHA = "Y = com.microsoft.MultiHeadAttention <num_heads = 2>"


@pytest.fixture(scope="module")
def biases(normal):
    return {name: 20 * normal(8, seed=i) for i, name in enumerate(("bq", "bk", "bv"), 1)}


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)


@pytest.fixture
def model_of(contrib, biases):
    def make(*lines, inputs=INPUTS, outputs="float[B,S,8] Y", opset=17, **more):
        text = "\n".join(lines)
        held = {name: values for name, values in biases.items() if re.search(rf"\b{name}\b", text)}
        return contrib(f"g ({inputs}) => ({outputs}) {{ {text} }}", opset, **held, **more)

    return make


@pytest.fixture
def moved(apply, run_ort):
    """The bias that an attention has after the pass; its outputs bit for bit the same."""

    def check(model, feeds):
        after = apply(PASS, model)
        assert (after.rewrites, after.again) == (1, 0)
        for want, have in zip(run_ort(model, feeds), run_ort(after.model, feeds), strict=True):
            np.testing.assert_array_equal(want, have, strict=True)
        (node,) = (n for n in after.model.graph.node if n.op_type == "MultiHeadAttention")
        return node, after.model

    return check


def held(model, name):
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


@pytest.mark.parametrize("opset", [13, 23])
def test_text(moved, model_of, biases, x, opset):
    lines = Q, K.replace("X, bk", "bk, X"), f"i = Identity (X) {V.replace('X', 'i')}"
    model = model_of(*lines, f"[att] {MHA} (q, k, v)", opset=opset)
    node, after = moved(model, {"X": x})
    assert (node.name, list(node.input)) == ("att", ["X", "X", "i", "att/Bias"])
    np.testing.assert_array_equal(held(after, "att/Bias"), np.concatenate([*biases.values()]))
    assert node.metadata_props[0].value == "fuse-projection-bias"


@pytest.mark.parametrize("given", ["q", "k", "v", "qk", "qv", "kv"])
def test_missing_ones_are_0(moved, model_of, biases, x, given):
    lines = [line for name, line in zip("qkv", (Q, K, V), strict=True) if name in given]
    operands = ", ".join(name if name in given else "X" for name in "qkv")
    node, after = moved(model_of(*lines, f"{MHA} ({operands})"), {"X": x})
    parts = [biases[f"b{name}"] if name in given else np.zeros(8) for name in "qkv"]
    np.testing.assert_array_equal(held(after, node.input[3]), np.concatenate(parts))


def test_values_of_another_width(moved, contrib, biases, normal, x):
    model = contrib(
        f"""g ({INPUTS}, float[B,S,4] Z) => (float[B,S,4] Y) {{
          {Q} w = Add (Z, c) {MHA} (q, X, w) }}""",
        bq=biases["bq"],
        c=normal(4),
    )
    node, after = moved(model, {"X": x, "Z": x[..., :4]})
    assert held(after, node.input[3]).shape == (20,)


def test_keys_of_another_sequence(moved, model_of, x):
    inputs = f"{INPUTS}, float[B,T,8] Z"
    model = model_of(Q, K.replace("X", "Z"), V.replace("X", "Z"), f"{MHA} (q, k, v)", inputs=inputs)
    moved(model, {"X": x, "Z": np.concatenate([x, x], 1)})


@pytest.mark.parametrize("rest", ["m, a", ", a", "m"])
def test_what_follows_stays(moved, model_of, x, rest):
    inputs = f"{INPUTS}, int32[B,S] m, float[1,1,S,S] a"
    model = model_of(Q, K, V, f"{MHA} (q, k, v, , {rest})", inputs=inputs)
    mask = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
    bias = np.random.default_rng(1).standard_normal((1, 1, 3, 3)).astype(np.float32)
    node, _ = moved(model, {"X": x, "m": mask, "a": bias})
    assert list(node.input)[4:] == [name.strip() for name in rest.split(",")]


def test_unidirectional_with_a_past(moved, model_of, x):
    """The op returns the new keys, bias included."""
    past = "float[B,2,P,4]"
    model = model_of(
        Q, K, V,
        "Y, PK, PV = com.microsoft.MultiHeadAttention <num_heads = 2, unidirectional = 1>"
        " (q, k, v, , , , J, L)",
        inputs=f"{INPUTS}, {past} J, {past} L",
        outputs="float[B,S,8] Y, float[B,2,T,4] PK, float[B,2,T,4] PV",
    )  # fmt: skip
    held = np.random.default_rng(1).standard_normal((2, 2, 5, 4)).astype(np.float32)
    moved(model, {"X": x, "J": held, "L": held + 1})


def test_a_sum_that_others_read_stays(moved, model_of, x):
    model = model_of(Q, f"A = {MHA.removeprefix('Y = ')} (q, X, X)", "Y = Add (A, q)")
    _, after = moved(model, {"X": x})
    assert [node.op_type for node in after.graph.node] == ["Add", "MultiHeadAttention", "Add"]


def test_attentions_without_names(apply, model_of, run_ort, x):
    lines = [
        f"q{i} = Add ({value}, b{name}) Y{i} = {MHA.removeprefix('Y = ')} (q{i}, {value}, {value})"
        for i, (name, value) in enumerate(zip("qkv", ("X", "Y0", "Y1"), strict=True))
    ]
    model = model_of(*lines, outputs="float[B,S,8] Y2")
    after = apply(PASS, model)
    assert (after.rewrites, after.again) == (3, 0)
    feeds = {"X": x}
    np.testing.assert_array_equal(run_ort(model, feeds), run_ort(after.model, feeds))


@pytest.mark.parametrize("chosen", [True, False])
def test_attentions_of_one_name_in_two_branches(apply, model_of, run_ort, x, chosen):
    branch = "{0} () => (float[B,S,8] {0}Y) {{ q = Add (X, {1}) [att] {0}Y = {2} (q, X, X) }}"
    call = MHA.removeprefix("Y = ")
    model = model_of(
        f"Y = If (c) <then_branch = {branch.format('t', 'bq', call)}, "
        f"else_branch = {branch.format('e', 'bk', call)}>",
        inputs=f"{INPUTS}, bool c",
    )
    after = apply(PASS, model)
    assert (after.rewrites, after.again) == (2, 0)
    feeds = {"X": x, "c": np.array(chosen)}
    np.testing.assert_array_equal(run_ort(model, feeds), run_ort(after.model, feeds))


LEFT = {
    "1 a bias already": (INPUTS, "{Q} Y = {OP} (q, X, X, b)"),
    "1 no constant": (f"{INPUTS}, float[8] c", "q = Add (X, c) Y = {OP} (q, X, X)"),
    "1 a number": (INPUTS, "q = Add (X, one) Y = {OP} (q, X, X)"),
    "1 one element": (INPUTS, "q = Add (X, single) Y = {OP} (q, X, X)"),
    "1 a matrix": (INPUTS, "q = Add (X, row) Y = {OP} (q, X, X)"),
    "1 a value that is widened": (
        "float[B,S,8] X, float[B,S,1] Z",
        "q = Add (Z, bq) Y = {OP} (q, X, X)",
    ),
    "1 a difference": (INPUTS, "q = Sub (X, bq) Y = {OP} (q, X, X)"),
    "2 split keys": (
        "float[B,S,8] X, float[B,2,T,4] Z",
        "{Q} Y = {OP} (q, Z, Z)",
    ),
    "2 split after a sum": (
        INPUTS,
        "{K} s = Reshape (k, split) t = Transpose <perm = [0, 2, 1, 3]> (s) Y = {OP} (X, t, t)",
    ),
    "2 packed": ("float[B,S,2,3,4] P", "Y = {OP} (P)"),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT)
def test_near_misses(apply, model_of, case):
    inputs, body = LEFT[case]
    body = body.format(Q=Q, K=K, OP=MHA.removeprefix("Y = "))
    more = {"one": np.float32(1), "single": np.ones(1, np.float32), "b": np.ones(24, np.float32)}
    more |= {"row": np.ones((1, 8), np.float32), "split": np.array([0, 0, 2, 4])}
    more = {name: value for name, value in more.items() if f" {name})" in body}
    model = model_of(body, inputs=inputs, **more)
    after = apply(PASS, model)
    assert (after.rewrites, after.model) == (0, model)


def test_another_op_of_that_name(apply, model_of):
    model = model_of(Q, "Y = my.MultiHeadAttention <num_heads = 2> (q, X, X)")
    model.opset_import.append(make_opsetid("my", 1))
    assert apply(PASS, model).rewrites == 0


@pytest.mark.slow
def test_a_fused_file_that_others_exported():
    path = exported_models()["MiniLM-L6, fused"]
    done = compile(path, "float", target="cpu", overrides=["fuse-attention.standard=false"])
    nodes = [node for node in done.model.graph.node if node.op_type == "MultiHeadAttention"]
    shapes = {t.name: list(t.dims) for t in done.model.graph.initializer}
    assert len(nodes) == 6
    assert all(shapes[node.input[3]] == [3 * 384] for node in nodes)
    assert done.report.verification.unchecked == []
