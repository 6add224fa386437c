"""Reading a file without its weights gives what onnx.load gives, or one clear sentence."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sardonyx.compiler.model_file import read_model
from sardonyx.compiler.stored import StoredValues, fill, point
from sardonyx.runtime_ops.errors import InputError

DTYPES = [np.float32, np.float16, np.int64, np.uint8, np.bool_, np.float64]


@st.composite
def models(draw):
    """Models whose initializers lie around the size from which data is left in the file."""
    weights = []
    for number in range(draw(st.integers(0, 5))):
        dtype = np.dtype(draw(st.sampled_from(DTYPES)))
        shape = draw(st.sampled_from([(), (0,), (7,), (4096,), (64, 70), (3, 5, 300)]))
        values = np.random.default_rng(number).integers(0, 2, shape).astype(dtype)
        tensor = numpy_helper.from_array(
            values, draw(st.sampled_from(["", "w", "ü"])) + str(number)
        )
        if draw(st.booleans()):
            tensor.doc_string = "x" * draw(st.sampled_from([1, 5000]))
        weights.append(tensor)
    if draw(st.booleans()):
        weights.append(helper.make_tensor("typed", TensorProto.FLOAT, [2000], np.arange(2000.0)))
    node = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.arange(2000)))
    graph = helper.make_graph([node], "g", [], [], weights, "doc" * draw(st.integers(0, 2000)))
    model = helper.make_model(graph, doc_string="model" * draw(st.integers(0, 2000)))
    model.metadata_props.add(key="k", value="v")
    return model


@given(models())
def test_model_and_spans_make_what_onnx_loads(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("m") / "m.onnx"
    path.write_bytes(model.SerializeToString())
    read, spans = read_model(path)
    assert [s is not None for s in spans] == [
        len(t.raw_data) >= 4096 for t in model.graph.initializer
    ]
    for tensor, span in zip(read.graph.initializer, spans, strict=True):
        if span:
            point(tensor, span)
            stored = StoredValues(tensor)
            assert np.array_equal(stored.load(), numpy_helper.to_array(stored.whole()))
            fill(tensor)
    assert read == onnx.load(path) == model


def test_sample_reads_single_values(tmp_path, normal):
    weights = numpy_helper.from_array(normal(80, 90), "w")
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], [weights])), tmp_path / "m")
    read, spans = read_model(tmp_path / "m")
    places = np.array([7199, 0, 91])
    point(read.graph.initializer[0], spans[0])
    stored = StoredValues(read.graph.initializer[0])
    assert np.array_equal(stored.sample(places), normal(80, 90).reshape(-1)[places])
    assert np.array_equal(StoredValues(weights).sample(places), stored.sample(places))


def test_what_is_read_cannot_be_written_to(tmp_path, normal):
    weights = numpy_helper.from_array(normal(80, 90), "w")
    with pytest.raises(ValueError, match="read-only"):
        StoredValues(weights).load()[0, 0] = 1


@pytest.fixture(scope="module")
def whole(text_model, normal):
    model = text_model(
        "g (float[N,64] X) => (float[N,96] Y) { Z = MatMul (X, W)\n Y = Add (Z, B) }",
        W=normal(64, 96),
        B=normal(96),
    )
    return model.SerializeToString()


def refusal(path):
    with pytest.raises(InputError) as caught:
        read_model(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_cut_is_refused(whole, tmp_path):
    path = tmp_path / "cut.onnx"
    header, tail = range(1, 200), range(len(whole) - 600, len(whole))
    opset = len(onnx.ModelProto.FromString(whole).opset_import[0].SerializeToString()) + 2
    for length in (*header, *range(200, len(whole), 997), *tail):
        path.write_bytes(whole[:length])
        if length in (2, len(whole) - opset):  # a whole IR version; a whole graph: no half fields
            model, _ = read_model(path)
            assert not model.opset_import
        else:
            refusal(path)


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_noise_is_refused_or_read(tmp_path_factory, noise):
    path = tmp_path_factory.getbasetemp() / "noise.onnx"
    path.write_bytes(noise)
    try:
        read_model(path)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 (it need not be refused)


def test_empty_missing_folder(tmp_path):
    (tmp_path / "empty.onnx").touch()
    assert "is empty" in refusal(tmp_path / "empty.onnx")
    assert refusal(tmp_path / "no.onnx").endswith("no.onnx': No such file or directory")
    assert refusal(tmp_path).endswith("Is a directory")


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"hello, world\n" * 100, b"\x00" * 64])
def test_other_files(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    assert "is not an ONNX model" in refusal(tmp_path / "m.onnx")
