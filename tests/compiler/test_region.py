"""What a pass changed: nodes that hang together, and nothing else."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from sardonyx.compiler.load import load
from sardonyx.compiler.region import changed_regions, record_scope

TEXT = """
g (float[N,4] X) => (float[N,4] Y, float[N,4] Z) {
  A = Neg (X)
  B = Abs (A)
  Y = Mul (B, k)
  C = Neg (X)
  D = Abs (C)
  Z = Mul (D, k)
}
"""


@pytest.fixture
def graph(text_model):
    model = text_model(TEXT, k=np.float32(2))
    for node in model.graph.node:
        node.name = node.output[0].lower()
    return load(model)[1]


def names(records):
    return [record.node.name for record in records]


def node_of(graph, name):
    return next(node for node in graph.nodes if node.name == name)


def replace(graph, name, op):
    """Another node in the place of one; returns it."""
    old = node_of(graph, name)
    inputs, outputs = list(old.inputs), list(old.outputs)
    old.inputs.clear()
    old.outputs.clear()
    graph.nodes[graph.nodes.index(old)] = gs.Node(op, f"new {name}", {}, inputs, outputs)


def test_no_change_no_region(graph):
    assert changed_regions(record_scope(graph), record_scope(graph)) == []


def test_notes_are_no_change(graph):
    before = record_scope(graph)
    graph.nodes[0].attrs["sardonyx.doc_string"] = "a line"
    assert changed_regions(before, record_scope(graph)) == []


def test_changes_apart_are_two_regions(graph):
    before = record_scope(graph)
    replace(graph, "a", "Identity")
    replace(graph, "d", "Relu")
    one, two = changed_regions(before, record_scope(graph))
    assert [names(one.before), names(one.after), one.outputs] == [["a"], ["new a"], ["A"]]
    assert [names(two.before), names(two.after), two.outputs] == [["d"], ["new d"], ["D"]]
    assert one.label == "Identity 'new a'"


def test_changes_that_share_a_tensor_are_one_region(graph):
    before = record_scope(graph)
    replace(graph, "a", "Identity")
    replace(graph, "b", "Relu")
    (region,) = changed_regions(before, record_scope(graph))
    assert (names(region.before), names(region.after)) == (["a", "b"], ["new a", "new b"])
    assert region.outputs == ["B"]  # A is between the two
    assert region.label == "Identity 'new a' and 1 more nodes"


def test_a_shared_constant_or_input_does_not_join(graph):
    before = record_scope(graph)
    for name in ("y", "z"):
        replace(graph, name, "Add")
    regions = changed_regions(before, record_scope(graph))
    assert [region.outputs for region in regions] == [["Y"], ["Z"]]


def test_an_output_that_was_left_out_is_none(text_model):
    text = """g (float[N,4] X) => (float[N,4] Y) {
      A, , B = LayerNormalization (X, k)
      Y = Clip (A, , high)
    }"""
    _, graph = load(text_model(text, k=np.ones(4, np.float32), high=np.float32(1)))
    graph.nodes[0].name, graph.nodes[1].name = "a", "y"
    before = record_scope(graph)
    graph.nodes[0].attrs["epsilon"] = 1.0
    (region,) = changed_regions(before, record_scope(graph))
    assert region.outputs == ["A"]


def test_a_node_edited_in_place(graph):
    before = record_scope(graph)
    node_of(graph, "b").op = "Relu"
    node_of(graph, "d").attrs["more"] = 1
    node_of(graph, "c").inputs[0] = node_of(graph, "b").outputs[0]
    (region,) = changed_regions(before, record_scope(graph))
    assert (names(region.before), region.outputs) == (["b", "c", "d"], ["B", "D"])
    assert [record.op for record in region.before] == ["Abs", "Neg", "Abs"]
    assert [record.op for record in region.after] == ["Relu", "Neg", "Abs"]


@pytest.mark.parametrize("value", [np.float32(3), np.float64(2), np.array([2], np.float32)])
def test_a_constant_given_another_value(graph, value):
    before = record_scope(graph)
    node_of(graph, "y").inputs[1].values = np.asarray(value)
    regions = changed_regions(before, record_scope(graph))
    assert [name for region in regions for name in names(region.before)] == ["y", "z"]


def test_a_constant_that_was_only_read(graph):
    before = record_scope(graph)
    constant = node_of(graph, "y").inputs[1]
    assert constant.values == 2
    assert changed_regions(before, record_scope(graph)) == []


def test_a_node_that_went(graph):
    before = record_scope(graph)
    node = node_of(graph, "d")
    graph.nodes.remove(node)
    (region,) = changed_regions(before, record_scope(graph))
    assert (names(region.before), region.after, region.outputs) == (["d"], [], ["D"])
    assert region.label == "Abs 'd'"


def test_the_label_of_a_node_without_a_name(graph):
    before = record_scope(graph)
    replace(graph, "a", "Identity")
    graph.nodes[0].name = ""
    assert changed_regions(before, record_scope(graph))[0].label == "Identity 'A'"


def test_signature_is_equal_where_only_names_and_values_differ(graph):
    before = record_scope(graph)
    for name in ("y", "z"):
        replace(graph, name, "Add")
    replace(graph, "a", "Identity")
    a, y, z = changed_regions(before, record_scope(graph))
    assert y.signature() == z.signature() != a.signature()
    assert (y.constant_elements(), a.constant_elements()) == (1, 0)
