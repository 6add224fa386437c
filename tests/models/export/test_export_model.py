"""What surrounds the exporters: choice of a route, names of files, nothing left on failure."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError

import numpy as np
import onnx
import pytest

from sardonyx.models.export import export_model as module
from sardonyx.models.export.directory import ExportError
from sardonyx.models.export.export_model import ROUTES, choose_route, export_model
from sardonyx.models.export.settings import ExportSettings

TASK = "fill-mask"


@pytest.fixture
def directory(tmp_path):
    """A model directory without a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return folder


@pytest.fixture
def work(tmp_path):
    """A folder that holds an older result."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "out.onnx").write_text("older")
    return folder


@pytest.fixture
def route(monkeypatch, text_model, normal):
    """A route of our own that writes these parts, their weights in a file beside."""

    def use(*parts, opset=17, fails=None):
        def write_parts(directory, task, folder, settings):
            weight = normal(64, 64)
            model = text_model(
                "g (float[n,64] x) => (float[n,64] y) { y = MatMul(x, w) }", opset, w=weight
            )
            written = {name: folder / f"raw-{name}.onnx" for name in parts}
            for path in written.values():
                data = {"save_as_external_data": True, "location": f"{path.name}.data"}
                onnx.save(model, path, **data, size_threshold=0)
            if fails:
                raise fails
            return written

        monkeypatch.setitem(ROUTES, "torch", write_parts)
        monkeypatch.setitem(module._NEEDS, "torch", ())

    return use


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_one_part_takes_the_output_s_name_and_its_weights_in(route, directory, work, normal):
    route("")
    written = export_model(directory, work / "out.onnx", ExportSettings("torch", TASK))
    assert written == [work / "out.onnx"]
    assert names(work) == ["out.onnx"]
    (initializer,) = onnx.load(written[0], load_external_data=False).graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(initializer), normal(64, 64))


def test_several_parts_put_theirs_into_it(route, directory, work):
    route("encoder", "decoder")
    written = export_model(directory, work / "t5.v1.onnx", ExportSettings("torch", TASK))
    assert names(work) == ["out.onnx", "t5.v1.decoder.onnx", "t5.v1.encoder.onnx"]
    assert [path.name for path in written] == names(work)[1:]


def test_weights_too_large_for_a_message_stay_beside(route, directory, work, monkeypatch, run_ort):
    monkeypatch.setattr(module, "LARGEST_INLINE", 1000)
    route("")
    output = work / "out.onnx"
    assert export_model(directory, output, ExportSettings("torch", TASK)) == [
        output,
        work / "out.onnx.data",
    ]
    (y,) = run_ort(output, {"x": np.eye(64, dtype=np.float32)})
    assert y.shape == (64, 64)


@pytest.mark.parametrize("fails", [ValueError("no such op. Details."), OSError(28, "disk full")])
def test_a_failure_leaves_nothing(route, directory, work, fails):
    route("", fails=fails)
    with pytest.raises((ExportError, OSError)) as caught:
        export_model(directory, work / "out.onnx", ExportSettings("torch", TASK))
    if isinstance(fails, ValueError):
        expected = f"the torch route cannot export '{directory}' for fill-mask: no such op"
        assert str(caught.value) == expected
    assert names(work) == ["out.onnx"]
    assert (work / "out.onnx").read_text() == "older"


def test_another_opset_than_asked_for(route, directory, work):
    route("", opset=18)
    settings = ExportSettings("torch", TASK, opset=17)
    with pytest.raises(ExportError, match="wrote opset 18 where 17 was asked for"):
        export_model(directory, work / "out.onnx", settings)
    assert (work / "out.onnx").read_text() == "older"


def test_a_part_where_a_folder_is(route, directory, work):
    route("encoder", "decoder")
    (work / "t5.encoder.onnx").mkdir()
    with pytest.raises(ExportError, match="is a folder"):
        export_model(directory, work / "t5.onnx", ExportSettings("torch", TASK))
    assert names(work) == ["out.onnx", "t5.encoder.onnx"]


def test_unknown_task(route, directory, work):
    route("")
    with pytest.raises(ExportError, match="there is no task 'fill': there is feature-extraction,"):
        export_model(directory, work / "out.onnx", ExportSettings("torch", "fill"))


@pytest.mark.parametrize("installed", [True, False])
def test_auto_is_optimum_where_installed_unless_a_setting_says_else(installed, monkeypatch):
    def distribution(name):
        if not installed:
            raise PackageNotFoundError(name)
        return name

    monkeypatch.setattr(module, "distribution", distribution)
    assert choose_route(ExportSettings()) == ("optimum" if installed else "torch")
    assert choose_route(ExportSettings(dynamo=True)) == "torch"
    assert choose_route(ExportSettings(merge=True)) == "optimum"
    assert choose_route(ExportSettings("torch", dynamo=True)) == "torch"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ExportSettings("torch", merge=True), "merge is a setting of the optimum route"),
        (ExportSettings("torch", optimize="O2"), "optimize is a setting of the optimum route"),
        (ExportSettings("optimum", dynamo=True), "dynamo is a setting of the torch route"),
        (ExportSettings(dynamo=True, merge=True), "dynamo is a setting of the torch route"),
    ],
)
def test_a_setting_of_the_other_route(settings, message, directory, work):
    with pytest.raises(ExportError, match=message):
        export_model(directory, work / "out.onnx", settings)
