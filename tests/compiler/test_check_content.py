"""Names and data that onnx.checker lets through: refused, with the culprit."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sardonyx.compiler.load import load
from sardonyx.runtime_ops.errors import InputError

TEXT = "g (float[N,64] X) => (float[N,96] Y) { Y = MatMul (X, W) }"


@pytest.fixture
def model(text_model, normal):
    made = text_model(TEXT, W=normal(64, 96))
    made.graph.node[0].name = "dense"
    return made


def refusal(model):
    with pytest.raises(InputError) as caught:
        load(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_two_initializers_of_one_name(model):
    model.graph.initializer.append(model.graph.initializer[0])
    assert refusal(model) == "the model is not a valid ONNX model: 2 initializers are named 'W'"


def test_a_dense_and_a_sparse_initializer_of_one_name(model):
    values = numpy_helper.from_array(np.ones(1, np.float32), "W")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0]), "at"), [3])
    model.graph.sparse_initializer.append(sparse)
    assert refusal(model) == "the model is not a valid ONNX model: 2 initializers are named 'W'"


def test_two_nodes_of_one_name(model):
    model.graph.node.append(helper.make_node("Identity", ["Y"], ["Z"], "dense"))
    assert refusal(model) == "the model is not a valid ONNX model: 2 nodes are named 'dense'"


@pytest.fixture
def branching(text_model):
    """An If, both branches of which have nodes and initializers of the same names."""
    made = text_model(
        """g (float[2] X, bool c) => (float[2] Y) {
             Y = If (c) <then_branch = t () => (float[2] a) { a = Mul (X, w) },
                         else_branch = e () => (float[2] b) { b = Mul (X, w) }>
           }"""
    )
    for number, attribute in enumerate(made.graph.node[0].attribute):
        attribute.g.node[0].name = "scale"
        values = np.full(2, number + 1, np.float32)
        attribute.g.initializer.append(numpy_helper.from_array(values, "w"))
    return made


def test_names_that_two_branches_share_are_fine(branching, round_trip):
    assert round_trip(branching) == branching


def test_an_initializer_that_hides_one_outside(branching):
    outside = numpy_helper.from_array(np.ones(2, np.float32), "w")
    branching.graph.initializer.append(outside)
    assert refusal(branching).endswith(
        "has a constant called 'w', as something around it is called: give it a name of its own"
    )


@pytest.mark.parametrize(
    ("text", "field"),
    [(b"dense", "NodeProto.name"), (b"MatMul", "NodeProto.op_type"), (b"X", "NodeProto.input")],
)
def test_text_that_is_not_utf8(model, text, field):
    bad = b"\xff" * len(text)
    damaged = model.SerializeToString().replace(text, bad)
    assert refusal(onnx.ModelProto.FromString(damaged)) == (
        f"the model is not a valid ONNX model: onnx.{field} holds {bad!r}, which is not UTF-8"
    )


@pytest.mark.parametrize("values", [[1.0], [1.0] * 6144])
def test_data_twice(model, tmp_path, values):
    model.graph.initializer[0].float_data.extend(values)
    onnx.save(model, tmp_path / "m.onnx")
    for source in (model, tmp_path / "m.onnx"):
        assert refusal(source).endswith("initializer 'W' holds data in more than one place")


def test_data_inline_and_in_another_file(model, tmp_path):
    weight = model.graph.initializer[0]
    (tmp_path / "w.bin").write_bytes(weight.raw_data)
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="w.bin")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert "'W' holds data in " in refusal(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("kind", "field", "values"),
    [
        (TensorProto.FLOAT, "float_data", [1.0] * 5),
        (TensorProto.FLOAT, "int32_data", [1] * 6),
        (TensorProto.INT64, "int64_data", [1] * 7),
        (TensorProto.STRING, "string_data", [b"a"] * 5),
        (TensorProto.INT4, "int32_data", [1] * 2),
        (TensorProto.COMPLEX64, "float_data", [1.0] * 6),
        (TensorProto.DOUBLE, "double_data", []),
    ],
)
def test_typed_data_of_another_length(model, kind, field, values):
    tensor = model.graph.initializer.add(name="c", data_type=kind, dims=[2, 3])
    getattr(tensor, field).extend(values)
    assert refusal(model) == (
        "the model is not a valid ONNX model: initializer 'c' has data that does not fit its shape "
        "[2, 3]"
    )


@pytest.mark.parametrize("dims", [[-64, 96], [-64, -96]])
def test_negative_sizes(model, dims):
    model.graph.initializer[0].dims[:] = dims
    assert refusal(model) == f"initializer 'W' has a negative size in {dims}"


@pytest.mark.parametrize("dims", [[1 << 40, 1], [1 << 32, 1 << 32], [1 << 62, 4]])
def test_sizes_beyond_int64(model, dims):
    model.graph.initializer[0].dims[:] = dims
    needed = 4 * dims[0] * dims[1]
    assert refusal(model).endswith(f"has 24576 bytes of data where {needed} are needed")
