"""load: what cannot be compiled safely is refused, in one sentence that names the culprit."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sardonyx.compiler.load import load
from sardonyx.compiler.pipeline import compile
from sardonyx.models import TINY_BERT, seeded_bert
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
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_overload_of_a_node(model):
    model.ir_version = 10
    model.graph.node[0].overload = "fast"
    assert refusal(model) == "the model: node 'dense' calls an overload: not supported"


def test_overload_of_a_function(model):
    model.ir_version = 10
    model.functions.append(helper.make_function("my", "F", [], [], [], [], overload="fast"))
    assert refusal(model) == "the model: function 'F' has an overload: not supported"


def test_a_function_of_another_opset_cannot_be_inlined(model):
    opset = next(opset.version for opset in model.opset_import if not opset.domain)
    neg = helper.make_node("Neg", ["a"], ["b"])
    imports = [helper.make_opsetid("", opset + 1)]
    model.functions.append(helper.make_function("my", "F", ["a"], ["b"], [neg], imports))
    model.opset_import.append(helper.make_opsetid("my", 1))
    output = model.graph.node[-1].output[0]
    model.graph.node[-1].output[0] = "last"
    model.graph.node.append(helper.make_node("F", ["last"], [output], domain="my"))
    load(model)  # where it may stay
    with pytest.raises(InputError, match=r"^the model: its functions cannot be inlined: [^\n]+$"):
        load(model, inline_all=True)


@pytest.mark.parametrize(
    ("op", "shape"), [("GoboMatMul99", [4, 4]), ("GoboMatMul3", [4]), ("GoboGather4", [4, 0])]
)
def test_ops_of_ours_that_are_none(model, op, shape):
    node = helper.make_node(op, ["X"], ["z"], "later", domain="sardonyx", shape=shape)
    model.graph.node.append(node)
    assert refusal(model) == (
        f"the model: {op} 'later' of domain sardonyx is no op that this version of Sardonyx knows: "
        "compile the original again"
    )


@pytest.mark.parametrize("compute", ["int4", 8, "\ud800"])
def test_a_way_to_compute_that_is_none(model, compute):
    value = compute.encode("utf-8", "surrogatepass") if isinstance(compute, str) else compute
    attributes = {"shape": [4, 4], "compute": value}
    node = helper.make_node("GoboMatMul3", ["X"], ["z"], "later", domain="sardonyx", **attributes)
    model.graph.node.append(node)
    assert "'later' of domain sardonyx is no op that this version" in refusal(model)


@pytest.mark.parametrize("deep", [False, True])
def test_attributes_that_would_be_lost(model, deep):
    graph = helper.make_graph([], "inner", [], [])
    node = helper.make_node("Op", [], ["z"], "culprit", domain="my", extra=[graph])
    if deep:
        inner = helper.make_graph([node], "inner", [], [])
        node = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    model.graph.node.append(node)
    assert refusal(model) == (
        "the model: attribute 'extra' of Op 'culprit' is a list of graphs: not supported"
    )


@pytest.mark.parametrize("value", [b"\xff", [b"fine", b"\xff"]])
def test_attributes_that_are_no_text(model, value):
    model.graph.node.append(helper.make_node("Op", [], ["z"], "culprit", domain="my", extra=value))
    assert refusal(model) == (
        "the model: attribute 'extra' of Op 'culprit' is not UTF-8 text: not supported"
    )


@pytest.mark.parametrize("hidden", ["W", "X", "H"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_body_whose_constant_hides_something_around_it(text_model, hidden, deep):
    """ONNX forbids it, onnx.checker and onnxruntime let it pass."""
    inner = """If (c) <
      then_branch = t () => (float[8] A) { A = Neg (U) },
      else_branch = e () => (float[8] B) { B = Relu (H) }>"""
    outer = f"""If (c) <
      then_branch = o () => (float[8] C) {{ C = {inner} }},
      else_branch = p () => (float[8] D) {{ D = Relu (H) }}>"""
    nodes = f"H = Add (X, W)\n Y = {outer if deep else inner}"
    model = text_model(
        f"g (float[8] X, bool c) => (float[8] Y) {{ {nodes} }}", W=np.ones(8, np.float32)
    )
    model.graph.node[1].name = "branch"
    node = model.graph.node[1]
    while node.attribute[0].g.name != "t":
        node = node.attribute[0].g.node[0]
        node.name = "branch"
    branch = node.attribute[0].g
    branch.initializer.append(numpy_helper.from_array(np.zeros(8, np.float32), "U"))
    load(model)
    branch.node[0].input[0] = branch.initializer[0].name = hidden
    assert refusal(model) == (
        f"the model: a body of If 'branch' has a constant called '{hidden}', as something around "
        "it is called: give it a name of its own"
    )


@pytest.mark.parametrize("opset", [27, 99])
def test_unknown_opset(model, opset):
    model.opset_import[0].version = opset
    assert refusal(model).startswith(f"the model uses opset {opset}; opsets 1 to 26 are known: con")


@pytest.mark.parametrize("opset", [0, 5, 12])
def test_an_opset_that_cannot_be_quantized(model, opset):
    model.opset_import[0].version = opset
    if not opset:
        model.opset_import[0].domain = model.graph.node[0].domain = "my"
    with pytest.raises(InputError) as caught:
        compile(model, "gobo")
    wanted = f"the model uses opset {opset}; weights can be" if opset else "the model imports no st"
    assert str(caught.value).startswith(wanted)
    assert load(model)[0].opset == opset


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_an_opset_imported_twice(model, domain):
    model.opset_import.append(helper.make_opsetid(domain, 18))
    assert refusal(model) == "the model imports operator set 'ai.onnx' twice"


@pytest.mark.parametrize("ir_version", [1, 2, 14, 99])
def test_unknown_ir(model, ir_version):
    model.ir_version = ir_version
    assert refusal(model).startswith(f"the model has IR version {ir_version}; versions 3 to 13 are")


def test_no_graph(model):
    model.ClearField("graph")
    assert refusal(model) == "the model is not an ONNX model: it holds no graph"


def test_opset_of_the_long_domain_name(model):
    model.opset_import[0].domain = "ai.onnx"
    source, _ = load(model)
    assert source.opset == 17


def test_a_graph_that_the_checker_refuses(model):
    model.graph.node[0].input[0] = "nobody"
    assert "not a valid ONNX model: Nodes in a graph must be topologically sorted" in refusal(model)
    model.graph.node[0].input[0] = "X"
    model.graph.node[0].op_type = "NoSuchOp"
    assert "No Op registered for NoSuchOp" in refusal(model)


def test_types_and_shapes_that_contradict(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 65
    assert refusal(model) == (
        "the model is not a valid ONNX model: (op_type:MatMul, node name: dense): "
        "[ShapeInferenceError] Incompatible dimensions for matrix multiplication"
    )
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 64
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    assert "(op_type:MatMul, node name: dense): B has inconsistent type" in refusal(model)
    model.graph.input[0].type.tensor_type.elem_type = 99
    assert refusal(model) == "the model is not a valid ONNX model: Invalid tensor data type 99"


def test_no_output(model):
    del model.graph.output[:]
    assert refusal(model) == "the model is not a valid ONNX model: its graph has no output"


@pytest.mark.parametrize("change", [-4, 4, -20000])
def test_inline_data_of_another_length(model, tmp_path, change):
    data = model.graph.initializer[0].raw_data
    model.graph.initializer[0].raw_data = data[:change] if change < 0 else data + bytes(change)
    onnx.save(model, tmp_path / "m.onnx")
    have = len(model.graph.initializer[0].raw_data)
    assert refusal(tmp_path / "m.onnx") == (
        f"'{tmp_path / 'm.onnx'}' is not a valid ONNX model: initializer 'W' has {have} bytes of "
        "data where 24576 are needed"
    )
    assert "not a valid ONNX model" in refusal(model)


def test_inline_data_of_an_unknown_type(model, tmp_path):
    model.graph.initializer[0].data_type = 99
    onnx.save(model, tmp_path / "m.onnx")
    assert "'W'" in refusal(tmp_path / "m.onnx")


def external(model, folder, location="w.bin", **more):
    """The model with its weight in another file, at a location of our choice."""
    (folder / "w.bin").write_bytes(model.graph.initializer[0].raw_data)
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        weight.external_data.add(key=key, value=str(value))
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def test_external_data_that_is_missing(model, tmp_path):
    path = external(model, tmp_path)
    (tmp_path / "w.bin").unlink()
    assert refusal(path) == (
        f"'{path}': external data of 'W' is missing: put 'w.bin' beside the model"
    )


@pytest.mark.parametrize(
    ("more", "left"),
    [
        ({}, 24575),
        ({"length": 24576}, 0),
        ({"offset": 1}, 24576),
        ({"offset": -1}, 24576),
        ({"length": 24572}, 24576),
        ({"offset": 1 << 62}, 24576),
    ],
)
def test_external_data_that_is_short(model, tmp_path, more, left):
    path = external(model, tmp_path, **more)
    os.truncate(tmp_path / "w.bin", left)
    text = refusal(path)
    assert text.startswith(f"'{path}': external data of 'W' needs 24576 bytes from byte ")
    assert text.endswith(f"of 'w.bin', which holds {left}: copy the whole file again")


def test_external_data_at_an_offset_that_is_no_number(model, tmp_path):
    text = refusal(external(model, tmp_path, offset="far"))
    assert text.endswith("external data of 'W' has an offset or length that is no number")


@pytest.mark.parametrize("location", ["../w.bin", "sub/../../w.bin", "", "{tmp}/inside/w.bin"])
def test_external_data_outside_the_folder(model, tmp_path, location):
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(model.graph.initializer[0].raw_data)
    location = location.replace("{tmp}", str(tmp_path))
    text = refusal(external(model, folder, location))
    assert text.endswith(f"data of 'W' is at '{location}', outside the model's folder: refused")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_external_data_behind_a_link_out(model, tmp_path, kind):
    folder, outside = tmp_path / "inside", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "w.bin").write_bytes(model.graph.initializer[0].raw_data)
    location = "link/w.bin" if kind == "folder" else "link"
    path = external(model, folder, location)
    (folder / "link").symlink_to(outside if kind == "folder" else outside / "w.bin")
    text = refusal(path)
    assert text.endswith(f"is at '{location}', a link out of the model's folder: refused")


def test_external_data_behind_a_link_inside(model, tmp_path):
    path = external(model, tmp_path, "link")
    (tmp_path / "link").symlink_to("w.bin")
    assert load(path)[0].files == {path, tmp_path / "link"}


def test_external_data_of_a_constant_inside_a_node(model, tmp_path):
    weight = numpy_helper.from_array(np.ones((64, 96), np.float32), "W")
    del model.graph.initializer[:]
    model.graph.node.insert(0, helper.make_node("Constant", [], ["W"], "culprit", value=weight))
    (tmp_path / "w.bin").write_bytes(weight.raw_data)
    inside = model.graph.node[0].attribute[0].t
    inside.ClearField("raw_data")
    inside.data_location = TensorProto.EXTERNAL
    inside.external_data.add(key="location", value="w.bin")
    onnx.save(model, tmp_path / "m.onnx")
    assert refusal(tmp_path / "m.onnx") == (
        f"'{tmp_path / 'm.onnx'}': attribute 'value' of Constant 'culprit' keeps data in another "
        "file: only dense initializers may"
    )


def test_the_model_given_is_left_as_it_is(bert):
    before = bert.SerializeToString()
    compile(bert, "gobo", verify="off")
    assert bert.SerializeToString() == before


def test_weights_stay_in_the_file(minilm):
    source, graph = load(minilm)
    assert source.model.ByteSize() < 200_000
    assert all(t._values.span for t in graph.tensors().values() if t.name.startswith("onnx::MatM"))


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        ("Q = Relu (X)", (np.float32, ["a", 6])),
        ("Q = Concat <axis = 0> (X, X)", (np.float32, [None, 6])),
        ("Q = Concat <axis = 1> (X, X)", (np.float32, ["a", None])),
        ("Q = Reshape (X, flat)", (np.float32, None)),
        ("Q = IsNaN (X)", (None, None)),
    ],
)
def test_types_of_a_name_that_bodies_use_differently(text_model, other, shared):
    text = f"""g (float[a,6] X, bool c) => (int64[0] Y) {{
      Z = If (c) <then_branch = t () => (float[p,q] P) {{ Q = Abs (X)\n P = Identity (Q) }},
                  else_branch = e () => (float[p,q] P) {{ {other}\n P = Neg (X) }}>
      Y = Shape (c)
    }}"""
    _, graph = load(text_model(text, flat=[-1]))
    held = [body.nodes[0].outputs[0] for body in graph.nodes[0].subgraphs()]
    assert [(tensor.dtype, tensor.shape) for tensor in held] == [shared, shared]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    onnx.save(seeded_bert(TINY_BERT, 0), folder / "m.onnx")
    data = bytearray((folder / "m.onnx").read_bytes())
    return folder, data


@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1),
    st.booleans(),
)
def test_damaged_bytes_are_refused_or_read(seeds, damage, at_the_start):
    folder, data = seeds
    damaged = bytearray(data)
    for place, byte in damage:
        span = 30_000 if at_the_start else len(data)  # the start holds the nodes
        damaged[int(place * span)] = byte
    (folder / "damaged.onnx").write_bytes(damaged)
    try:
        load(Path(folder / "damaged.onnx"))
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 (it need not be refused)
