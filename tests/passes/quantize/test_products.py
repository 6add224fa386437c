"""Which products read which activation."""

import numpy as np
import pytest

from sardonyx.compiler.load import load
from sardonyx.passes.quantize.products import product_uses, products


@pytest.fixture
def graph(text_model, normal):
    def make(body, inputs="float[B,S,8] X", **held):
        known = {"W": normal(8, 6), "V": normal(8, 4, seed=1), "U": normal(6, 8, seed=2)} | held
        return load(text_model(f"g ({inputs}) => (float[B,S,N] Y) {{ {body} }}", **known))[1]

    return make


def found(graph):
    return [(p.activation.name, [n.name for n in p.nodes], p.width) for p in products(graph)]


def test_products_of_one_activation_are_one_group(graph):
    body = "[a] p = MatMul (X, W) r = Relu (p) [b] q = MatMul (X, V) [c] Y = MatMul (r, U)"
    assert found(graph(body)) == [("X", ["a", "b"], 8), ("r", ["c"], 6)]


def test_an_identity_and_a_turned_weight_are_seen_through(graph):
    body = "i = Identity (X) t = Transpose <perm = [1, 0]> (U) [a] p = MatMul (i, t)"
    body += "[b] q = MatMul (X, W) Y = Add (p, q)"
    assert found(graph(body)) == [("X", ["a", "b"], 8)]


def test_gemm(graph):
    body = "[a] Y = Gemm <transB = 1> (X, U)"
    assert found(graph(body, "float[B,8] X")) == [("X", ["a"], 8)]


@pytest.mark.parametrize(
    ("body", "inputs", "misfit"),
    [
        ("Y = MatMul (W, X)", "float[6,4] X", "left operand of MatMul: only right operands"),
        ("Y = Gemm <transA = 1> (X, W)", "float[8,B] X", "Gemm turns the activation"),
        ("Y = MatMul (W, U)", "float[B] X", "its other operand is a constant too"),
        ("Y = MatMul (X, T)", "float[2,B,8] X", "rank 3: only matrices"),
    ],
)
def test_what_is_no_product(graph, body, inputs, misfit):
    made = graph(body, inputs, T=np.ones((2, 8, 4), np.float32))
    assert products(made) == []
    assert any(use.misfit.startswith(misfit) for use in product_uses(made))


def test_bodies_are_left_out(graph):
    then = "then_branch = t () => (float[B,S,N] a) { a = MatMul (X, W) }"
    other = "else_branch = e () => (float[B,S,N] b) { b = MatMul (X, W) }"
    body = f"Y = If <{then}, {other}> (c)"
    assert products(graph(body, "float[B,S,8] X, bool c")) == []
