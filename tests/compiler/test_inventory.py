"""What a file holds, found without its weights: names, readers, data, encoded weights."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sardonyx.compiler import compile
from sardonyx.compiler.inventory import take_inventory
from sardonyx.runtime_ops.errors import InputError

IF = """
g (bool C, float[N,4] X) => (float[N,4] Y) {
  Y = If (C) <
    then_branch = t () => (float[N,4] A) { A = Add (X, V) },
    else_branch = e () => (float[N,4] A) { K = Constant <value = float[4] {1, 2, 3, 4}> ()
      A = Mul (X, K) }
  >
}
"""


@pytest.fixture
def take(tmp_path):
    """The inventory of a model, from a file."""

    def inventory(model, **options):
        onnx.save(model, tmp_path / "m.onnx", **options)
        return take_inventory(tmp_path / "m.onnx")

    return inventory


def test_bodies_have_names_of_their_own_and_read_from_outside(take, text_model):
    held = take(text_model(IF, V=np.ones(4, np.float32)))
    add, constant, mul = held.nodes[1:]
    assert [node.where for node in held.nodes] == ["graph", "body", "body", "body"]
    assert add.inputs == ("X", "V")
    assert add.outputs == ("Y.then_branch/A",)
    assert mul.inputs == ("X", "Y.else_branch/K") == ("X", *constant.outputs)
    assert held.tensors.keys() == {"V", "Y.else_branch/K"}
    assert [node.op for node in held.readers["V"]] == ["Add"]
    assert [node.op for node in held.readers["Y.else_branch/K"]] == ["Mul"]


def test_a_function_reads_only_its_own(take, text_model):
    model = text_model("g (float[4] X) => (float[4] Y) { Y = Relu (X) }")
    body = [helper.make_node("Abs", ["X"], ["Y"], name="inner")]
    model.functions.append(helper.make_function("own", "F", ["X"], ["Y"], body, model.opset_import))
    held = take(model)
    assert [node.name for node in held.readers["X"]] == ["Y"]
    assert held.nodes[1].name == "own.F/inner"
    assert held.nodes[1].where == "function"


def forms(values, name="w"):
    """The same tensor with its data as raw bytes and as numbers."""
    raw = numpy_helper.from_array(values, name)
    typed = helper.make_tensor(name, raw.data_type, values.shape, values.ravel().tolist())
    assert not typed.HasField("raw_data")
    return raw, typed


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.uint8, np.bool_])
def test_the_digest_is_of_the_data_not_of_their_form(take, text_model, dtype):
    def stored(tensor, **options):
        model = text_model("g (float[4] X) => (float[4] Y) { Y = Relu (X) }")
        model.graph.initializer.append(tensor)
        found = take(model, **options).tensors["w"]
        assert (found.dtype, found.shape) == (np.dtype(dtype).name, [2, 3000])
        assert found.nbytes == values.nbytes
        return found.digest

    values = (np.arange(6000) % 2).reshape(2, 3000).astype(dtype)
    raw, typed = forms(values)
    digests = [stored(raw), stored(typed)]
    digests.append(stored(raw, save_as_external_data=True, location="w.data"))
    assert len(set(digests)) == 1
    values[1, 2999] = not values[1, 2999]
    assert stored(numpy_helper.from_array(values, "w")) not in digests


def test_strings_and_constants_given_as_numbers(take, text_model):
    model = text_model(
        "g (float[4] X) => (float[4] Y) { C = Constant <value_ints = [1, 2]> () Y = Relu (X) }"
    )
    words = helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b"bc"])
    model.graph.initializer.append(words)
    held = take(model).tensors
    assert (held["words"].dtype, held["words"].nbytes) == ("string", 3)
    assert (held["C"].dtype, held["C"].shape, held["C"].nbytes) == ("int64", [2], 16)


def test_encoded_weights(take, bert):
    compiled = compile(bert, "gobo")
    held = take(compiled.model)
    assert list(held.quantized) == [entry.name for entry in compiled.report.tensors]
    for entry in compiled.report.tensors:
        weight = held.quantized[entry.name]
        assert sum(part.nbytes for part in weight.parts.values()) == entry.bytes_after
        assert weight.nodes[0].name == entry.node
        assert weight.notes.nbytes == (entry.bytes_before, entry.bytes_after)
    assert held.nbytes == len(compiled.model.SerializeToString())


def test_a_node_without_our_notes_is_no_encoded_weight(take, bert):
    model = compile(bert, "gobo").model
    node = next(node for node in model.graph.node if node.domain == "sardonyx")
    del node.metadata_props[:]
    assert len(take(model).quantized) == 13


def test_data_that_is_not_there(take, text_model, tmp_path):
    model = text_model(
        "g (float[N,64] X) => (float[N,64] Y) { Y = MatMul (X, W) }",
        W=np.ones((64, 64), np.float32),
    )
    take(model, save_as_external_data=True, location="w.data")
    (tmp_path / "w.data").unlink()
    with pytest.raises(InputError, match="external data of 'W' is missing"):
        take_inventory(tmp_path / "m.onnx")


CONSTANT = "g (float[4] X) => (float[4] Y) { Y = Relu (X) C = Constant <value_int = 1> () }"


def wrong(name, **fields):
    """A Constant's attribute that is not what its name promises."""
    return onnx.AttributeProto(name=name, **fields)


@pytest.mark.parametrize(
    "attribute",
    [
        wrong("value", type=onnx.AttributeProto.INT, i=1),
        wrong("value", t=numpy_helper.from_array(np.ones(2))),
        wrong("value", type=onnx.AttributeProto.TENSOR),
        wrong("value_floats", type=onnx.AttributeProto.STRING, s=b"many"),
        wrong("value_int", i=1),
    ],
)
def test_a_constant_of_another_type(take, text_model, attribute):
    model = text_model(CONSTANT)
    model.graph.node[1].attribute[0].CopyFrom(attribute)
    with pytest.raises(InputError, match=f"m.onnx.*'{attribute.name}' of Constant 'C' has no"):
        take(model)


@pytest.mark.parametrize("outputs", [[], [""]])
def test_constants_without_a_name_are_none(take, text_model, outputs):
    model = text_model(CONSTANT)
    model.graph.node[1].output[:] = outputs
    model.graph.initializer.add(dims=[0], data_type=TensorProto.FLOAT)
    model.graph.sparse_initializer.add(dims=[2])
    held = take(model)
    assert (held.tensors, [node.name for node in held.nodes]) == ({}, ["Y", "?"])


def test_a_node_has_the_name_of_its_first_named_output(take, text_model):
    held = take(text_model("g (float[4] X) => (float[4] Y) { , Y = Dropout (X) }"))
    assert held.nodes[0].name == "Y"


def test_data_of_an_attribute_in_a_file(take, text_model):
    model = text_model(CONSTANT)
    value = TensorProto(name="V", dims=[2], data_type=1, data_location=TensorProto.EXTERNAL)
    model.graph.node[1].attribute[0].CopyFrom(helper.make_attribute("value", value))
    with pytest.raises(InputError, match="tensor 'V' keeps data in another file"):
        take(model)


def test_parts_of_an_encoded_weight_that_are_scalars(take, bert):
    model = compile(bert, "gobo").model
    part = next(t for t in model.graph.initializer if t.name.endswith("query.weight.values"))
    part.CopyFrom(numpy_helper.from_array(np.float32(1), part.name))
    assert len(take(model).quantized) == 13
