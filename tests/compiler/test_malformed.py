"""Malformed files made from real ones: each is refused in one sentence, or was harmless."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from sardonyx.compiler import compile

CHANGES: dict[str, Callable[[ModelProto, Path], Any]] = {}
HARMLESS = set[str]()
FLOAT = TensorProto.FLOAT


def change(function: Callable[..., Any]) -> Callable[..., Any]:
    """Put a change of the small BERT in the table. It may return the bytes of the file itself."""
    CHANGES[function.__name__] = function
    return function


def harmless(function: Callable[..., Any]) -> Callable[..., Any]:
    """A change after which the file is still a model."""
    HARMLESS.add(function.__name__)
    return change(function)


def node(model: ModelProto, op: str) -> NodeProto:
    return next(n for n in model.graph.node if n.op_type == op)


def weight(model: ModelProto) -> TensorProto:
    return next(t for t in model.graph.initializer if t.name.endswith("query.weight"))


def attribute(of: NodeProto, name: str) -> AttributeProto:
    return next(a for a in of.attribute if a.name == name)


def resized(*dims: int) -> None:
    def change_dims(model: ModelProto, folder: Path) -> None:
        weight(model).dims[:] = dims

    CHANGES["dims_" + "_".join(map(str, dims))] = change_dims


for dims in ((-64, 64), (0, 64), (64, 0), (0,), (1 << 40, 64), (1 << 32, 1 << 32), (63, 64)):
    resized(*dims)
for dims in ((-64, -64), (1 << 62, 4, 64, 64), (4096,), (32, 128)):
    resized(*dims)


def cut(share: float) -> None:
    def cut_short(model: ModelProto, folder: Path) -> bytes:
        data = model.SerializeToString()
        return data[: int(len(data) * share)]

    CHANGES[f"cut_at_{share}"] = cut_short


for share in (0, 0.0001, 0.02, 0.5, 0.9999):
    cut(share)


def external(**entries: Any) -> None:
    def move_out(model: ModelProto, folder: Path) -> None:
        tensor = weight(model)
        (folder / "w.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in ({"location": "w.bin"} | entries).items():
            tensor.external_data.add(key=key, value=str(value))

    CHANGES["external_" + "_".join(f"{k}_{v}" for k, v in entries.items())] = move_out


external(location="../../secret")
external(location="/etc/passwd")
external(location="w.bin\0.onnx")
external(location="x" * 5000)
external(location=".")
external(offset=8)
external(offset=1 << 70)
external(offset=-4)
external(length=16380)
external(length="many")


@change
def a_cycle(model, folder):
    first, second = model.graph.node[2], model.graph.node[11]
    first.input[0] = second.output[0]


@change
def a_node_that_reads_itself(model, folder):
    node(model, "Add").input[0] = node(model, "Add").output[0]


@change
def two_nodes_of_one_output(model, folder):
    model.graph.node[1].output[0] = model.graph.node[0].output[0]


@change
def two_inputs_of_one_name(model, folder):
    model.graph.input[1].name = model.graph.input[0].name


@change
def an_output_named_like_an_initializer(model, folder):
    model.graph.node[0].output[0] = weight(model).name


@change
def an_input_that_nobody_makes(model, folder):
    node(model, "Softmax").input[0] = "nobody"


@change
def a_graph_output_that_nobody_makes(model, folder):
    model.graph.output[0].name = "nobody"


@change
def an_output_without_a_name(model, folder):
    model.graph.output[0].name = ""


@change
def an_unknown_type_of_an_initializer(model, folder):
    weight(model).data_type = 99


@change
def an_unknown_type_of_an_input(model, folder):
    model.graph.input[0].type.tensor_type.elem_type = 99


@change
def a_weight_of_another_type(model, folder):
    weight(model).data_type, weight(model).dims[1] = TensorProto.INT64, 32


@change
def name_of_a_node_not_utf8(model, folder):
    return model.SerializeToString().replace(b"/embeddings/Add_1", b"/embeddings/Ad\xff_1")


@change
def name_of_a_weight_not_utf8(model, folder):
    return model.SerializeToString().replace(
        b"0.attention.self.query.w", b"0.attention.self.qu\xffry.w"
    )


@change
def op_not_utf8(model, folder):
    return model.SerializeToString().replace(b"Softmax", b"Softma\xfe")


@change
def gather_axis_a_string(model, folder):
    gather = next(n for n in model.graph.node if n.op_type == "Gather" and n.attribute)
    gather.attribute[0].CopyFrom(helper.make_attribute("axis", "first"))


@change
def gather_by_floats(model, folder):
    node(model, "Gather").input[1] = weight(model).name


def gemm(model: ModelProto, **attributes: Any) -> None:
    """Another output, made by a Gemm of two weights."""
    name = weight(model).name
    model.graph.node.append(helper.make_node("Gemm", [name, name], ["G"], "gemm", **attributes))
    model.graph.output.append(helper.make_tensor_value_info("G", FLOAT, [64, 64]))


@harmless
def transpose_perm_too_short(model, folder):
    del attribute(node(model, "Transpose"), "perm").ints[1:]


@change
def transpose_perm_no_permutation(model, folder):
    attribute(node(model, "Transpose"), "perm").ints[:] = [0, 0, 0, 0]


@change
def cast_to_nowhere(model, folder):
    attribute(node(model, "Cast"), "to").i = 1000


@harmless
def constant_with_two_values(model, folder):
    node(model, "Constant").attribute.append(helper.make_attribute("value_int", 3))


@change
def matmul_with_one_input(model, folder):
    del node(model, "MatMul").input[1:]


@change
def an_unknown_op(model, folder):
    node(model, "MatMul").op_type = "MatMull"


@change
def an_unknown_domain(model, folder):
    node(model, "MatMul").domain = "org.nobody"


@change
def if_with_an_empty_branch(model, folder):
    empty = helper.make_graph([], "empty", [], [])
    branches = {"then_branch": empty, "else_branch": empty}
    model.graph.node.append(helper.make_node("If", ["input_ids"], ["Z"], "if", **branches))


def functions(model: ModelProto, *bodies: tuple[str, str]) -> None:
    """Functions that call each other, and a call of the first."""
    opsets = [*model.opset_import, helper.make_opsetid("my", 1)]
    for name, called in bodies:
        product = helper.make_node("MatMul", ["x", "x"], ["xx"])
        call = helper.make_node(called, ["xx"], ["y"], domain="my")
        made = helper.make_function("my", name, ["x"], ["y"], [product, call], opsets)
        model.functions.append(made)
    model.opset_import.append(helper.make_opsetid("my", 1))
    model.graph.node.append(
        helper.make_node(bodies[0][0], [weight(model).name], ["F"], domain="my")
    )
    model.graph.output.append(helper.make_tensor_value_info("F", FLOAT, [64, 64]))


@harmless  # it may be an op of a library
def a_function_that_nobody_defines(model, folder):
    functions(model, ("F", "Missing"))


@change
def typed_data_too_short(model, folder):
    weight(model).ClearField("raw_data")
    weight(model).float_data.extend([0.0] * 4095)


@harmless
def a_segment(model, folder):
    weight(model).segment.begin, weight(model).segment.end = 0, 1 << 40


@change
def a_negative_opset(model, folder):
    model.opset_import[0].version = -17


@change
def nan_in_a_weight(model, folder):
    values = np.array(numpy_helper.to_array(weight(model)))
    values[3, 4] = np.nan
    weight(model).raw_data = values.tobytes()


@change
def graphs_inside_graphs(model, folder):
    inner = helper.make_graph([], "deepest", [], [])
    for _ in range(30):  # protobuf itself goes no deeper
        branches = {"then_branch": inner, "else_branch": helper.make_graph([], "e", [], [])}
        inner = helper.make_graph([helper.make_node("If", ["c"], ["z"], **branches)], "g", [], [])
    model.graph.node.extend(inner.node)


@harmless
def nan_in_a_bias(model, folder):
    bias = next(t for t in model.graph.initializer if t.name.endswith("query.bias"))
    bias.raw_data = np.full(64, np.nan, np.float32).tobytes()


@change
def nodes_of_one_name(model, folder):
    for one in model.graph.node:
        one.name = "same"


@harmless
def an_empty_matrix_beside(model, folder):
    model.graph.initializer.append(numpy_helper.from_array(np.ones((0, 64), np.float32), "none"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((2, 0), np.float32), "left"))
    model.graph.node.append(helper.make_node("MatMul", ["left", "none"], ["E"], "empty"))
    model.graph.output.append(helper.make_tensor_value_info("E", FLOAT, [2, 64]))


def alone(name: str, make: Callable[[ModelProto], object]) -> None:
    CHANGES[name] = lambda model, folder: make(model)


ALONE: dict[str, Callable[[ModelProto], object]] = {
    "no_graph": lambda m: m.ClearField("graph"),
    "empty_graph": lambda m: m.graph.Clear(),
    "no_output": lambda m: m.graph.ClearField("output"),
    "no_opset": lambda m: m.ClearField("opset_import"),
    "two_opsets": lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 13)),
    "two_initializers_of_one_name": lambda m: m.graph.initializer.append(weight(m)),
    "an_input_without_a_type": lambda m: m.graph.input[0].ClearField("type"),
    "raw_and_typed_data": lambda m: weight(m).float_data.extend([0.0] * 4096),
    "constant_without_value": lambda m: node(m, "Constant").ClearField("attribute"),
    "constant_with_an_empty_tensor_message": lambda m: node(m, "Constant").attribute[0].t.Clear(),
    "constant_without_outputs": lambda m: node(m, "Constant").ClearField("output"),
    "constant_of_another_type": lambda m: (
        node(m, "Constant")
        .attribute[0]
        .CopyFrom(AttributeProto(name="value_floats", type=AttributeProto.STRING, s=b"many"))
    ),
    "an_initializer_without_a_name": lambda m: m.graph.initializer.add(dims=[0], data_type=FLOAT),
    "matmul_without_outputs": lambda m: node(m, "MatMul").ClearField("output"),
    "matmul_with_three_inputs": lambda m: node(m, "MatMul").input.append(weight(m).name),
    "gather_axis_too_large": lambda m: node(m, "Gather").attribute.append(
        helper.make_attribute("axis", 7)
    ),
    "if_without_branches": lambda m: m.graph.node.append(
        helper.make_node("If", ["input_ids"], ["Z"], "if")
    ),
    "gemm_transb_a_string": lambda m: gemm(m, transB="yes"),
    "gemm_with_an_unknown_attribute": lambda m: gemm(m, transC=1),
    "a_function_that_calls_itself": lambda m: functions(m, ("F", "F")),
    "functions_that_call_each_other": lambda m: functions(m, ("F", "G"), ("G", "F")),
}
for name, make in ALONE.items():
    alone(name, make)


UNRUN = {"transpose_perm_too_short", "a_function_that_nobody_defines"}
"""Harmless as far as anybody sees before they run."""


def written(name: str, model: ModelProto, folder: Path) -> Path:
    """The file that a change makes of a model, in a folder of its own."""
    folder.mkdir()
    copy = ModelProto()
    copy.CopyFrom(model)
    data = CHANGES[name](copy, folder)
    data = data if isinstance(data, bytes) else copy.SerializeToString()
    (folder / "m.onnx").write_bytes(data)
    return folder / "m.onnx"


def test_malformed(bert, judge, tmp_path):
    paths = [written(name, bert, tmp_path / str(i)) for i, name in enumerate(CHANGES)]
    codes = dict(zip(CHANGES, judge(paths), strict=True))
    assert codes == {name: int(name not in HARMLESS) for name in CHANGES}


@pytest.mark.parametrize("name", sorted(HARMLESS - UNRUN))
def test_harmless(bert, tmp_path, name):
    path = written(name, bert, tmp_path / "source")
    assert compile(path, "gobo", verify="full").report.verification.model_difference == 0
