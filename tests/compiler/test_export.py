"""What graphsurgeon has no place for comes back as it was written, in inner graphs too."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from sardonyx.compiler import compile
from sardonyx.compiler.emit import emit
from sardonyx.compiler.load import load
from sardonyx.compiler.stored import StoredSparse
from sardonyx.passes.metadata import PROPS
from sardonyx.runtime_ops.errors import InputError

FLOAT2 = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])


@pytest.fixture
def custom(text_model):
    """A model with one op of an unknown domain."""
    made = text_model("g (float[2] X) => (float[2] Y) { Y = my.Op (X) }")
    made.opset_import.append(helper.make_opsetid("my", 1))
    return made


@pytest.fixture
def looping(text_model):
    """A Loop whose body holds an If; each holds constants of its own."""
    made = text_model(
        """g (float[2] X) => (float[2] Y) {
             Y = Loop (trips, , X) <body = b (int64 i, bool c, float[2] a) => (bool d, float[2] e) {
               d = Identity (c)
               f = Add (a, inner)
               e = If (d) <then_branch = t () => (float[2] g) { g = Mul (f, deep) },
                           else_branch = s () => (float[2] h) { h = Mul (f, outer) }>
             }>
           }""",
        trips=np.int64(3),
        outer=np.array([3, 4], np.float32),
    )
    body = made.graph.node[0].attribute[0].g
    branch = next(a.g for a in body.node[2].attribute if a.name == "then_branch")
    for graph, name in ((body, "inner"), (branch, "deep")):
        graph.initializer.append(numpy_helper.from_array(np.array([1, 2], np.float32), name))
    return made


@pytest.mark.parametrize("where", ["input", "output", "value_info"])
@pytest.mark.parametrize("make", [helper.make_optional_type_proto, helper.make_sequence_type_proto])
def test_types_that_are_no_tensors(text_model, round_trip, where, make):
    before = text_model("g (float[2] X) => (float[2] Y) { Y = my.Op (X, other)\n made = my.Op () }")
    before.opset_import.append(helper.make_opsetid("my", 1))
    name = {"input": "other", "output": "made", "value_info": "made"}[where]
    if where != "input":
        before.graph.node[0].input[1] = "made"
        before.graph.node.insert(0, before.graph.node.pop())
    getattr(before.graph, where).append(onnx.ValueInfoProto(name=name, type=make(make(FLOAT2))))
    assert round_trip(before) == before


def test_maps(custom, round_trip):
    kind = helper.make_map_type_proto(TensorProto.STRING, FLOAT2)
    custom.graph.output[0].type.CopyFrom(kind)
    assert round_trip(custom) == custom


ONE = numpy_helper.from_array(np.ones(1, np.float32), "one")
SPARSE = helper.make_sparse_tensor(ONE, numpy_helper.from_array(np.array([0]), "at"), [3])


@pytest.mark.parametrize("value", [SPARSE, FLOAT2, [ONE, ONE], [FLOAT2], [SPARSE]])
def test_attributes_that_graphsurgeon_skips(custom, round_trip, value):
    names = ("before", "extra", "behind")
    for name, given in zip(names, (1, value, 2.0), strict=True):
        custom.graph.node[0].attribute.append(helper.make_attribute(name, given))
    assert round_trip(custom) == custom


@pytest.mark.parametrize("kind", ["INTS", "FLOATS", "STRINGS", "TENSORS", "TYPE_PROTOS"])
def test_empty_lists(custom, round_trip, kind):
    kind = AttributeProto.AttributeType.Value(kind)
    custom.graph.node[0].attribute.add(name="none", type=kind)
    assert round_trip(custom) == custom


def test_doc_strings_of_attributes_and_devices_of_nodes(custom, round_trip):
    custom.graph.node[0].attribute.append(helper.make_attribute("i", 1, doc_string="why"))
    custom.graph.node[0].device_configurations.add(configuration_id="two")
    assert round_trip(custom) == custom


def test_a_sparse_constant(text_model, round_trip, run_ort):
    before = text_model("g (float[3] X) => (float[3] Y) { c = Constant ()\n Y = Add (X, c) }")
    before.graph.node[0].attribute.append(helper.make_attribute("sparse_value", SPARSE))
    assert round_trip(before) == before
    x = np.ones(3, np.float32)
    assert run_ort(round_trip(before), {"X": x})[0].tolist() == [2, 1, 1]


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("raw", [True, False])
def test_values_of_sparse_constants(flat, raw):
    values = np.array([1.5, 2.5], np.float16)
    if raw:
        stored = numpy_helper.from_array(values, "v")
    else:
        stored = helper.make_tensor("v", TensorProto.FLOAT16, [2], values)
    places = np.array([1, 5]) if flat else np.array([[0, 1], [1, 2]])
    sparse = helper.make_sparse_tensor(stored, numpy_helper.from_array(places, "p"), [2, 3])
    dense = StoredSparse(sparse).load()
    assert dense.dtype == np.float16
    assert dense.tolist() == [[0, 1.5, 0], [0, 0, 2.5]]


def test_a_sparse_weight_is_encoded(text_model, run_ort, normal):
    weight = normal(64, 96)
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(weight.reshape(-1), "W"),
        numpy_helper.from_array(np.arange(weight.size), "at"),
        list(weight.shape),
    )
    before = text_model("g (float[N,64] X) => (float[N,96] Y) { Y = MatMul (X, W) }")
    before.graph.sparse_initializer.append(sparse)
    compiled = compile(before, "gobo", verify="full")
    assert compiled.report.totals.weights_quantized == weight.size
    assert not compiled.model.graph.sparse_initializer


def test_inner_graphs_come_back(looping, round_trip, run_ort):
    body = looping.graph.node[0].attribute[0].g
    body.doc_string, body.node[1].doc_string = "the body", "a sum"
    body.metadata_props.add(key="scope", value="loop")
    body.output[1].doc_string = "what is carried on"
    body.input[2].metadata_props.add(key="k", value="v")
    body.value_info.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, [2]))
    body.quantization_annotation.add(tensor_name="f")
    branch = next(a.g for a in body.node[2].attribute if a.name == "then_branch")
    branch.node[0].metadata_props.add(key="scope", value="branch")
    branch.initializer[0].doc_string = "two numbers"
    assert round_trip(looping) == looping
    x = np.ones(2, np.float32)
    want = run_ort(looping, {"X": x})[0]
    assert np.array_equal(run_ort(round_trip(looping), {"X": x})[0], want)


def test_sparse_initializers_of_inner_graphs(looping, round_trip):
    body = looping.graph.node[0].attribute[0].g
    values = numpy_helper.from_array(np.ones(1, np.float32), "inner")
    at = numpy_helper.from_array(np.array([1]), "")
    body.sparse_initializer.append(helper.make_sparse_tensor(values, at, [2]))
    del body.initializer[:]
    assert round_trip(looping) == looping


def test_an_initializer_of_an_inner_graph_that_is_an_input_too(looping, custom, round_trip):
    body = looping.graph.node[0].attribute[0].g
    body.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "a"))
    with pytest.raises(InputError, match="both a subgraph initializer and subgraph input: a"):
        load(looping)
    custom.graph.node[0].attribute.append(helper.make_attribute("body", body))
    custom.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "outer"))
    assert round_trip(custom) == custom
    _, graph = load(custom)
    read = graph.nodes[0].attrs["body"].nodes[1].inputs[0]
    assert (read.name, type(read)) == ("a", gs.Variable)


def test_data_of_inner_graphs_in_other_files(text_model, tmp_path, round_trip, normal):
    before = text_model(
        """g (float[N,64] X, bool c) => (float[N,64] Y) {
             Y = If (c) <then_branch = t () => (float[N,64] a) { a = MatMul (X, w) },
                         else_branch = e () => (float[N,64] b) { b = MatMul (X, v) }>
           }"""
    )
    for attribute, name in zip(before.graph.node[0].attribute, "wv", strict=True):
        seed = ord(name)
        weight = numpy_helper.from_array(normal(64, 64, seed=seed), name)
        attribute.g.initializer.append(weight)
    whole = onnx.ModelProto.FromString(before.SerializeToString())
    onnx.save(before, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin")
    stored = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert all(a.g.initializer[0].external_data for a in stored.graph.node[0].attribute)
    assert round_trip(tmp_path / "m.onnx") == whole


def test_the_order_of_initializers(text_model, round_trip, normal):
    before = text_model(
        "g (float[N,4] X) => (float[N,4] Y) { Z = MatMul (X, a)\n Y = Add (Z, b) }",
        b=normal(4),
        a=normal(4, 4),
    )
    assert round_trip(before) == before


def test_graphs_that_a_pass_makes(text_model, run_ort):
    source, graph = load(text_model("g (float[2] X, bool c) => (float[2] Y) { Y = Identity (X) }"))
    x = graph.inputs[0]
    branches = {}
    for name, op in (("then_branch", "Neg"), ("else_branch", "Abs")):
        out = gs.Variable(name, np.float32, [2])
        branches[name] = gs.Graph([gs.Node(op, inputs=[x], outputs=[out])], [], [out], name=name)
    graph.nodes[0].op, graph.nodes[0].inputs = "If", [graph.inputs[1]]
    graph.nodes[0].attrs = {**branches, PROPS: {"made": "here"}}
    after = emit(source, graph)
    onnx.checker.check_model(after)
    assert [(p.key, p.value) for p in after.graph.node[0].metadata_props] == [("made", "here")]
    values = np.array([1, -2], np.float32)
    for chosen, want in ((True, [-1, 2]), (False, [1, 2])):
        assert run_ort(after, {"X": values, "c": np.array(chosen)})[0].tolist() == want


def test_attributes_that_a_pass_changes(text_model):
    source, graph = load(text_model("g (float[2] X) => (int64[2] Y) { Y = Cast <to = 7> (X) }"))
    graph.nodes[0].attrs["to"] = np.int32  # as graphsurgeon allows
    assert emit(source, graph).graph.node[0].attribute[0].i == TensorProto.INT32
