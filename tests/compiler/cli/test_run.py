"""sardonyx run: what it says of the native ops; the accelerator as a backend."""

import numpy as np
import onnx
import pytest

MATMUL = "g (float[N,64] X) => (float[N,96] Y) { Y = MatMul (X, W) }"
NOT_USED = "The native GOBO ops, of float32 models, were not used: "


@pytest.fixture
def compiled(text_model, normal, folder, cli):
    """m.onnx, its compiled form c.onnx and inputs."""
    onnx.save(text_model(MATMUL, W=normal(64, 96)), "m.onnx")
    np.savez("in.npz", X=normal(5, 64))
    assert cli("compile", "m.onnx", "--recipe", "gobo", "-o", "c.onnx").code == 0


@pytest.fixture
def said(compiled, cli):
    """What the command prints around the table."""

    def run(*arguments):
        ran = cli("run", *arguments, "--input", "in.npz", "-o", "out.npz")
        assert (ran.code, ran.err) == (0, "")
        title, *_, last = ran.out.splitlines()
        assert last == "Wrote out.npz"
        return title, ran.out

    return run


def test_native_ops_are_used(said):
    title, text = said("c.onnx")
    assert title.startswith("Outputs of c.onnx (onnxruntime, native ops: ")
    assert NOT_USED not in text


def test_why_they_are_not(said, monkeypatch):
    monkeypatch.setenv("SARDONYX_NATIVE", "missing.so")
    title, text = said("c.onnx")
    assert title.rstrip() == "Outputs of c.onnx (onnxruntime)"
    line = next(line for line in text.splitlines() if line.startswith(NOT_USED))
    assert "missing.so" in line
    assert line.endswith(".")


def test_a_model_without_such_ops(said, monkeypatch):
    monkeypatch.setenv("SARDONYX_NATIVE", "missing.so")
    title, text = said("m.onnx")
    assert title.rstrip() == "Outputs of m.onnx (onnxruntime)"
    assert NOT_USED not in text


def test_the_reference_executor_does_not_use_them(said):
    title, text = said("c.onnx", "--backend", "reference")
    assert title.rstrip() == "Outputs of c.onnx (reference)"
    assert NOT_USED not in text


def test_both_give_the_same(said, cli, monkeypatch):
    said("c.onnx")
    native = np.load("out.npz")["Y"]
    monkeypatch.setenv("SARDONYX_NATIVE", "0")
    said("c.onnx")
    # 64 products of about 0.04^2, added in another order
    np.testing.assert_allclose(np.load("out.npz")["Y"], native, rtol=0, atol=1e-6)


def test_an_unknown_cpu(compiled, refused, monkeypatch):
    monkeypatch.setenv("SARDONYX_CPU", "mmx")
    text = refused("run", "c.onnx", "--input", "in.npz")
    assert text == "SARDONYX_CPU is 'mmx': it may be scalar, avx2, avx512"


def test_the_accelerator(said):
    said("c.onnx")
    plain = np.load("out.npz")["Y"]
    title, text = said("c.onnx", "--backend", "accelerator")
    assert title.rstrip() == "Outputs of c.onnx (accelerator)"
    assert NOT_USED not in text
    # 64 products of about 0.04^2, added in another order
    np.testing.assert_allclose(np.load("out.npz")["Y"], plain, rtol=0, atol=1e-6)


def test_nothing_for_the_accelerator(compiled, refused):
    text = refused("run", "m.onnx", "--input", "in.npz", "--backend", "accelerator")
    assert text == (
        "'m.onnx' holds nothing that the accelerator runs: "
        "compile it with --recipe gobo, gobo4 or gobo-roberta"
    )


def test_the_accelerator_takes_no_doubles(text_model, normal, folder, cli, refused):
    model = MATMUL.replace("float", "double")
    onnx.save(text_model(model, W=normal(64, 96, dtype=np.float64)), "m.onnx")
    np.savez("in.npz", X=normal(5, 64, dtype=np.float64))
    assert cli("compile", "m.onnx", "--recipe", "gobo", "-o", "c.onnx").code == 0
    text = refused("run", "c.onnx", "--input", "in.npz", "--backend", "accelerator")
    assert text == "GOBO's chip computes in float32, not in float64"


def test_inputs_that_do_not_fit_the_accelerator(compiled, refused):
    np.savez("bad.npz", X=np.zeros((5, 63), np.float32))
    text = refused("run", "c.onnx", "--input", "bad.npz", "--backend", "accelerator")
    assert text.startswith("input 'X' has shape [5, 63], the model wants")
