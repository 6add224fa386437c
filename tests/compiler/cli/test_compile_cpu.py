"""sardonyx compile --target cpu: what the screen, the report and explain say."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from sardonyx.compiler.report import CompileReport

COMPILE = ("compile", "m.onnx", "--recipe", "float", "--target", "cpu", "--report", "r.json")
NEAR_MISS = """g (float[B,S,8] X) => (float[B,S,8] Y, float[B,S,8] Z) {
  D = Div (X, root) [erf] E = Erf (D) A = Add (E, two) M = Mul (X, A) Y = Mul (M, half)
  F = Erf (D) C = Add (F, two) N = Mul (X, C) Z = Mul (N, half)
}"""
WHY = "Add 'A' has the constant 2, not 1"


def words(text):
    return " ".join(text.split())


@pytest.fixture
def compiled(cli, folder, bert):
    onnx.save(bert, "m.onnx")
    ran = cli(*COMPILE)
    assert (ran.code, ran.err) == (0, "")
    return words(ran.out)


def test_the_screen(compiled):
    report = CompileReport.model_validate_json(Path("r.json").read_text())
    replaced = sum(entry.replaced for entry in report.fused)
    assert f"Fused {replaced} nodes into 4: 2 Attention, 2 BiasGelu." in compiled
    assert "raise-opset" in compiled
    assert " left " not in compiled
    assert report.totals.weights_quantized == 0


def test_explain_says_the_same(compiled, cli):
    told = words(cli("explain", "m.float.onnx", "--report", "r.json").out)
    assert "2 Attention, 2 BiasGelu." in told
    assert "Fused" not in cli("explain", "m.float.onnx").out


def test_a_near_miss_is_told_with_its_reason(cli, folder, text_model):
    numbers = {"root": np.float32(2**0.5), "two": np.float32(2), "half": np.float32(0.5)}
    onnx.save(text_model(NEAR_MISS, **numbers), "m.onnx")
    ran = cli(*COMPILE, "--verify", "full", "--strict")
    assert (ran.code, ran.err) == (0, "")  # which is about weights
    line = f"fuse-gelu left 1: {WHY}: erf"
    assert line in words(ran.out)
    assert "Fused" not in ran.out
    misses = json.loads(Path("r.json").read_text())["not_fused"]
    assert {"by": "fuse-gelu", "node": "erf", "reason": WHY} in misses
    assert line in words(cli("explain", "m.float.onnx", "--report", "r.json").out)


def test_an_opset_that_stays(cli, folder, text_model):
    onnx.save(text_model("g (float[A] X) => (float[A] Y) { Y = Relu (X) }", 12), "m.onnx")
    assert "raise-opset left 1: opset 12 is older than 13: g" in words(cli(*COMPILE).out)


def test_set_and_until_and_dump(cli, folder, bert, census):
    onnx.save(bert, "m.onnx")
    options = ("--set", "raise-opset.to=0", "--until", "fuse-gelu", "--dump", "stages")
    ran = cli(*COMPILE, *options)
    assert (ran.code, ran.err) == (0, "")
    made = onnx.load("m.float.onnx")
    assert made.opset_import[0].version == 17
    assert census(made)["MultiHeadAttention"] == 2
    stages = [path.name for path in sorted((folder / "stages").glob("*.onnx"))]
    assert [name.split("-", 1)[1] for name in stages[-4:]] == [
        "raise-opset.onnx",
        "fuse-attention.onnx",
        "fuse-projection-bias.onnx",
        "fuse-gelu.onnx",
    ]
    for name in stages:
        onnx.checker.check_model(folder / "stages" / name)


def test_gobo_under_full_verification(cli, folder, bert):
    onnx.save(bert, "m.onnx")
    ran = cli("compile", "m.onnx", "--recipe", "gobo", "--target", "cpu", "--verify", "full")
    assert (ran.code, ran.err) == (0, "")
    shown = words(ran.out)
    assert "2 Attention, 2 BiasGelu, 10 GoboLinear3." in shown
    assert "weights decoded. Whole models differ by" in shown
    assert cli("explain", "m.gobo.onnx").code == 0
    assert cli("diff", "m.onnx", "m.gobo.onnx").code == 0


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("raise-opsets.to=0", "recipe 'float' on target 'cpu' has no pass 'raise-opsets': did you"),
        ("raise-opset.to=99", "raise-opset.to: Input should be less than or equal to 23 (got 99)"),
        ("raise-opset.at=9", "pass raise-opset has no argument 'at': there is to"),
    ],
)
def test_settings_that_are_wrong(refused, bert, setting, text):
    onnx.save(bert, "m.onnx")
    assert refused(*COMPILE, "--set", setting).startswith(text)
