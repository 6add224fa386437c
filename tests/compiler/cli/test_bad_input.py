"""Bad input: one clear sentence that names the culprit, exit code 1, nothing left behind."""

import errno
import os
import resource
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

MATMUL = "g (float[N,64] X) => (float[N,96] Y) { Y = MatMul (X, W) }"
COMPILE = ("compile", "m.onnx", "--recipe", "gobo", "-o", "out.onnx", "--report", "report.json")


@pytest.fixture
def model(text_model, normal):
    made = text_model(MATMUL, W=normal(64, 96))
    made.graph.node[0].name = "dense"
    return made


@pytest.fixture
def saved(folder):
    """Put a model where the command looks for it."""
    return lambda model: onnx.save(model, folder / "m.onnx")


@pytest.fixture
def good(model, saved):
    saved(model)


@pytest.mark.parametrize("content", [b"hello, world\n" * 50, b"PK\x03\x04" * 99, bytes(range(256))])
def test_not_an_onnx_file(refused, folder, content):
    (folder / "m.onnx").write_bytes(content)
    assert refused(*COMPILE).startswith("'m.onnx' is not an ONNX model")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.999])
def test_truncated(refused, model, folder, share):
    whole = model.SerializeToString()
    (folder / "m.onnx").write_bytes(whole[: int(len(whole) * share)])
    assert refused(*COMPILE).startswith("'m.onnx' is not an ONNX model, or is cut short: the field")


def test_empty(refused, folder):
    (folder / "m.onnx").touch()
    assert refused(*COMPILE) == "'m.onnx' is empty: export the model again"


def test_missing(refused):
    assert refused(*COMPILE) == "cannot read 'm.onnx': No such file or directory"


def test_a_folder(refused, folder):
    (folder / "m.onnx").mkdir()
    assert refused(*COMPILE) == "model 'm.onnx' is a folder: give an .onnx file"


def external(model, folder, location):
    weight = model.graph.initializer[0]
    (folder / "w.bin").write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    onnx.save(model, folder / "m.onnx")


def test_external_data_missing(refused, model, folder):
    external(model, folder, "w.bin")
    (folder / "w.bin").unlink()
    assert refused(*COMPILE) == (
        "'m.onnx': external data of 'W' is missing: put 'w.bin' beside the model"
    )


def test_external_data_short(refused, model, folder):
    external(model, folder, "w.bin")
    os.truncate(folder / "w.bin", 100)
    assert refused(*COMPILE) == (
        "'m.onnx': external data of 'W' needs 24576 bytes from byte 0 of 'w.bin', which holds 100: "
        "copy the whole file again"
    )


@pytest.mark.parametrize("location", ["../w.bin", "{folder}/w.bin", "link"])
def test_external_data_outside(refused, model, folder, location):
    location = location.replace("{folder}", str(folder))
    external(model, folder, location)
    (folder.parent / "w.bin").write_bytes((folder / "w.bin").read_bytes())
    (folder / "link").symlink_to(folder.parent / "w.bin")
    text = refused(*COMPILE)
    assert text.startswith(f"'m.onnx': external data of 'W' is at '{location}', ")
    way = "a link out of" if location == "link" else "outside"
    assert text.endswith(f", {way} the model's folder: refused")


@pytest.mark.parametrize("opset", [5, 99])
def test_unknown_opset(refused, model, saved, opset):
    model.opset_import[0].version = opset
    saved(model)
    name, opsets = ("the model", "13") if opset == 5 else ("'m.onnx'", "1")
    text = refused(*COMPILE)
    assert text.startswith(f"{name} uses opset {opset}; ")
    assert f" {opsets} to 26" in text


def test_unknown_ir(refused, model, saved):
    model.ir_version = 99
    saved(model)
    assert refused(*COMPILE).startswith("'m.onnx' has IR version 99; versions 3 to 13 are known")


@pytest.mark.parametrize(
    ("field", "value", "culprit"),
    [("op_type", "NoSuchOp", "NoSuchOp"), ("input", "nobody", "nobody"), ("output", "X", "'X'")],
)
def test_a_graph_that_the_checker_refuses(refused, model, saved, field, value, culprit):
    node = model.graph.node[0]
    if field == "op_type":
        node.op_type = value
    else:
        getattr(node, field)[0] = value
    saved(model)
    text = refused(*COMPILE)
    assert text.startswith("'m.onnx' is not a valid ONNX model: ")
    assert culprit in text


NO_PASS = "recipe 'gobo' on target 'portable' has no pass 'gobbo': did you mean 'gobo'?"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--recipe", "gobbo"], "unknown recipe 'gobbo': did you mean 'gobo'?; "),
        (["--recipe", "no.toml"], "cannot read recipe 'no.toml': No such file or directory"),
        (["--recipe", "no.py"], "there is no pass file 'no.py'"),
        (["--set", "gobbo.bits=4"], NO_PASS),
        (["--set", "gobo.bit=4"], "pass gobo has no argument 'bit': did you mean 'bits'?"),
        (["--set", "gobo.bits=1"], "gobo.bits: Input should be greater than or equal to 2 (got 1)"),
        (["--set", "gobo.bits=9"], "gobo.bits: Input should be less than or equal to 8 (got 9)"),
        (["--set", "bits"], "'bits' is not of the form PASS.ARG=VALUE, as in gobo.bits=4"),
        (["--until", "gobbo"], "there is no stage 'gobbo' to stop after: there is lift-constants"),
        (["--calibration", "no.npz", "--verify", "full"], "cannot read 'no.npz': No such file"),
        (["--calibration", "m.onnx", "--verify", "full"], "'m.onnx' is not an .npz file of"),
        (["--dump", "m.onnx"], "cannot make folder 'm.onnx': File exists"),
    ],
)
def test_recipes_and_arguments(refused, good, arguments, text):
    assert refused(*COMPILE, *arguments).startswith(text)


def test_unknown_pass_in_a_file(refused, good, folder):
    (folder / "mine.toml").write_text('[[passes]]\npass = "gobbo"')
    text = refused(*COMPILE, "--recipe", "mine.toml")
    assert text == "recipe 'mine.toml': unknown pass 'gobbo': did you mean 'gobo'?"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan(refused, text_model, saved, normal, value):
    weight = normal(64, 96)
    weight[3, 4] = value
    model = text_model(MATMUL, W=weight)
    model.graph.node[0].name = "dense"
    saved(model)
    assert refused(*COMPILE) == (
        "weight 'W' of MatMul 'dense' holds NaN or infinite values; such values cannot be encoded: "
        "repair the model first"
    )


def test_no_quantizable_weight(refused, text_model, saved):
    saved(text_model("g (float[N] X) => (float[N] Y) { Y = Neg (X) }"))
    assert refused(*COMPILE) == (
        "the model has no weight that recipe 'gobo' can quantize: no MatMul, Gemm or Gather reads "
        "a float matrix"
    )


@pytest.mark.parametrize("option", ["-o", "--report"])
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("m.onnx", "output 'm.onnx' is an input: give another name"),
        ("../work/m.onnx", "output '../work/m.onnx' is an input: give another name"),
        ("link.onnx", "output 'link.onnx' is an input: give another name"),
        ("sub", "output 'sub' is a folder: give a file name"),
        ("no/out.onnx", "output folder 'no' does not exist: create it first"),
        ("m.onnx/out.onnx", "output folder 'm.onnx' does not exist: create it first"),
    ],
)
def test_output(refused, good, folder, option, path, text):
    (folder / "link.onnx").symlink_to("m.onnx")
    (folder / "sub").mkdir()
    assert refused(*COMPILE, option, path) == text


@pytest.mark.parametrize("option", ["-o", "--report"])
def test_output_over_the_data_of_the_input(refused, model, folder, option):
    external(model, folder, "w.bin")
    text = refused(*COMPILE, option, "w.bin")
    assert text == "output 'w.bin' is an input: give another name"


def test_output_and_report_in_one_file(refused, good):
    text = refused(*COMPILE, "--report", "out.onnx")
    assert text == "model and report cannot both be written to 'out.onnx'"


def test_a_missing_input_with_an_older_output(refused):
    assert refused("compile", "no.onnx", "--recipe", "gobo", "-o", "out.onnx").startswith(
        "cannot read"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("what", ["out.onnx", "."])
def test_read_only(refused, good, folder, what):
    mode = (folder / what).stat().st_mode
    (folder / what).chmod(0o555 if what == "." else 0o444)
    try:
        text = refused(*COMPILE)
    finally:
        (folder / what).chmod(mode)
    assert text == "output 'out.onnx' cannot be written: it or its folder is read-only"


@pytest.mark.parametrize("what", ["out.onnx", "."])
def test_read_only_as_the_system_says_it(refused, good, monkeypatch, what):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK or str(path) != what)
    text = refused(*COMPILE)
    assert text == "output 'out.onnx' cannot be written: it or its folder is read-only"


@pytest.mark.parametrize("suffix", ["onnx", "json"])
def test_disk_full(refused, good, monkeypatch, suffix):
    def full(self, *arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    name = "write_bytes" if suffix == "onnx" else "write_text"
    monkeypatch.setattr(Path, name, full)
    output = "out.onnx" if suffix == "onnx" else "report.json"
    assert refused(*COMPILE) == f"cannot write '{output}': No space left on device"


def test_a_disk_that_fills_while_writing(program, bert, folder):
    """The kernel refuses to let any file of the process grow past 50 kB."""
    onnx.save(bert, folder / "m.onnx")
    limit = (50_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    started = program(*COMPILE, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    output, errors = started.communicate(timeout=60)
    assert (started.returncode, output) == (1, "")
    assert errors == "Error: cannot write 'out.onnx': File too large\n"
    assert sorted(path.name for path in folder.iterdir()) == ["m.onnx", "out.onnx"]
    assert (folder / "out.onnx").read_text() == "an older result"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["no.onnx", "--input", "in.npz"], "there is no model 'no.onnx'"),
        (["m.onnx", "--input", "no.npz"], "cannot read 'no.npz': No such file or directory"),
        (["m.onnx", "--input", "out.onnx"], "'out.onnx' is not an .npz file of plain arrays"),
        (["out.onnx", "--input", "in.npz"], "onnxruntime cannot load 'out.onnx': "),
        (["m.onnx", "--input", "other.npz"], "input 'X' is missing: the model wants X, the file"),
        (["m.onnx", "--input", "ints.npz"], "input 'X' is tensor(int64), the model wants tensor(f"),
        (
            ["m.onnx", "--input", "wide.npz"],
            "input 'X' has shape [2, 65], the model wants ['N', 64]",
        ),
        (["m.onnx", "--input", "flat.npz"], "input 'X' has shape [64], the model wants ['N', 64]"),
        (["m.onnx", "--input", "in.npz", "-o", "in.npz"], "output 'in.npz' is an input"),
        (["m.onnx", "--input", "in.npz", "-o", "m.onnx"], "output 'm.onnx' is an input"),
        (["m.onnx", "--input", "in.npz", "-o", "no/x.npz"], "output folder 'no' does not exist"),
    ],
)
def test_run(refused, good, folder, arguments, text):
    np.savez("in.npz", X=np.ones((2, 64), np.float32))
    np.savez("other.npz", Z=np.ones(1))
    np.savez("ints.npz", X=np.ones((2, 64), np.int64))
    np.savez("wide.npz", X=np.ones((2, 65), np.float32))
    np.savez("flat.npz", X=np.ones(64, np.float32))
    assert refused("run", *arguments).startswith(text)


@pytest.mark.parametrize("option", ["-o", "--report"])
@pytest.mark.parametrize("name", ["mine.toml", "in.npz"])
def test_outputs_over_other_inputs(refused, model, saved, folder, option, name):
    saved(model)
    (folder / "mine.toml").write_text('description = "mine"\n[[passes]]\npass = "gobo"\n')
    np.savez(folder / "in.npz", X=np.zeros((2, 64), np.float32))
    command = ["compile", "m.onnx", "--recipe", "mine.toml", "--calibration", "in.npz"]
    assert refused(*command, option, name) == f"output '{name}' is an input: give another name"


def test_the_folder_itself(refused):
    assert refused("compile", ".", "--recipe", "gobo") == (
        "model '.' is a folder: give an .onnx file"
    )
