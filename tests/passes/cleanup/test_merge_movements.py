"""merge-movements: ``B(A(x))`` -> ``C(x)``."""

import numpy as np
import pytest
from onnx import numpy_helper

from sardonyx.passes.cleanup.merge_movements import MergeMovements


def of(*shape, dtype=np.float32):
    """Values of a shape, no two alike."""
    return (np.arange(np.prod(shape)) - 3).reshape(shape).astype(dtype)


def said(model):
    """What the only node of a model is told: by its second input, or by its attribute."""
    (node,), held = model.graph.node, model.graph.initializer
    told = [numpy_helper.to_array(t).tolist() for t in held if t.name in list(node.input)[1:]]
    return told[0] if told else [*node.attribute[0].ints] if node.attribute else None


FEEDS = [{"X": of(*shape, 6)} for shape in ((1, 1), (1, 5), (3, 5), (2, 0), (0, 3))]


def runs(run_ort, model, feeds):
    """Those of the feeds that a model runs on."""
    ran = []
    for each in feeds:
        try:
            run_ort(model, each)
        except Exception:
            continue
        ran.append(each)
    return ran


@pytest.mark.parametrize(
    ("nodes", "left", "says"),
    [
        # 1
        ("a = Reshape (X, [0, -1, 2])\n Y = Reshape (a, [-1, 3])", "Reshape", [-1, 3]),
        ("a = Flatten (X)\n Y = Reshape (a, [-1, 3])", "Reshape", [-1, 3]),
        ("a = Unsqueeze (X, [2])\n Y = Reshape (a, [0, 0, 2, 3])", "Reshape", [0, 0, 2, 3]),
        # 2
        ("a = Unsqueeze (X, [1])\n Y = Unsqueeze (a, [0])", "Unsqueeze", [0, 2]),
        ("a = Unsqueeze (X, [-1, 0])\n Y = Unsqueeze (a, [-1])", "Unsqueeze", [0, 4, 5]),
        (
            "a = Unsqueeze (X, [0, 2])\n b = Squeeze (a, [0])\n Y = Unsqueeze (b, [4])",
            "Unsqueeze",
            [1, 4],
        ),
        ("a = Unsqueeze (X, [1])\n Y = Squeeze (a, [-3])", "Identity", None),
        # 3
        ("a = Reshape (X, [-1, 2])\n Y = Unsqueeze (a, [0])", "Reshape", [1, -1, 2]),
        ("a = Reshape (X, [0, 0, 3, 2])\n Y = Flatten <axis = 2> (a)", "Reshape", [-1, 6]),
        (
            "a = Reshape (X, [0, 0, 3, 2])\n b = Reshape (a, [0, 0, 6, 1])\n Y = Squeeze (b, [3])",
            "Identity",
            None,
        ),
        # 4
        (
            "a = Transpose <perm = [1, 2, 0]> (X)\n Y = Transpose <perm = [1, 0, 2]> (a)",
            "Transpose",
            [2, 1, 0],
        ),
        ("a = Transpose (X)\n Y = Transpose <perm = [1, 2, 0]> (a)", "Transpose", [1, 0, 2]),
        ("a = Transpose (X)\n Y = Transpose (a)", "Identity", None),
    ],
)
def test_before_after(apply, cleaned, listed_model, run_ort, nodes, left, says):
    model = listed_model(f"g (float[B,S,6] X) => (float[] Y) {{ {nodes} }}")
    ran = runs(run_ort, model, FEEDS)
    assert len(ran) >= 3
    assert cleaned(MergeMovements(), model, *ran) == [left]
    assert said(apply(MergeMovements(), model).model) == says


@pytest.mark.parametrize("opset", [11, 12])
def test_axes_are_attributes_in_older_operator_sets(apply, cleaned, listed_model, opset):
    model = listed_model(
        "g (float[B,S] X) => (float[] Y) { a = Unsqueeze <axes = [1]> (X)\n"
        "Y = Unsqueeze <axes = [2]> (a) }",
        opset=opset,
    )
    assert cleaned(MergeMovements(), model, {"X": of(3, 5)}) == ["Unsqueeze"]
    assert said(apply(MergeMovements(), model).model) == [1, 2]


@pytest.mark.parametrize(
    "nodes",
    [
        # 3: two sizes, of batch and length
        "a = Unsqueeze (X, [1])\n Y = Reshape (a, [0, 0, 0, 2, 3])",
        "a = Reshape (X, [0, 0, 6, 1])\n Y = Unsqueeze (a, [1])",
        # a -1 says nothing of a batch of none, which these take
        "a = Reshape (X, [0, 0, 3, 2])\n Y = Flatten (a)",
        # other ops between or around
        "a = Neg (X)\n Y = Unsqueeze (a, [0])",
        "a = Transpose (X)\n Y = Unsqueeze (a, [0])",
    ],
)
def test_what_cannot_be_one_stays(apply, listed_model, nodes):
    model = listed_model(f"g (float[B,S,6] X) => (float[] Y) {{ {nodes} }}")
    assert apply(MergeMovements(), model).rewrites == 0


def test_what_others_read_stays(apply, cleaned, listed_model):
    model = listed_model(
        "g (float[B,6] X) => (float[] Y, float[] A, float[] Z) { a = Unsqueeze (X, [0])\n"
        "Y = Unsqueeze (a, [0])\n A = Transpose (a)\n Z = Transpose (A) }"
    )
    left = cleaned(MergeMovements(), model, {"X": of(3, 6)}, rewrites=2)
    assert left == ["Unsqueeze", "Unsqueeze", "Transpose", "Identity"]


TYPES = {"int32": 6, "int64": 7, "float": 1, "float16": 10, "double": 11, "bool": 9, "uint8": 2}
VALUES = {
    "int32": np.array([-(2**31), -5, 0, 2**24 + 1, 2**31 - 1], np.int32),
    "int64": np.array([-(2**63), -5, 0, 2**53 + 1, 2**62 + 1], np.int64),
    "float": np.array([-2.5, 0, 1e-45, 3e38, np.inf], np.float32),
    "float16": np.array([-2.5, 0, 6e-8, 65504, np.inf], np.float16),
    "bool": np.array([True, False]),
    "uint8": np.array([0, 1, 255], np.uint8),
}


@pytest.mark.parametrize(
    ("types", "merges"),
    [
        ("int32 int64 float", True),
        ("int32 double float", True),
        ("int32 int64 uint8", True),
        ("uint8 float int64", True),
        ("uint8 float16 float", True),
        ("bool float bool", True),
        ("bool float16 int64", True),
        ("float16 float double", True),
        ("float double float", True),
        ("float16 float bool", True),
        ("int64 int32 float", False),
        ("int64 double float", False),
        ("int32 float int64", False),
        ("float float16 float", False),
        ("float int32 float", False),
        ("float double int32", False),
        ("int32 double uint8", False),
        ("uint8 bool uint8", False),
    ],
)
def test_casts(cleaned, text_model, types, merges):
    source, between, to = types.split()
    model = text_model(
        f"g ({source}[N] X) => ({to}[N] Y) {{ a = Cast <to = {TYPES[between]}> (X)\n"
        f"Y = Cast <to = {TYPES[to]}> (a) }}"
    )
    left = cleaned(MergeMovements(), model, {"X": VALUES[source]})
    assert left == ["Cast"] * (1 if merges else 2)


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ("a = Concat <axis = 1> (X, W)\n Y = Concat <axis = -1> (X, a, X)", 1),
        (
            "a = Concat <axis = 1> (X, W)\n b = Concat <axis = 1> (W, X)\n"
            "Y = Concat <axis = 1> (a, b)",
            1,
        ),
        ("a = Concat <axis = 0> (X, W)\n Y = Concat <axis = 1> (a, a)", 2),
        ("a = Concat <axis = 1> (X, W)\n Y = Concat <axis = 1> (a, a)", 2),
    ],
)
def test_concats(cleaned, listed_model, nodes, left):
    model = listed_model(f"g (float[N,2] X, float[N,2] W) => (float[] Y) {{ {nodes} }}")
    feeds = {"X": of(3, 2), "W": -of(3, 2)}
    assert cleaned(MergeMovements(), model, feeds) == ["Concat"] * left


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        # 7
        ("a, b = Split <axis = -1> (X, [2, 4]) Y = Concat <axis = 1> (a, b)", "Identity"),
        (
            "a, b = Split (X, [1, 2]) c = Relu (a) Y = Concat <axis = 0> (a, b)",
            "Split Relu Identity",
        ),
        ("a, b = Split <axis = 1> (X, [3, 3]) Y = Concat <axis = 1> (b, a)", "Split Concat"),
        ("a, b = Split <axis = 1> (X, [3, 3]) Y = Concat <axis = 0> (a, b)", "Split Concat"),
        ("a, b = Split <axis = 1> (X, [3, 3]) Y = Concat <axis = 1> (a, b, a)", "Split Concat"),
        ("a, b, c = Split <axis = 1> (X, [2, 2, 2]) Y = Concat <axis = 1> (a, b)", "Split Concat"),
    ],
)
def test_parts_that_are_joined_again(cleaned, listed_model, nodes, left):
    model = listed_model(f"g (float[3,6] X) => (float[] Y) {{ {nodes} }}")
    assert cleaned(MergeMovements(), model, {"X": of(3, 6)}) == left.split()


def test_a_concat_that_is_an_output_stays(apply, text_model):
    model = text_model(
        "g (float[N,2] X) => (float[N,4] A, float[N,6] Y) { A = Concat <axis = 1> (X, X)\n"
        "Y = Concat <axis = 1> (A, X) }"
    )
    assert apply(MergeMovements(), model).rewrites == 0


def test_near_miss_2_unknown(apply, text_model):
    model = text_model(
        "g (float[2] X) => (float[?] Y, int32[?] Z) { u = com.microsoft.Unheard (X)\n"
        "a = Unsqueeze (u, one)\n Y = Squeeze (a, one)\n"
        "b = Cast <to = 7> (u)\n Z = Cast <to = 6> (b) }",
        one=np.array([1]),
    )
    model.opset_import.add(domain="com.microsoft", version=1)
    assert apply(MergeMovements(), model).rewrites == 0


def test_near_miss_1_bodies(apply, listed_model, run_ort):
    model = listed_model(
        """g (bool c, float[N,2] X) => (float[?,?,?,?,?] Y) {
             a = Unsqueeze (X, [0])
             Y = If (c) <
               then_branch = t () => (float[?,?,?,?,?] r1) {
                 p = Unsqueeze (a, [0]) q = Unsqueeze (p, [0]) r1 = Neg (q) },
               else_branch = e () => (float[?,?,?,?,?] r2) { r2 = Unsqueeze (X, [0, 1, 2]) }>
           }"""
    )
    after = apply(MergeMovements(), model)
    assert (after.rewrites, after.again) == (1, 0)
    then = next(a.g for a in after.model.graph.node[1].attribute if a.name == "then_branch")
    assert [node.op_type for node in then.node] == ["Unsqueeze", "Neg"]
    for c in (True, False):
        feeds = {"c": np.array(c), "X": of(3, 2)}
        assert np.array_equal(*(run_ort(m, feeds)[0] for m in (model, after.model)))
