"""Sessions with the native ops, and what happens where those cannot be used."""

import logging
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from sardonyx import runtime_ops
from sardonyx.runtime_ops import native_library, register, session
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.ops import OPS

KERNELS = {"portable C++", "AVX2", "AVX-512 VNNI"}
X = np.ones((2, 40), np.float32)


@pytest.fixture
def quiet():
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return options


@pytest.fixture
def matrix(random_matrix):
    return random_matrix(3, 40, 20)


@pytest.fixture
def model(op_model, matrix):
    """A model of the kind that is compiled: it ships the op's body."""
    made = op_model("GoboMatMul3", matrix.arrays, shape=[40, 20])
    made.functions.append(OPS["GoboMatMul3"].function(17, True))
    return made


@pytest.fixture
def runs(model, matrix, quiet):
    """Run the model in a session that `session` makes; its `Native`."""

    def run(given=model):
        made = session(given.SerializeToString(), quiet)
        np.testing.assert_array_equal(made.run(None, {"x": X})[0], X @ matrix.weights)
        return made.native

    return run


def executed(model, options, path):
    """Ops that the session executes."""
    options.optimized_model_filepath = str(path)
    session(model.SerializeToString(), options)
    return {node.op_type for node in onnx.load(path).graph.node}


def test_the_library_is_there():
    """It is built when the package is installed: without it, ask why (a compiler, its errors)."""
    native = register(ort.SessionOptions())
    assert native.active, native.detail
    assert native.detail in KERNELS


def test_a_session_uses_it(model, runs, quiet, tmp_path, caplog):
    native = runs()
    assert native.active
    assert native.detail in KERNELS
    assert executed(model, quiet, tmp_path / "optimized.onnx") == {"GoboMatMul3"}
    assert not caplog.records


def test_without_options_and_from_a_file(model, matrix, tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    for given in (path, str(path)):
        made = session(given, providers=["CPUExecutionProvider"])
        assert isinstance(made, ort.InferenceSession)
        assert made.native.active
        np.testing.assert_array_equal(made.run(None, {"x": X})[0], X @ matrix.weights)


def test_options_serve_many_sessions(runs, quiet, caplog):
    assert register(quiet).active
    assert register(quiet).active
    assert runs().active
    assert runs().active
    assert not caplog.records


def the_line(caplog):
    """The one line that a fallback logs, without what all have in common."""
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("sardonyx", logging.WARNING)
    text = record.getMessage()
    start = "the native GOBO ops, of float32 models, are not used: "
    assert text.startswith(start)
    assert "\n" not in text
    return text.removeprefix(start)


def test_left_out_on_request(model, runs, quiet, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SARDONYX_NATIVE", "0")
    native = runs()
    assert (native.active, native.detail) == (False, "SARDONYX_NATIVE=0 leaves them out")
    assert not caplog.records
    assert "MatMul" in executed(model, quiet, tmp_path / "optimized.onnx")


def test_options_that_hold_it_already(model, runs, quiet, tmp_path, monkeypatch):
    """What is said of a session is true of it, whatever its options were used for before."""
    assert runs().active
    monkeypatch.setenv("SARDONYX_NATIVE", "0")
    assert not runs().active
    assert "MatMul" in executed(model, quiet, tmp_path / "stock.onnx")
    monkeypatch.setenv("SARDONYX_NATIVE", str(tmp_path / "missing.so"))
    assert not runs().active
    assert "MatMul" in executed(model, quiet, tmp_path / "missing.onnx")
    monkeypatch.undo()
    assert runs().active
    assert executed(model, quiet, tmp_path / "native.onnx") == {"GoboMatMul3"}


def test_threads_that_share_options(model):
    """onnxruntime would refuse options that hold the library twice."""

    class Slow(ort.SessionOptions):
        def register_custom_ops_library(self, path):
            time.sleep(0.1)  # until all threads want it
            super().register_custom_ops_library(path)

    options = Slow()
    with ThreadPoolExecutor(4) as threads:
        said = list(threads.map(lambda _: register(options).active, range(4)))
    assert said == [True] * 4
    assert session(model.SerializeToString(), options).native.active


def test_a_path_from_the_current_folder(runs, monkeypatch, tmp_path):
    shutil.copy(native_library._path(), tmp_path / "mine.so")
    monkeypatch.chdir(tmp_path)
    for chosen in ("mine.so", "./mine.so"):
        monkeypatch.setenv("SARDONYX_NATIVE", chosen)
        assert runs().active


def test_a_package_without_the_library(runs, monkeypatch, tmp_path, caplog):
    monkeypatch.delenv("SARDONYX_NATIVE", raising=False)
    monkeypatch.setattr(runtime_ops, "__path__", [str(tmp_path)])
    native = runs()
    assert not native.active
    assert native.detail == the_line(caplog)
    assert native.detail.startswith("the package was installed without them")


def broken(path):
    path.write_bytes(b"this is no library" * 99)


def empty(path):
    path.touch()


@pytest.mark.parametrize("content", [broken, empty])
def test_a_file_that_is_no_library(runs, monkeypatch, tmp_path, caplog, content):
    path = tmp_path / "damaged.so"
    content(path)
    monkeypatch.setenv("SARDONYX_NATIVE", str(path))
    native = runs()
    assert not native.active
    assert native.detail == the_line(caplog)
    assert str(path) in native.detail


def test_a_library_of_something_else(runs, monkeypatch, caplog):
    monkeypatch.setenv("SARDONYX_NATIVE", ort.capi.onnxruntime_pybind11_state.__file__)
    native = runs()
    assert not native.active
    assert native.detail == the_line(caplog)
    assert "undefined symbol" in native.detail


def test_a_missing_file(runs, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("SARDONYX_NATIVE", str(tmp_path / "missing.so"))
    native = runs()
    assert not native.active
    assert "missing.so" in the_line(caplog)


def test_an_onnxruntime_that_does_not_take_it(model, monkeypatch, caplog):
    """As releases before 1.17 answer, for which the library has a message of its own."""

    class Refusing(ort.SessionOptions):
        def register_custom_ops_library(self, path):
            raise RuntimeError("need onnxruntime 1.17 or newer, this is 1.16.3.\nmore")

    made = session(model.SerializeToString(), Refusing())
    assert not made.native.active
    assert the_line(caplog) == "need onnxruntime 1.17 or newer, this is 1.16.3"


def test_a_model_that_only_the_body_can_run(model, matrix, runs, quiet, caplog):
    """Overridable weights: the options, the caller's own, serve both tries and later sessions."""
    overridable = onnx.ModelProto()
    overridable.CopyFrom(model)
    values = next(i for i in model.graph.initializer if i.name == "values")
    info = onnx.helper.make_tensor_value_info("values", onnx.TensorProto.FLOAT, values.dims)
    overridable.graph.input.append(info)
    native = runs(overridable)
    assert not native.active
    assert native.detail == the_line(caplog)
    assert "GoboMatMul3 'dense': values is not constant" in native.detail
    assert runs().active


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_a_model_that_is_not_float32(op_model, matrix, quiet, caplog, dtype):
    arrays = matrix.arrays | {
        key: matrix.arrays[key].astype(dtype) for key in ("centroids", "values")
    }
    model = op_model("GoboMatMul3", arrays, dtype, shape=[40, 20])
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model.graph.output[0].type.tensor_type.elem_type = kind
    model.functions.append(OPS["GoboMatMul3"].function(17, True))
    made = session(model.SerializeToString(), quiet)
    assert not made.native.active
    assert "tensor(float" in made.native.detail or "tensor(double" in made.native.detail
    assert "ONNXRuntimeError" not in the_line(caplog)
    assert made.run(None, {"x": X.astype(dtype)})[0].dtype == dtype


def test_a_model_that_nothing_can_run(op_model, matrix, quiet, caplog):
    """The first reason, the native op's own, is what is raised."""
    with pytest.raises(Exception, match="'dense': indices has shape"):
        session(op_model("GoboMatMul3", matrix.arrays, shape=[40, 99]).SerializeToString(), quiet)
    with pytest.raises(Exception, match=r"missing\.onnx"):
        session("missing.onnx", quiet)
    assert not caplog.records


@pytest.mark.parametrize("cpu", ["avx", "AVX2", "0"])
def test_an_unknown_cpu(cpu, monkeypatch):
    monkeypatch.setenv("SARDONYX_CPU", cpu)
    with pytest.raises(
        InputError, match=f"SARDONYX_CPU is '{cpu}': it may be scalar, avx2, avx512"
    ):
        register(ort.SessionOptions())


def test_narrowed_to_what_every_processor_has(monkeypatch):
    """The library decides once a process."""
    monkeypatch.setenv("SARDONYX_CPU", "scalar")
    code = (
        "import onnxruntime, sardonyx.runtime_ops as r; "
        "print(r.register(onnxruntime.SessionOptions()).detail)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "portable C++\n"


def test_a_fallback_is_one_line_on_stderr(monkeypatch):
    monkeypatch.setenv("SARDONYX_NATIVE", "missing.so")
    code = "import onnxruntime, sardonyx.runtime_ops as r; r.register(onnxruntime.SessionOptions())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    assert "missing.so" in ran.stderr
