"""Sizes as numbers: those of onnxruntime; which are open, and what closes them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest

from sardonyx.compiler import compile
from sardonyx.compiler.chip_sizes import OpenSizes
from sardonyx.compiler.load import load
from sardonyx.runtime_ops.errors import InputError

PAST = """g (float[B,S,4] X, float[B,PS] M, float[B,2,P,2] K, float[3] F)
    => (float[B,S,4] Y) { Y = Identity (X) }"""


@pytest.fixture(scope="module")
def compiled(minilm, tmp_path_factory):
    path = tmp_path_factory.mktemp("sizes") / "l3.gobo.onnx"
    compile(minilm, "gobo", verify="off").save(path)
    return path


@pytest.mark.parametrize(("batch", "sequence"), [(1, 128), (3, 12)])
def test_every_size_is_onnxruntimes(compiled, batch, sequence):
    """The model with all its values as outputs."""
    _, graph = load(compiled)
    known = OpenSizes(graph).at(batch, sequence)
    model = onnx.load(compiled)
    own = {value.name for value in model.graph.output}
    made = [name for node in model.graph.node for name in node.output if name not in own]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    session = ort.InferenceSession(model.SerializeToString())
    ids = np.ones((batch, sequence), np.int64)
    outputs = session.run(None, {value.name: ids for value in session.get_inputs()})
    shapes = dict(zip([o.name for o in session.get_outputs()], outputs, strict=True))
    tensors = graph.tensors()
    assert len(made) > 100
    for name in made:
        assert known.shape(tensors[name]) == shapes[name].shape, name


def open_sizes(text_model, text):
    graph = gs.import_onnx(text_model(text))
    return graph, OpenSizes(graph)


def test_first_axes_are_the_batch_and_others_sequences(text_model):
    graph = gs.import_onnx(text_model(PAST))
    graph.inputs[1].shape = ["B", "P + S"]  # which ONNX's text cannot say
    sizes = OpenSizes(graph)
    assert sizes.settle(2, 5) == (2, 5)
    known = sizes.at(2, 5)
    assert [known.shape(t) for t in graph.inputs] == [(2, 5, 4), (2, 10), (2, 2, 5, 2), (3,)]
    known = sizes.at(1, 7)
    assert known.shape(graph.outputs[0]) == (1, 7, 4)


def test_a_mask_of_sequences_has_no_batch(text_model):
    text = "g (float[B,S] X, float[S,S] M) => (float[B,S] Y) { Y = Abs (X) }"
    graph, sizes = open_sizes(text_model, text)
    assert [sizes.at(2, 5).shape(t) for t in graph.inputs] == [(2, 5), (5, 5)]


def test_what_is_missing_is_named(text_model):
    _, sizes = open_sizes(text_model, "g (float[B,S] X) => (float[B,S] Y) { Y = Abs (X) }")
    with pytest.raises(InputError, match=r"'X' \[B, S\] are open: give --batch and --sequence$"):
        sizes.settle(None, None)
    with pytest.raises(InputError, match=r"give --sequence$"):
        sizes.settle(1, None)


def test_fixed_sizes_need_not_be_given_and_cannot_be_others(text_model):
    _, sizes = open_sizes(text_model, "g (float[2,7,4] X) => (float[2,7,4] Y) { Y = Abs (X) }")
    assert sizes.settle(None, None) == sizes.settle(2, 7) == (2, 7)
    with pytest.raises(InputError, match="fixes its sequence at 7: it cannot be 8"):
        sizes.settle(2, 8)
    _, sizes = open_sizes(text_model, "g (float[N] X) => (float[N] Y) { Y = Abs (X) }")
    assert sizes.settle(3, None) == (3, None)
    with pytest.raises(InputError, match="no input of the model has a sequence"):
        sizes.settle(3, 8)


def test_axes_without_a_name(text_model):
    graph, sizes = open_sizes(text_model, "g (float[?,?,4] X) => (float[?,?,4] Y) { Y = Abs (X) }")
    with pytest.raises(InputError, match=r"\[\?, \?, 4\]"):
        sizes.settle(None, None)
    assert sizes.at(2, 5).shape(graph.outputs[0]) == (2, 5, 4)


def test_a_size_that_depends_on_values(text_model):
    """The node that makes the first of them is named, not one that takes it."""
    text = "g (float[B] X) => (int64[1,N] Y) { A = Abs (X) nz = NonZero (A) Y = Neg (nz) }"
    graph, sizes = open_sizes(text_model, text)
    graph.nodes[1].name = "find"
    with pytest.raises(InputError, match=r"'nz' is, which node 'find' \(NonZero\) makes, depends"):
        sizes.at(4, None).shape(graph.outputs[0])
