"""Nodes die with their last reader, unless something else needs what they make."""

import pytest

from sardonyx.compiler.load import load
from sardonyx.passes.fuse.dying import dying

TEXT = """g (float[a] X, bool c) => (float[a] Y, float[a] S) {
  A = Neg (X)
  B = Abs (A)
  D, E = my.Two (B)
  F = Add (D, E)
  S = Relu (A)
  H = Exp (B)
  I = If (c) <then_branch = t () => (float[a] P) { P = Sqrt (H) },
              else_branch = e () => (float[a] P) { P = Abs (H) }>
  Y = Mul (F, I)
}"""


@pytest.fixture
def graph(text_model):
    model = text_model(TEXT)
    model.opset_import.add(domain="my", version=1)
    _, graph = load(model)
    return graph


def names(graph, freed, kept=()):
    made = {node.outputs[0].name: node for node in graph.nodes}
    tensors = {tensor.name: tensor for node in graph.nodes for tensor in node.outputs}
    gone = dying(graph, [made[name] for name in freed], [tensors[name] for name in kept])
    return {name for name, node in made.items() if id(node) in gone}


def test_a_chain_dies_with_its_end(graph):
    assert names(graph, "F") == {"F", "D"}


def test_other_readers_keep_a_node(graph):
    assert "B" not in names(graph, "F")  # H reads it
    assert names(graph, "Y") == {"Y", "F", "D", "I"}  # bodies of I still read H


def test_kept_tensors_keep_a_node(graph):
    assert names(graph, "F", kept=["E"]) == {"F"}


def test_outputs_of_the_graph_live(graph):
    assert names(graph, ["I", "H", "F"]) == {"I", "H", "F", "D", "B"}
    assert "S" not in names(graph, "Y")
