"""Blocks: the tensors of feed-forward networks, in post-LN, pre-LN and gated ones; near-misses."""

import re

import numpy as np
import pytest

from sardonyx.compiler.load import load
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.ffn_blocks import ffn_blocks
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import annotate

CONSTANTS = {
    "up": np.ones((8, 16), np.float32),
    "gate": np.ones((8, 16), np.float32),
    "down": np.ones((16, 8), np.float32),
    "b_up": np.ones(16, np.float32),
    "b_down": np.ones(8, np.float32),
    "scale": np.ones(8, np.float32),
    "half": np.float32(0.5),
    "rows": np.array([-1, 8]),
    "tokens": np.array([1, -1, 8]),
}

IN = "p = MatMul (x, up)\n a = Add (p, b_up)\n"
OUT = "q = MatMul (g, down)\n h = Add (q, b_down)\n"
POST = f"x = LayerNormalization (X, scale)\n {IN} g = Relu (a)\n {OUT} y = Add (h, x)"
PRE = f"x = LayerNormalization (X, scale)\n {IN} g = Relu (a)\n {OUT} y = Add (X, h)"
GATED = f"""x = LayerNormalization (X, scale)
    {IN} r = Relu (a)
    s = MatMul (x, gate)
    g = Mul (r, s)
    q = MatMul (g, down)
    h = Identity (q)
    y = Add (X, h)
    """
ROWS = """normed = LayerNormalization (X, scale)
    x = Reshape (normed, rows)
    a = Gemm (x, up, b_up)
    g = Relu (a)
    q = Gemm (g, down, b_down)
    h = Reshape (q, tokens)
    y = Add (h, X)
    """


@pytest.fixture(scope="module")
def graph_of(text_model):
    """A graph from the text of nodes, with the constants that it names; Y is made of the last."""

    def make(text, outputs="", last="y"):
        words = set(re.findall(r"\w+", text))
        held = {name: value for name, value in CONSTANTS.items() if name in words}
        text = f"g (float[1,T,8] X) => (float[I,J,K] Y{outputs}) {{ {text}\n Y = Relu ({last}) }}"
        graph = load(text_model(text, 17, **held))[1]
        LiftConstants().run(graph, Journal())
        return graph

    return make


def names(block):
    tensors = (block.x, block.g, block.h, block.y, block.residual)
    return [tensor.name for tensor in tensors]


@pytest.mark.parametrize(
    ("text", "residual", "path"),
    [
        (POST, "x", ["Add"]),
        (PRE, "X", ["Add"]),
        (GATED, "X", ["Identity"]),
        (ROWS, "X", ["Reshape"]),
    ],
)
def test_block(graph_of, text, residual, path):
    (block,) = ffn_blocks(graph_of(text))
    assert names(block) == ["x", "g", "h", "y", residual]
    assert block.layer == 0
    assert [use.view.constant.name for use in block.ins] == ["up", "gate"][: 1 + (text is GATED)]
    assert block.out.view.constant.name == "down"
    assert [node.op for node in block.path] == path
    assert block.total.outputs[0] is block.y


def test_identities_are_passed_over(graph_of):
    text = POST.replace("p = MatMul (x,", "same = Identity (x)\n p = MatMul (same,")
    text = text.replace("y = Add (h, x)", "again = Identity (x)\n y = Add (h, again)")
    (block,) = ffn_blocks(graph_of(text))
    assert block.residual is block.x


def test_in_graph_order(graph_of):
    second = re.sub(r"\b([xpagqhy])\b", r"\1\1", POST).replace("X", "y")
    blocks = ffn_blocks(graph_of(f"{POST}\n{second}", last="yy"))
    assert [names(block) for block in blocks] == [
        ["x", "g", "h", "y", "x"],
        ["xx", "gg", "hh", "yy", "xx"],
    ]


MISSES = {
    "an output": (POST, ", float[I,J,K] h", "'h' is an output, or 1 nodes read it"),
    "read twice": (f"{POST}\n z = Relu (h)", "", "'h' is an output, or 2 nodes read it"),
    "scaled": (
        POST.replace("(h, x)", "(m, x)").replace("y =", "m = Mul (h, half)\n y ="),
        "",
        "'h' goes into Mul 'm', not into a sum",
    ),
    "two inputs": (
        GATED.replace("MatMul (x, gate)", "MatMul (X, gate)"),
        "",
        "its products read 'x' and 'X'",
    ),
}


@pytest.mark.parametrize("name", MISSES)
def test_near_miss(graph_of, name):
    text, outputs, reason = MISSES[name]
    journal = Journal()
    assert ffn_blocks(graph_of(text, outputs), journal) == []
    assert [miss.reason for miss in journal.missed] == [reason]


def test_a_sum_is_no_activation_function(graph_of):
    journal = Journal()
    text = POST.replace("g = Relu (a)", "g = Add (a, a)")
    assert text != POST
    assert ffn_blocks(graph_of(text), journal) == []
    assert [miss.reason for miss in journal.missed] == ["'g' is a sum of two activations"]


def test_sum_of_two_networks(graph_of):
    second = "r = MatMul (x, gate)\n s = Relu (r)\n t = MatMul (s, down)\n"
    journal = Journal()
    text = POST.replace("y = Add (h, x)", f"{second} both = Add (h, t)\n y = Add (both, x)")
    assert ffn_blocks(graph_of(text), journal) == []
    assert {miss.reason for miss in journal.missed} == {"'both' adds up two networks"}


def test_split_network_is_none(graph_of):
    """Products that notes tell of were split before."""
    graph, journal = graph_of(POST), Journal()
    for node, role in zip(
        (n for n in graph.nodes if n.op == "MatMul"), ("ffn_in", "ffn_out"), strict=True
    ):
        annotate(node, role=role, layer=0)
    assert ffn_blocks(graph, journal) == []
    assert journal.missed == []
