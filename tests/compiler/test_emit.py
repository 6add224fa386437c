"""load, then emit: what a model holds survives the graph that graphsurgeon makes of it."""

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from sardonyx.compiler.emit import emit
from sardonyx.compiler.load import load
from sardonyx.models import TINY_BERT, seeded_bert
from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import DOC, PROPS

TEXT = "g (float[N,64] X) => (float[N,96] Y) { Z = MatMul (X, W)\n Y = Add (Z, B) }"


@pytest.fixture
def model(text_model, normal):
    return text_model(TEXT, W=normal(64, 96), B=normal(96))


def props(of):
    return {prop.key: prop.value for prop in of.metadata_props}


def test_the_real_model_comes_back_as_it_was(minilm, tokens, round_trip, run_ort):
    after = round_trip(minilm)
    assert after == onnx.load(minilm)
    for have, want in zip(run_ort(after, tokens), run_ort(minilm, tokens), strict=True):
        assert np.array_equal(have, want)


@pytest.mark.parametrize(("opset", "ir_version"), [(13, 8), (17, 8), (18, 9), (21, 10), (26, 13)])
def test_opset_and_ir_version_are_kept(opset, ir_version, round_trip):
    before = seeded_bert(TINY_BERT, 0, opset=opset, ir_version=ir_version)
    after = round_trip(before)
    assert (after.ir_version, after.opset_import) == (ir_version, before.opset_import)
    onnx.checker.check_model(after)


@pytest.mark.parametrize("ir_version", range(3, 8))
def test_an_older_ir_becomes_8(text_model, normal, round_trip, run_ort, ir_version):
    text = TEXT.replace("] X)", "] X, float[64,96] W, float[96] B)") if ir_version < 4 else TEXT
    before = text_model(text, ir_version=ir_version, W=normal(64, 96), B=normal(96))
    after = round_trip(before)
    assert after.ir_version == 8
    assert [value.name for value in after.graph.input] == ["X"]
    x = normal(2, 64)
    assert np.array_equal(run_ort(after, {"X": x}), run_ort(before, {"X": x}))


def test_names_doc_strings_and_metadata_of_model_and_graph(model, round_trip):
    model.producer_name, model.producer_version = "exporter", "1.2"
    model.domain, model.model_version, model.doc_string = "org.example", 7, "a model"
    model.graph.name, model.graph.doc_string = "main", "a graph"
    model.metadata_props.add(key="author", value="somebody")
    model.graph.metadata_props.add(key="scope", value="root")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    after = round_trip(model)
    assert after == model


def test_metadata_and_doc_strings_of_nodes(model, round_trip):
    for node in model.graph.node:
        node.name, node.doc_string = f"the {node.op_type}", f"line of {node.op_type}"
        node.metadata_props.add(key="scope", value=node.op_type)
        node.metadata_props.add(key="", value="no key")
    assert round_trip(model).graph.node == model.graph.node


def test_notes_survive_a_copy_of_a_node(model):
    model.graph.node[0].doc_string = "a line"
    model.graph.node[0].metadata_props.add(key="k", value="v")
    _, graph = load(model)
    copied = graph.nodes[0].copy()
    assert (copied.attrs[DOC], copied.attrs[PROPS]) == ("a line", {"k": "v"})


def test_emit_leaves_the_graph_as_it_is(model):
    model.graph.node[0].metadata_props.add(key="k", value="v")
    source, graph = load(model)
    assert emit(source, graph) == emit(source, graph) == model


def test_inputs_and_outputs_keep_order_types_and_doc_strings(text_model, round_trip):
    before = text_model(
        """g (float[batch, 3, ?] zeta, int64[1] alpha, bool unused)
           => (float[o] beta, int64[1] able)
           <float[batch] middle> {
             middle = ReduceSum <keepdims = 0> (zeta, axes)
             able = Identity (alpha)
             beta = Identity (middle)
           }""",
        axes=np.array([1, 2]),
    )
    before.graph.input[0].doc_string = "tokens"
    before.graph.input[0].metadata_props.add(key="kind", value="image")
    before.graph.input[0].type.denotation = "TENSOR"
    before.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    before.graph.output[0].doc_string = "logits"
    before.graph.value_info[0].doc_string = "half-way"
    assert round_trip(before) == before


def test_doc_strings_of_initializers(model, round_trip):
    model.graph.initializer[0].doc_string = "learnt"
    assert round_trip(model) == model


def test_what_is_said_of_a_tensor_goes_with_the_tensor(text_model, round_trip):
    before = text_model(
        "g (float[2] X) => (float[2] Y) <float[2] a, float[2] b> "
        "{ a = Neg (X)\n b = Abs (X)\n Y = Neg (a) }"
    )
    for name in "ab":
        before.graph.quantization_annotation.add(tensor_name=name).quant_parameter_tensor_names.add(
            key="SCALE_TENSOR", value="scale"
        )
    before.training_info.add().algorithm.name = "step"
    assert round_trip(before) == before
    source, graph = load(before)
    RemoveUnused().run(graph, Journal())
    after = emit(source, graph)
    assert [v.name for v in after.graph.value_info] == ["a"]
    assert [a.tensor_name for a in after.graph.quantization_annotation] == ["a"]


def test_an_initializer_that_is_an_input_too_stays_overridable(text_model, normal, round_trip):
    before = text_model(
        TEXT.replace("] X)", "] X, float[64,96] W)"), W=normal(64, 96), B=normal(96)
    )
    before.graph.input[1].doc_string = "a default"
    after = round_trip(before)
    assert after.graph.input == before.graph.input
    assert sorted(t.name for t in after.graph.initializer) == ["B", "W"]
    assert {t.name: t for t in after.graph.initializer}["W"] == before.graph.initializer[0]


def test_one_from_a_file_too(text_model, normal, round_trip, tmp_path):
    before = text_model(
        TEXT.replace("] X)", "] X, float[64,96] W)"), W=normal(64, 96), B=normal(96)
    )
    onnx.save(before, tmp_path / "m.onnx")
    have = {t.name: t for t in round_trip(tmp_path / "m.onnx").graph.initializer}
    assert np.array_equal(numpy_helper.to_array(have["W"]), normal(64, 96))


@pytest.mark.parametrize("count", [3, 9001])
@pytest.mark.parametrize(
    "dtype",
    [
        np.bool_,
        np.int8,
        np.uint16,
        np.int64,
        np.float16,
        np.float64,
        np.complex64,
        ml_dtypes.bfloat16,
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.int4,
        ml_dtypes.uint4,
    ],
)
def test_initializers_of_every_type(text_model, round_trip, tmp_path, dtype, count):
    values = np.resize(np.array([1, 0, 3, 2, 1]), count).astype(dtype)
    kind = TensorProto.DataType.Name(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))).lower()
    before = text_model(
        f"g () => ({kind}[{count}] Y) {{ Y = Identity (C) }}", opset=21, ir_version=10, C=values
    )
    onnx.save(before, tmp_path / "m.onnx")
    for source in (before, tmp_path / "m.onnx"):
        (after,) = round_trip(source).graph.initializer
        assert after == before.graph.initializer[0]


def test_strings_sparse_and_typed_fields(text_model, round_trip):
    before = text_model(
        "g () => (string[2] S, float[5] D, float[2] F) "
        "{ S = Identity (s)\n D = Identity (d)\n F = Identity (f) }",
        s=np.array(["a", "ü"], object),
    )
    before.graph.initializer.append(helper.make_tensor("f", TensorProto.FLOAT, [2], [1.5, 2.5]))
    values = numpy_helper.from_array(np.array([7], np.float32), "d")
    places = numpy_helper.from_array(np.array([3]), "")
    before.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [5]))
    after = round_trip(before)
    assert after.graph.initializer == before.graph.initializer
    assert after.graph.sparse_initializer == before.graph.sparse_initializer


def test_an_input_or_an_initializer_as_an_output(text_model, round_trip, run_ort, normal):
    before = text_model(
        "g (float[N,64] X) => (float[N,64] X, float[96] B, float[N,96] Y) { Y = MatMul (X, W) }",
        W=normal(64, 96),
        B=normal(96),
    )
    x = normal(2, 64)
    have, want = run_ort(round_trip(before), {"X": x}), run_ort(before, {"X": x})
    assert all(map(np.array_equal, have, want))


def test_absent_optional_inputs_and_outputs(text_model, round_trip):
    before = text_model(
        """g (float[4] X) => (float[4] Y, int64[K] I) {
             C = Clip (X, , high)
             Y = Identity (C)
             U, I = Unique (X)
           }""",
        high=np.float32(1),
    )
    assert round_trip(before) == before


def test_functions_of_the_user(round_trip, run_ort):
    before = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "my": 1]>
           g (float[2] X) => (float[2] Y) { Y = my.Scale <by = 3.0> (X) }
           <domain: "my", opset_import: ["": 17]>
           Scale <by> (x) => (y) { c = Constant <value_float: float = @by> ()
                                   y = Mul (x, c) }"""
    )
    before.functions[0].doc_string = "times by"
    after = round_trip(before)
    assert after == before
    assert run_ort(after, {"X": np.ones(2, np.float32)})[0].tolist() == [3, 3]


@pytest.fixture
def branching(text_model, normal):
    return text_model(
        """g (float[N,64] X, bool c) => (float[N,96] Y) {
             Y = If (c) <
               then_branch = t () => (float[N,96] A) { P = Neg (X)
                                                       A = MatMul (P, W) },
               else_branch = e () => (float[N,96] B) { B = MatMul (X, W) }>
           }""",
        W=normal(64, 96),
    )


def test_constants_that_only_subgraphs_read_stay_outside(
    branching, round_trip, run_ort, normal, tmp_path
):
    onnx.save(branching, tmp_path / "m.onnx")
    for source in (branching, tmp_path / "m.onnx"):
        after = round_trip(source)
        assert after.graph.initializer == branching.graph.initializer
        assert not any(a.g.initializer for a in after.graph.node[0].attribute if a.name[0] == "t")
        for chosen in (True, False):
            feeds = {"X": normal(2, 64), "c": np.array(chosen)}
            assert np.array_equal(run_ort(after, feeds), run_ort(branching, feeds))


def test_notes_inside_subgraphs(branching, round_trip):
    def inner(model):
        branch = next(a.g for a in model.graph.node[0].attribute if a.name == "then_branch")
        return branch.node[0]

    inner(branching).doc_string = "a line"
    inner(branching).metadata_props.add(key="k", value="v")
    assert inner(round_trip(branching)) == inner(branching)


def test_attributes_of_every_kind_that_is_kept(text_model, round_trip):
    before = text_model("g (float[2] X) => (float[2] Y) { Y = my.Op (X) }")
    before.opset_import.append(helper.make_opsetid("my", 1))
    node = before.graph.node[0]
    for name, value in {
        "f": 0.1,
        "i": 3,
        "s": "text",
        "fs": [0.1, 2.0],
        "is": [1, 2],
        "ss": ["a", "b"],
        "t": numpy_helper.from_array(np.array([1.5], np.float16), "named"),
        "g": helper.make_graph([], "inner", [], []),
    }.items():
        node.attribute.append(helper.make_attribute(name, value))
    assert round_trip(before) == before


def external(model, folder, **options):
    path = folder / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, size_threshold=0, **options)
    return path


@pytest.mark.parametrize("together", [True, False])
def test_external_data_comes_in(model, tmp_path, round_trip, together):
    whole = onnx.ModelProto.FromString(model.SerializeToString())
    name = {"location": "weights.bin"} if together else {}
    path = external(model, tmp_path, all_tensors_to_one_file=together, **name)
    assert round_trip(path) == whole


def test_external_data_of_the_real_model(minilm, tmp_path, tokens, round_trip, run_ort):
    path = external(onnx.load(minilm), tmp_path, location="weights.bin")
    after = round_trip(path)
    for have, want in zip(run_ort(after, tokens), run_ort(minilm, tokens), strict=True):
        assert np.array_equal(have, want)


def test_external_data_without_offset_or_length(model, tmp_path, round_trip):
    whole = onnx.ModelProto.FromString(model.SerializeToString())
    path = external(model, tmp_path, all_tensors_to_one_file=False)
    shell = onnx.load(path, load_external_data=False)
    for tensor in shell.graph.initializer:
        kept = [entry for entry in tensor.external_data if entry.key == "location"]
        del tensor.external_data[:]
        tensor.external_data.extend(kept)
    path.write_bytes(shell.SerializeToString())
    assert round_trip(path) == whole


def test_dynamic_shapes(bert, round_trip, run_ort):
    after = round_trip(bert)
    for batch, length in ((1, 1), (3, 17)):
        ids = np.random.default_rng(0).integers(0, 1000, (batch, length))
        feeds = {v.name: ids if v.name == "input_ids" else ids % 2 for v in bert.graph.input}
        assert np.array_equal(run_ort(after, feeds)[0], run_ort(bert, feeds)[0])
