"""replace_nodes: every new node has a name of its own, every other one keeps its name."""

from __future__ import annotations

import onnx_graphsurgeon as gs
import pytest

from sardonyx.compiler.load import load
from sardonyx.passes.rewrite import replace_nodes, successor, take_outputs
from sardonyx.passes.scopes import all_nodes

CHAIN = """g (float[3] X) => (float[3] Y) {
  [a] A = Neg (X)
  [b] B = Abs (A)
  [c] Y = Exp (B)
}"""

BRANCHES = """g (bool C, float[3] X) => (float[3] Y) {
  [choose] Y = If (C) <
    then_branch = t () => (float[3] T) { [a] A = Neg (X) [b] T = Abs (A) },
    else_branch = e () => (float[3] E) { [a] D = Exp (X) [b] E = Sin (D) }
  >
}"""


@pytest.fixture
def names(text_model):
    """Names of all nodes of a model, those given replaced each by nodes of the names given."""

    def after(text, **made):
        _, graph = load(text_model(text))
        old = {node.outputs[0].name: node for node in all_nodes(graph)}
        new = {id(old[output]): _chain(old[output], held) for output, held in made.items()}
        replace_nodes(graph, new)
        return [node.name for node in all_nodes(graph)]

    return after


def _chain(node, names):
    """Nodes that make, one after the other, what one made."""
    source, result = node.inputs[0], take_outputs(node)[0]
    nodes = []
    for name in names:
        nodes.append(gs.Node("Relu", name, {}, [source], [gs.Variable("made")]))
        (source,) = nodes[-1].outputs
    nodes[-1].outputs[0] = result
    return nodes


@pytest.mark.parametrize(
    ("made", "found"),
    [
        ({"B": ["b"]}, ["a", "b", "c"]),
        ({"B": ["a"]}, ["a", "a_", "c"]),
        ({"B": ["c", "b"]}, ["a", "c_", "b", "c"]),
        ({"B": ["b/x", "b/x", "b/x"]}, ["a", "b/x", "b/x_", "b/x__", "c"]),
        ({"B": ["b", "b"]}, ["a", "b", "b_", "c"]),
        ({"A": ["x"], "B": ["x"]}, ["x", "x_", "c"]),
        ({"A": ["b"], "B": ["a"]}, ["b", "a", "c"]),
        ({"B": ["", ""]}, ["a", "", "", "c"]),
    ],
)
def test_names_that_are_taken(names, made, found):
    assert names(CHAIN, **made) == found


@pytest.mark.parametrize(
    ("made", "found"),
    [
        ({"A": ["a"], "D": ["a"]}, ["choose", "a", "b", "a", "b"]),
        ({"A": ["new"], "D": ["new"]}, ["choose", "new", "b", "new_", "b"]),
        ({"A": ["choose"]}, ["choose", "choose_", "b", "a", "b"]),
        ({"A": ["x", "a"]}, ["choose", "x", "a", "b", "a", "b"]),
        ({"A": ["a", "a"]}, ["choose", "a", "a_", "b", "a", "b"]),
        ({"A": ["b"]}, ["choose", "b_", "b", "a", "b"]),
    ],
)
def test_bodies(names, made, found):
    assert names(BRANCHES, **made) == found


def test_a_node_that_stays_beside_new_ones_keeps_its_name(text_model):
    _, graph = load(text_model(CHAIN))
    b = graph.nodes[1]
    new = gs.Node("Relu", "b", {}, [b.inputs[0]], [gs.Variable("made")])
    replace_nodes(graph, {id(b): [new, b]})
    assert [(node.op, node.name) for node in graph.nodes][1:3] == [("Relu", "b_"), ("Abs", "b")]


def test_a_node_with_a_body_keeps_its_name_and_those_inside(text_model):
    _, graph = load(text_model(BRANCHES))
    (choose,) = graph.nodes
    attrs, inputs = choose.attrs, list(choose.inputs)
    replace_nodes(graph, {id(choose): [successor(choose, "If", inputs, attrs, "test")]})
    assert [node.name for node in all_nodes(graph)] == ["choose", "a", "b", "a", "b"]
