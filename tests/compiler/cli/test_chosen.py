"""What passes chose by the model's outputs: compile says it, and the file keeps it for explain."""

import json

import onnx
import pytest

from sardonyx.compiler.cli import screen

MIXED = ("mixed-precision", "quantize-values.wide=auto")
PEG = ("peg", "peg.tensors=auto")


@pytest.fixture
def compiled(bert, cli, folder, monkeypatch):
    """Compiles the small BERT; what the command printed, the file and the report."""
    monkeypatch.setattr(screen.out, "width", 300)
    onnx.save(bert, folder / "bert.onnx")

    def run(recipe, *sets):
        options = [word for one in sets for word in ("--set", one)]
        command = ("compile", "bert.onnx", "--recipe", recipe, "--random-calibration", 4)
        ran = cli(*command, "--report", "report.json", *options)
        assert ran.code == 0, ran.err
        report = json.loads((folder / "report.json").read_text())
        return ran.out.splitlines(), f"bert.{recipe}.onnx", report

    return run


@pytest.mark.parametrize("chosen", [MIXED, PEG])
def test_told_by_compile_by_explain_and_in_the_report(cli, compiled, chosen):
    out, file, report = compiled(*chosen)
    entry = report["decided"][0]
    line = f"{entry['by']} chose {entry['what']}: {entry['reason']}."
    assert chosen[1].startswith(entry["by"])
    assert entry["reason"].startswith("outputs of ")
    assert line in out
    assert line in cli("explain", file).out.splitlines()


def test_why_an_activation_has_16_bits(cli, compiled):
    _, file, report = compiled(*MIXED)
    wide = [one for one in report["activations"] if one["bits"] == 16]
    assert 0 < len(wide) <= 0.224 * len(report["activations"])
    assert all(one["why_wide"].startswith("with it alone in 8 bits outputs are") for one in wide)
    assert not any(one["why_wide"] for one in report["activations"] if one["bits"] == 8)
    assert wide[0]["why_wide"] in cli("explain", file, wide[0]["name"]).out
