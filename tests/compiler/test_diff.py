"""What is a difference of two models, and what is none."""

import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sardonyx.compiler import compile
from sardonyx.compiler.diff import diff
from sardonyx.compiler.model_diff import ModelDiff
from sardonyx.models import BERT_BASE, seeded_bert
from sardonyx.runtime_ops.errors import InputError

TEXT = """
g (float[N,64] X) => (float[N,96] Y) {
  Z = MatMul (X, W)
  A = Add (Z, B)
  S = Softmax <axis = 1> (A)
  Y = Relu (S)
}
"""


@pytest.fixture
def model(text_model, normal):
    return text_model(TEXT, W=normal(64, 96), B=normal(96))


def changed(model, edit):
    """A copy of a model with a change."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    edit(copy)
    return copy


def swap_names(model):
    for node in model.graph.node:
        node.name = f"other {node.op_type}"
        node.doc_string = "said"
        node.metadata_props.add(key="k", value="v")


def reverse_initializers(model):
    tensors = list(model.graph.initializer)[::-1]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)


def store_as_numbers(model):
    tensor = model.graph.initializer[1]
    tensor.float_data.extend(numpy_helper.to_array(tensor).tolist())
    tensor.ClearField("raw_data")


NO_DIFFERENCE = [lambda model: None, swap_names, reverse_initializers, store_as_numbers]


@pytest.mark.parametrize("edit", NO_DIFFERENCE)
def test_no_difference(differ, model, edit):
    found = differ(model, changed(model, edit))
    assert found.same
    assert (found.tensors_same, found.nodes_same) == (2, 4)
    assert all((op.a, op.bytes_a) == (op.b, op.bytes_b) for op in found.ops)


def test_where_the_data_lie_is_no_difference(differ, model):
    options = {"save_as_external_data": True, "location": "b.data", "size_threshold": 0}
    assert differ(model, changed(model, lambda model: None), **options).same


def set_values(model):
    values = numpy_helper.to_array(model.graph.initializer[1]).copy()
    values[5] += 1e-6
    model.graph.initializer[1].raw_data = values.tobytes()


def halve(model):
    values = numpy_helper.to_array(model.graph.initializer[1]).astype(np.float16)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(values, "B"))


def widen(model):
    model.graph.initializer[1].dims.insert(0, 1)


def flatten_and_halve(model):
    halve(model)
    widen(model)


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (set_values, ["values"]),
        (halve, ["format"]),
        (widen, ["shape"]),
        (flatten_and_halve, ["format", "shape"]),
    ],
)
def test_a_changed_constant(differ, model, edit, what):
    found = differ(model, changed(model, edit))
    (change,) = found.tensors_changed
    assert (change.a.name, change.what, found.same) == ("B", what, False)
    assert (found.tensors_same, found.nodes_same, found.nodes_changed) == (1, 4, [])
    assert change.a.read_by == "Add"


def set_attribute(model):
    model.graph.node[2].attribute[0].i = 0


def rewire(model):
    model.graph.node[3].input[0] = "A"


def replace_op(model):
    model.graph.node[3].op_type = "Sigmoid"


def move_op(model):
    model.graph.node[3].domain = "elsewhere"


def add_output(model):
    model.graph.node[2].output.append("more")


@pytest.mark.parametrize(
    ("edit", "ops", "what"),
    [
        (set_attribute, ("Softmax", "Softmax"), ["attributes"]),
        (rewire, ("Relu", "Relu"), ["inputs"]),
        (replace_op, ("Relu", "Sigmoid"), ["op"]),
        (move_op, ("Relu", "elsewhere.Relu"), ["op"]),
        (add_output, ("Softmax", "Softmax"), ["outputs"]),
    ],
)
def test_a_changed_node(differ, model, edit, ops, what):
    found = differ(model, changed(model, edit))
    (change,) = found.nodes_changed
    assert ((change.a.op, change.b.op), change.what, found.same) == (ops, what, False)
    assert (found.nodes_same, found.tensors_same, found.nodes_only_a) == (3, 2, [])
    assert sum(op.a for op in found.ops) == sum(op.b for op in found.ops) == 4


def test_what_only_one_holds(differ, model):
    def drop(model):
        del model.graph.node[1]
        del model.graph.initializer[1]
        model.graph.node[1].input[0] = "Z"

    less = changed(model, drop)
    found, turned = differ(model, less), differ(less, model)
    assert [node.op for node in found.nodes_only_a] == ["Add"]
    assert [tensor.name for tensor in found.tensors_only_a] == ["B"]
    assert found.nodes_only_a == turned.nodes_only_b
    assert found.tensors_only_a == turned.tensors_only_b
    assert (found.nodes_only_b, found.tensors_only_b, found.same) == ([], [], False)
    add = next(op for op in found.ops if op.op == "Add")
    assert (add.a, add.b, add.bytes_a, add.bytes_b) == (1, 0, 384, 0)


def newer(model):
    model.opset_import[0].version = 18


def rename_input(model):
    model.graph.input[0].name = model.graph.node[0].input[0] = "X2"


def retype_output(model):
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


def note(model):
    model.metadata_props.add(key="author", value="me")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (newer, [("opset ai.onnx", "17", "18")]),
        (retype_output, [("output Y", "float [N, 96]", "double [N, 96]")]),
        (note, [("metadata author", "", "me")]),
        (lambda model: setattr(model, "ir_version", 9), [("IR version", "8", "9")]),
        (lambda model: setattr(model, "producer_name", "p"), [("producer", "", "p")]),
        (
            rename_input,
            [("inputs", "X", "X2"), ("input X", "float [N, 64]", "")]
            + [("input X2", "", "float [N, 64]")],
        ),
    ],
)
def test_what_is_said_of_the_whole_model(differ, model, edit, said):
    found = differ(model, changed(model, edit))
    assert [(change.what, change.a, change.b) for change in found.header] == said
    assert not found.same


IF = """
g (bool C, float[N,4] X) => (float[N,4] Y) {
  Y = If (C) <
    then_branch = t () => (float[N,4] A) { A = Add (X, V) },
    else_branch = e () => (float[N,4] A) { K = Constant <value = float[4] {1, 2, 3, 4}> ()
      A = Mul (X, K) }
  >
}
"""


def test_inside_the_bodies_of_an_if(differ, text_model):
    model = text_model(IF, V=np.ones(4, np.float32))

    def edit(model):
        inside = model.graph.node[0].attribute[1].g
        inside.node[1].op_type = "Div"
        inside.node[0].attribute[0].t.CopyFrom(numpy_helper.from_array(np.zeros(4, np.float32)))

    found = differ(model, changed(model, edit))
    assert [(op.op, op.where, op.a, op.b) for op in found.ops] == [
        ("Add", "body", 1, 1),
        ("Constant", "body", 1, 1),
        ("Div", "body", 0, 1),
        ("If", "graph", 1, 1),
        ("Mul", "body", 1, 0),
    ]
    (node,) = found.nodes_changed
    (tensor,) = found.tensors_changed
    assert (node.a.name, node.what) == ("Y.else_branch/A", ["op"])
    assert (tensor.a.name, tensor.what) == ("Y.else_branch/K", ["values"])
    assert (found.a.nodes, found.a.body_nodes) == (1, 3)


WEIGHTS = """
g (bool C, float[N,64] X) => (float[N,96] Y) {
  Y = If (C) <
    then_branch = t () => (float[N,96] A) { A = MatMul (X, V) },
    else_branch = e () => (float[N,96] A) { A = MatMul (X, W) }
  >
}
"""


def test_weights_of_bodies_are_matched(differ, text_model, normal):
    model = text_model(WEIGHTS, V=normal(64, 96))
    inside = model.graph.node[0].attribute[1].g
    inside.initializer.append(numpy_helper.from_array(normal(64, 96, seed=1), "W"))
    found = differ(model, compile(model, "gobo").model)
    names = [(change.a.name, change.b.format) for change in found.tensors_changed]
    assert names == [("V", "codebook3/tensor"), ("Y.else_branch/W", "codebook3/tensor")]
    assert found.tensors_only_a == found.tensors_only_b == []


def test_a_lifted_constant_is_the_same_constant(differ, text_model):
    plain = (
        "g (float[4] X) => (float[4] Y) { K = Constant <value = float[1] {2}> () Y = Mul (X, K) }"
    )
    lifted = text_model("g (float[4] X) => (float[4] Y) { Y = Mul (X, K) }", K=np.float32([2]))
    found = differ(text_model(plain), lifted)
    assert found.same
    assert [(op.op, op.a, op.b) for op in found.ops] == [("Constant", 1, 0), ("Mul", 1, 1)]


def test_a_compiled_model_against_its_source(differ, bert):
    compiled = compile(bert, "gobo", until="gobo")
    found = differ(bert, compiled.model)
    report = {entry.name: entry for entry in compiled.report.tensors}
    assert [change.a.name for change in found.tensors_changed] == list(report)
    for change in found.tensors_changed:
        entry = report[change.a.name]
        assert (change.what, change.a.format) == (["format"], "float32")
        assert (change.b.format, change.b.bytes) == (entry.format, entry.bytes_after)
        assert (change.a.bytes, change.a.shape) == (entry.bytes_before, change.b.shape)
    assert found.tensors_only_a == found.tensors_only_b == []
    assert found.nodes_only_a == found.nodes_only_b == []
    assert {(c.a.op, c.b.op) for c in found.nodes_changed} == {
        ("MatMul", "GoboMatMul3"),
        ("Gather", "GoboGather4"),
    }
    assert list(found.b.functions) == ["sardonyx.GoboGather4", "sardonyx.GoboMatMul3"]
    assert found.a.bytes == len(bert.SerializeToString())
    assert found.b.bytes == compiled.report.totals.bytes_after
    for side in ("a", "b"):
        by_op = sum(getattr(op, f"bytes_{side}") for op in found.ops)
        by_format = sum(getattr(form, f"bytes_{side}") for form in found.formats)
        assert by_op == by_format < getattr(found, side).bytes


def test_two_compiled_forms(differ, bert):
    three, four = compile(bert, "gobo").model, compile(bert, "gobo4").model
    found = differ(three, four)
    assert {(c.a.format, c.b.format) for c in found.tensors_changed} == {
        ("codebook3/tensor", "codebook4/tensor")
    }
    assert len(found.tensors_changed) == 12
    assert differ(three, three).same
    optimal = compile(bert, "gobo").model
    weights = optimal.graph.initializer
    centroids = next(t for t in weights if t.name.endswith("query.weight.centroids"))
    centroids.raw_data = centroids.raw_data[:-1] + b"\x00"
    (change,) = differ(three, optimal).tensors_changed
    assert (change.what, change.a.format) == (["values"], "codebook3/tensor")


def test_tied_weights_are_matched_under_both_names(differ, text_model, normal):
    table = normal(96, 64)
    model = text_model(
        """
        g (int64[N] I, float[N,96] X) => (float[N,64] E, float[N,64] Y) {
          E = Gather (W, I)
          Y = MatMul (X, V)
        }
        """,
        W=table,
        V=np.ascontiguousarray(table),
    )
    turned = text_model(
        """
        g (int64[N] I, float[N,64] X) => (float[N,64] E, float[N,96] Y) {
          E = Gather (W, I)
          Y = MatMul (X, V)
        }
        """,
        W=table,
        V=np.ascontiguousarray(table.T),
    )
    for source in (model, turned):
        found = differ(source, compile(source, "gobo").model)
        first, second = found.tensors_changed[:2]
        assert (first.a.name, second.a.name) == ("W", "V")
        assert first.what == second.what == ["format"]
        assert found.tensors_only_a == found.tensors_only_b == []


def test_functions_that_differ(differ, bert):
    model = compile(bert, "gobo").model

    def edit(model):
        model.functions[0].node[0].name = "renamed"

    found = differ(model, changed(model, edit))
    assert found.functions_changed == ["sardonyx.GoboGather4"]
    assert not found.same


def test_json_is_validated_and_whole(differ, bert):
    found = differ(bert, compile(bert, "gobo").model)
    text = found.to_json()
    assert '"schema": 1' in text
    assert ModelDiff.model_validate_json(text) == found


@pytest.mark.parametrize("side", [0, 1])
def test_a_file_that_is_no_model(bert_file, tmp_path, side):
    (tmp_path / "no.onnx").write_bytes(b"no model")
    paths = [bert_file, bert_file]
    paths[side] = tmp_path / "no.onnx"
    with pytest.raises(InputError, match=r"no\.onnx' is not an ONNX model"):
        diff(*paths)


PEAK = """
from sardonyx.compiler.diff import diff
from sardonyx.compiler.summarize import peak_rss_bytes
before = peak_rss_bytes()
assert diff("a.onnx", "b.onnx").tensors_same
print(peak_rss_bytes() - before)
"""


@pytest.mark.slow
def test_weights_are_not_loaded(tmp_path):
    onnx.save(seeded_bert(BERT_BASE, 0), tmp_path / "a.onnx")
    shutil.copy(tmp_path / "a.onnx", tmp_path / "b.onnx")
    ran = subprocess.check_output([sys.executable, "-c", PEAK], cwd=tmp_path)
    # pages of the file that a walk over its headers maps count as memory; both files are two
    assert int(ran) < 0.6 * (tmp_path / "a.onnx").stat().st_size
