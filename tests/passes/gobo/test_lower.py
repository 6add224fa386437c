"""The nodes that take the place of a MatMul, Gemm or Gather: structure, names, notes."""

import numpy as np
import pytest

from sardonyx.passes.gobo.encode import Gobo

MATMUL = "g (float[M,64] X) => (float[M,96] Y) { Y = MatMul (X, W) }"


@pytest.fixture(scope="module")
def x(normal):
    return normal(5, 64, seed=1) * np.float32(25)


@pytest.mark.parametrize("turn_a", [0, 1])
@pytest.mark.parametrize("turn_b", [0, 1])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 1.0), (1.0, 2.0), (0.5, 0.0)])
@pytest.mark.parametrize("c_shape", [None, (), (96,), (1, 96), (5, 1), (5, 96)])
def test_gemm(check_gobo, text_model, census, normal, x, turn_a, turn_b, alpha, beta, c_shape):
    a_dims = "64,M" if turn_a else "M,64"
    attributes = f"transA = {turn_a}, transB = {turn_b}, alpha = {alpha}, beta = {beta}"
    weights = {"W": normal(96, 64) if turn_b else normal(64, 96)}
    if c_shape is not None:
        weights["C"] = np.float32(9) * normal(*c_shape, seed=2)
    before = text_model(
        f"g (float[{a_dims}] X) => (float[M,96] Y) {{ Y = Gemm <{attributes}> "
        f"(X, W{', C' if c_shape is not None else ''}) }}",
        **weights,
    )
    a = np.ascontiguousarray(x.T) if turn_a else x
    # MatMul, Mul and Add round where Gemm does not
    after = check_gobo(before, {"X": a}, bound=Gobo.bound)
    added = c_shape is not None and beta != 0
    parts = {"Transpose": turn_a, "Add": added, "Mul": (alpha != 1) + (added and beta != 1)}
    assert census(after.model) == {"GoboMatMul6": 1} | {op: n for op, n in parts.items() if n}


def test_gemm_with_a_bias_that_the_graph_computes(check_gobo, text_model, normal, x):
    before = text_model(
        "g (float[M,64] X, float[96] B) => (float[M,96] Y) { C = Neg (B)\n Y = Gemm (X, W, C) }",
        W=normal(64, 96),
    )
    check_gobo(before, {"X": x, "B": normal(96)}, bound=Gobo.bound)


def test_names_that_are_taken(check_gobo, text_model, normal, x):
    before = text_model(
        "g (float[M,64] X) => (float[M,96] Y) { Z = MatMul (X, W)\n Y = Add (Z, B) }",
        W=normal(64, 96),
        B=normal(96, seed=3),
    )
    before.graph.initializer[1].name = before.graph.node[1].input[1] = "W.centroids"
    after = check_gobo(before, {"X": x})
    assert after.model.graph.node[0].input[2] == "W.centroids_"


def test_notes_for_netron(apply, text_model, normal):
    before = text_model(MATMUL, W=normal(64, 96))
    before.graph.node[0].name = "dense"
    before.graph.node[0].doc_string = "a line of code"
    before.graph.node[0].metadata_props.add(key="scope", value="encoder")
    (node,) = apply(Gobo(), before).model.graph.node
    notes = {prop.key: prop.value for prop in node.metadata_props}
    assert (node.name, node.doc_string, notes.pop("scope")) == (
        "dense",
        "a line of code",
        "encoder",
    )
    assert float(notes.pop("sardonyx.sqnr_db")) > 10
    assert notes.pop("sardonyx.outlier_share").endswith("%")
    assert notes == {
        "sardonyx.pass": "gobo",
        "sardonyx.weight": "W",
        "sardonyx.format": "codebook3/tensor",
        "sardonyx.role": "other",
        "sardonyx.bits": "3",
        "sardonyx.replaces": "MatMul",
        "sardonyx.original": "float32 [64, 96]",
        "sardonyx.bytes": "24576 -> 2348",
    }
