"""What passes watch is what onnxruntime computes, sample by sample, however samples come."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest

from sardonyx.compiler import InputError, Recipe, VerificationError, compile
from sardonyx.passes.base import Pass
from sardonyx.passes.quantize.observers.channel_range import ChannelRange
from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.observers.row_sample import RowSample

MODEL = """g (float[N,4] X) => (float[N,3] Y) {
  A = MatMul (X, W)
  B = Relu (A)
  Y = Add (B, B)
}"""


@pytest.fixture
def small(text_model, normal):
    """Two axes, one product, one Relu."""
    return text_model(MODEL, W=normal(4, 3))


@pytest.fixture
def values():
    """Five samples of the small model."""
    return np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)


def tapped(model, name):
    """The model with one more output, by hand."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    copy.graph.output.append(onnx.ValueInfoProto(name=name))
    return copy


def test_of_inputs_values_between_and_outputs(measure, run_ort, small, values):
    told = measure(small, "X A B Y", [{"X": values}])
    inside = run_ort(tapped(small, "A"), {"X": values})[-1]
    assert told["X"].values.tolist() == values.ravel().tolist()
    assert told["Y"].values.tolist() == run_ort(small, {"X": values})[0].ravel().tolist()
    assert told["A"].values.tolist() == inside.ravel().tolist()
    assert told["B"].values.tolist() == np.maximum(inside, 0).ravel().tolist()
    assert told["A"].shapes.tolist() == ["1x3"] * 5


def test_the_graph_is_left_as_it_is(measure, small, values):
    compiled = measure(small, "A B", [{"X": values}]).compiled
    assert compiled.model.SerializeToString() == (
        compile(small, Recipe("watching", "", ())).model.SerializeToString()
    )


def test_several_statistics_of_a_tensor(measure, small, values):
    told = measure(small, "B", [{"X": values}], Histogram(), ChannelRange()).told["B"]
    b = np.maximum(measure(small, "A", [{"X": values}])["A"].values.reshape(5, 3), 0)
    assert [type(each) for each in told] == [Histogram, ChannelRange]
    assert (told[0].count, told[0].high) == (15, b.max())
    assert told[1].high.tolist() == b.max(axis=0).tolist()


@dataclass(frozen=True)
class Double(Pass):
    """Relu -> Add of its input to itself."""

    name: ClassVar[str] = "double"
    bound: ClassVar[float] = np.inf

    def run(self, graph, journal):
        relu = next(node for node in graph.nodes if node.op == "Relu")
        relu.op, relu.inputs = "Add", [relu.inputs[0], relu.inputs[0]]
        return 1


@dataclass(frozen=True)
class MaxRelu(Pass):
    """Relu -> Max with 0, where the driver told what Relu reads."""

    name: ClassVar[str] = "max-relu"

    def watches(self, graph):
        return {node.inputs[0].name: (Histogram(),) for node in graph.nodes if node.op == "Relu"}

    def run(self, graph, journal):
        found = [node for node in graph.nodes if node.op == "Relu"]
        for node in found:
            assert journal.watched[node.inputs[0].name][0].count == 15
            node.op = "Max"
            node.inputs.append(gs.Constant("zero", np.zeros((), np.float32)))
        return len(found)


def test_on_the_graph_as_it_stands(measure, small, values):
    told = measure(small, "A B", [{"X": values}], before=(Double(),), verify="off")
    assert told["B"].values.tolist() == (2 * told["A"].values).tolist()


def test_a_pass_that_watches_nothing_needs_no_data(small, measure):
    assert measure(small, "").compiled.report.calibration is None


def test_a_pass_that_watches_what_is_not_there(measure, small, values):
    with pytest.raises(VerificationError, match="pass watch watches 'Z', which the graph lacks"):
        measure(small, "Z", [{"X": values}])


def test_without_data(measure, small):
    with pytest.raises(InputError) as error:
        measure(small, "A")
    text = str(error.value)
    assert text.startswith("pass watch measures activations, which needs --calibration inputs.npz ")
    for form in ("--calibration FOLDER", "--calibration sentences.txt --tokenizer", ".jsonl"):
        assert form in text
    assert "--random-calibration" in text


def test_nan_is_named(measure, small, values):
    values[3, 1] = np.nan
    with pytest.raises(InputError) as error:
        measure(small, "A", [{"X": values}])
    assert str(error.value) == "tensor 'A' holds NaN on sample 3 of calibration batch 0"


def test_nan_in_the_model(measure, text_model, values):
    model = text_model("g (float[N,4] X) => (float[N,4] Y) { A = Sqrt (X)\n Y = Abs (A) }")
    with pytest.raises(InputError, match=r"^tensor 'A' holds NaN on sample 0 of "):
        measure(model, "A Y", [{"X": -np.abs(values)}])


def test_what_onnxruntime_does_not_run(measure, text_model, values):
    model = text_model(
        """g (float[N,M] X) => (float[N,4] Y) {
             shape = Constant <value_ints = [-1, 4]> ()
             Y = Reshape (X, shape)
           }"""
    )
    assert measure(model, "Y", [{"X": values}])["Y"].values.size == 20
    with pytest.raises(InputError, match=r"does not run on sample 0 of calibration batch 0: "):
        measure(model, "Y", [{"X": values[:, :3]}])


def test_report(measure, small, values):
    done = measure(small, "A", [{"X": values}]).compiled.report.calibration
    assert (done.source, done.samples, done.random, done.resumed) == ("arrays", 5, False, 0)
    assert done.seconds > 0


def test_random_data_only_if_asked_for(measure, bert):
    names = [node.input[0] for node in bert.graph.node if node.op_type == "MatMul"]
    one, two = (measure(bert, names[0], random_calibration=6) for _ in range(2))
    done = one.compiled.report.calibration
    assert (done.source, done.samples, done.random) == ("random", 6, True)
    assert one[names[0]].values.tolist() == two[names[0]].values.tolist()
    assert len(set(one[names[0]].shapes)) > 2  # lengths vary


def test_random_and_real_data_exclude_each_other(measure, small, values):
    with pytest.raises(InputError, match="exclude each other"):
        measure(small, "A", [{"X": values}], random_calibration=3)


def test_a_generator_is_gone_through_twice(measure, small, values):
    one = measure(small, "A", ({"X": row[None]} for row in values))
    assert one["A"].values.tolist() == measure(small, "A", [{"X": values}])["A"].values.tolist()


def test_progress(measure, small, values):
    seen = []
    measure(small, "A", [{"X": values}], progress=lambda *step: seen.append(step))
    assert seen == [("Calibrating", done, 5) for done in range(6)]


def test_full_check_on_samples_and_measured_passes_run_again(measure, small, values):
    recipe = Recipe("told", "", (MaxRelu(),))
    done = compile(small, recipe, [{"X": values}], verify="full")
    assert done.report.verification.model_difference == 0
    assert [node.op_type for node in done.model.graph.node] == ["MatMul", "Max", "Add"]


@pytest.fixture(scope="module")
def sentences(minilm):
    """Token ids of the paragraphs of the licence, none padded."""
    from sardonyx.models import minilm_tokenizer  # noqa: PLC0415 (needs its package)

    tokenizer = minilm_tokenizer()
    tokenizer.no_padding()
    lines = (Path(__file__).parents[2] / "LICENSE").read_text().split("\n\n")
    return [tokenizer.encode(text).ids[:64] for text in lines[:48]]


def batches_of(sentences, size):
    """Padded batches of so many sentences."""
    for start in range(0, len(sentences), size):
        group = sentences[start : start + size]
        ids = np.zeros((len(group), max(map(len, group))), np.int64)
        mask = np.zeros_like(ids)
        for row, sentence in enumerate(group):
            ids[row, : len(sentence)], mask[row, : len(sentence)] = sentence, 1
        yield {"input_ids": ids, "attention_mask": mask}


def state(measured):
    """All arrays of all statistics, as bytes."""
    return {
        (name, type(each).__name__, key): array.tobytes()
        for name, statistics in measured.told.items()
        for each in statistics
        for key, array in each.arrays().items()
    }


def test_a_real_model_in_any_batches_and_order(measure, minilm, sentences):
    graph = onnx.load(minilm).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [n.input[0] for n in graph.node if n.op_type == "MatMul" and n.input[1] in weights]
    names = " ".join(dict.fromkeys(inputs))
    orders = [sentences, list(np.random.default_rng(3).permutation(np.array(sentences, object)))]
    states = [
        state(
            measure(
                minilm,
                names,
                batches_of(order, size),
                Histogram(),
                ChannelRange(),
                RowSample(16),
                verify="off",
            )
        )
        for order in orders
        for size in (1, 8, 32)
    ]
    assert len(names.split()) == 12
    assert all(other == states[0] for other in states)


def test_a_real_model_against_stock_onnxruntime(measure, minilm, sentences):
    model = onnx.load(minilm)
    name = next(node.output[0] for node in model.graph.node if node.op_type == "Softmax")
    told = measure(minilm, name, batches_of(sentences[:6], 3), verify="off")[name]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(tapped(model, name).SerializeToString(), options)
    values = [
        session.run([name], {"input_ids": [ids], "attention_mask": [[1] * len(ids)]})[0]
        for ids in sentences[:6]
    ]
    assert told.values.tobytes() == np.concatenate([v.ravel() for v in values]).tobytes()
    assert told.shapes.tolist() == ["x".join(map(str, v.shape)) for v in values]


def test_nothing_stays_in_the_temporary_folder(measure, small, values, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    measure(small, "A", [{"X": values}])
    assert os.listdir(tmp_path) == []
