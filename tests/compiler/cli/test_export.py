"""sardonyx export: what it writes and says, and what it refuses."""

from __future__ import annotations

import json
import shutil
import socket
import sys

import numpy as np
import onnxruntime as ort
import pytest

from sardonyx.models import encoder_from_directory, minilm_tokenizer
from sardonyx.models.real_models import minilm_l6_directory
from sardonyx.models.tiny import tiny_directory

EXPORT = ("-o", "out.onnx")


@pytest.fixture
def directory(folder):
    """Write a model directory with this config.json."""

    def make(text):
        made = folder / "model"
        made.mkdir()
        (made / "config.json").write_text(text)
        return "model"

    return make


@pytest.fixture
def offline(monkeypatch):
    """Any connection fails the test."""

    def connect(*_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The directory of an architecture."""
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tiny")
    return lambda name: tiny_directory(name, folder / name)


def test_no_directory(refused):
    text = "'nowhere' is not a Hugging Face model directory: no config.json"
    assert refused("export", "nowhere", *EXPORT) == text


def test_config_is_not_json(refused, directory):
    text = refused("export", directory("{"), *EXPORT)
    assert text.startswith("'model/config.json' is not JSON: Expecting property name")


@pytest.mark.parametrize("text", ["[]", "{}", '{"model_type": []}'])
def test_config_of_something_else(text, refused, directory):
    expected = "'model/config.json' does not name a model_type: is this a transformers model?"
    assert refused("export", directory(text), *EXPORT) == expected


@pytest.mark.parametrize(
    ("route", "library", "extra"),
    [("torch", "torch", "export"), ("optimum", "optimum", "export-optimum")],
)
def test_missing_extra(route, library, extra, refused, directory, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    text = refused("export", directory('{"model_type": "bert"}'), *EXPORT, "--route", route)
    assert text == f"{library} is needed: run `pip install 'sardonyx[{extra}]'`"


def test_setting_of_the_other_route(refused, directory):
    text = refused("export", directory("{}"), *EXPORT, "--route", "torch", "--optimize", "O2")
    assert text == "optimize is a setting of the optimum route, not of the torch route"


def test_output_is_a_folder(refused, directory, folder):
    (folder / "sub.onnx").mkdir()
    assert "is a folder" in refused("export", directory("{}"), "-o", "sub.onnx")


def test_output_of_another_kind(refused, directory):
    text = refused("export", directory("{}"), "-o", "config.json")
    assert text == "output 'config.json' must end in .onnx"


def test_output_over_a_file_of_the_directory(refused, directory, folder):
    source = folder / directory("{}")
    (source / "model.onnx").write_bytes(b"mine")
    text = refused("export", source, "-o", source / "model.onnx")
    assert text.endswith("model.onnx' is an input: give another name")


def test_unknown_route(cli, directory):
    assert cli("export", directory("{}"), *EXPORT, "--route", "jax").code == 2


@pytest.mark.heavy
def test_encoder(tiny, cli, folder, offline):
    ran = cli("export", tiny("bert"), *EXPORT)
    assert (ran.code, ran.out, ran.err) == (0, "Wrote out.onnx\n", "")
    names = [value.name for value in ort.InferenceSession("out.onnx").get_inputs()]
    assert sorted(names) == ["attention_mask", "input_ids", "token_type_ids"]
    assert cli("compile", "out.onnx", "--recipe", "gobo").code == 0


@pytest.mark.heavy
def test_encoder_decoder(tiny, cli, folder, offline):
    ran = cli("export", tiny("t5"), "-o", "t5.onnx")
    files = [f"t5.{part}.onnx" for part in ("decoder", "decoder_with_past", "encoder")]
    assert (ran.code, ran.out, ran.err) == (0, "".join(f"Wrote {name}\n" for name in files), "")
    assert sorted(path.name for path in folder.iterdir()) == ["out.onnx", *files]


@pytest.mark.heavy
def test_without_past(tiny, cli, folder):
    ran = cli("export", tiny("gpt2"), *EXPORT, "--task", "text-generation", "--opset", "18")
    assert (ran.code, ran.err) == (0, "")
    outputs = [value.name for value in ort.InferenceSession("out.onnx").get_outputs()]
    assert outputs == ["logits"]


@pytest.mark.heavy
def test_features_need_no_pooler(tiny, cli, folder):
    ran = cli("export", tiny("albert"), *EXPORT, "--task", "feature-extraction")
    assert (ran.code, ran.err) == (0, "")
    outputs = [value.name for value in ort.InferenceSession("out.onnx").get_outputs()]
    assert outputs == ["last_hidden_state"]


@pytest.mark.heavy
def test_a_process_of_its_own_says_no_more(tiny, program, folder):
    process = program("export", tiny("distilbert"), *EXPORT)
    assert process.communicate() == ("Wrote out.onnx\n", "")
    assert process.returncode == 0


@pytest.mark.heavy
def test_unknown_architecture(refused, tiny, folder):
    shutil.copytree(tiny("bert"), "model")
    config = {"model_type": "nonesuch", "architectures": ["NonesuchModel"]}
    (folder / "model" / "config.json").write_text(json.dumps(config))
    text = refused("export", "model", *EXPORT)
    assert text.startswith("'model' has the architecture NonesuchModel of model type nonesuch, of")
    text = refused("export", "model", *EXPORT, "--task", "fill-mask")
    assert text.startswith("'model' cannot be loaded: ")


@pytest.mark.heavy
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_unreadable_weights(damage, refused, tiny, folder):
    shutil.copytree(tiny("bert"), "model")
    weights = folder / "model" / "model.safetensors"
    data = weights.read_bytes()
    weights.unlink() if damage == "gone" else weights.write_bytes(data[: len(data) // 2])
    assert refused("export", "model", *EXPORT).startswith("'model' cannot be loaded: ")


@pytest.mark.heavy
def test_weights_of_another_task(refused, tiny):
    text = refused("export", tiny("bert"), *EXPORT, "--task", "question-answering")
    assert text.endswith(
        "lacks 2 weights that task question-answering needs, the first 'qa_outputs.bias': "
        "give the --task it was trained for"
    )


@pytest.mark.heavy
def test_attention_that_the_model_has_not(refused, tiny):
    text = refused("export", tiny("mpnet"), *EXPORT, "--attention", "sdpa")
    assert "cannot be loaded with sdpa attention: MPNetModel does not support" in text


@pytest.mark.heavy
def test_task_that_the_model_has_not(refused, tiny):
    assert "cannot be loaded" in refused(
        "export", tiny("bert"), *EXPORT, "--task", "text2text-generation"
    )


@pytest.mark.heavy
def test_opset_that_no_exporter_writes(refused, tiny):
    assert "opset" in refused("export", tiny("bert"), *EXPORT, "--opset", "99")


@pytest.mark.heavy
def test_real_model(cli, folder, run_ort):
    pytest.importorskip("transformers")
    ran = cli("export", minilm_l6_directory(), *EXPORT)
    assert (ran.code, ran.err) == (0, "")
    encodings = minilm_tokenizer().encode_batch(["Sardonyx.", "Cameos are cut from banded stones."])
    ids, mask = (np.array([getattr(e, f) for e in encodings]) for f in ("ids", "attention_mask"))
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    hidden, expected = (
        run_ort(model, feeds)[0]
        for model in (folder / "out.onnx", encoder_from_directory(minilm_l6_directory()))
    )
    words = mask.astype(bool)
    # FP32 sums of six layers in another order, each normalised to unit variance.
    np.testing.assert_allclose(hidden[words], expected[words], rtol=0, atol=1e-5)
