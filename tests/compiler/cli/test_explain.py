"""sardonyx explain, as it looks."""

import onnx
import pytest

from sardonyx.compiler.cli import screen

WEIGHT = "encoder.layer.0.attention.self.query.weight"


@pytest.fixture
def compiled(bert, cli, folder, monkeypatch):
    """A compiled model and its report in a folder to work in; a screen of 80 columns."""
    monkeypatch.setattr(screen.out, "width", 80)
    onnx.save(bert, folder / "bert.onnx")
    ran = cli("compile", "bert.onnx", "--recipe", "gobo", "--report", "report.json")
    assert ran.code == 0
    return "bert.gobo.onnx"


def shown(cli, *arguments):
    ran = cli("explain", *arguments)
    assert (ran.code, ran.err) == (0, "")
    return ran.out


def test_explain_a_model(cli, compiled, golden):
    golden(shown(cli, compiled, "--report", "report.json"))


def test_explain_a_weight(cli, compiled, golden):
    golden(shown(cli, compiled, WEIGHT))


def test_the_report_adds_only_the_passes(cli, compiled):
    without, with_report = shown(cli, compiled), shown(cli, compiled, "--report", "report.json")
    for line in without.splitlines():
        assert line in with_report
    assert "remove-unused" not in without


def test_other_verdicts(cli, compiled):
    text = shown(cli, compiled, "embeddings.LayerNorm.bias")
    assert "left alone: a vector (bias or normalisation parameter), not a weight matrix" in text
    assert "read by   LayerNormalization '/embeddings/LayerNorm/LayerNormalization'" in text
    assert shown(cli, compiled, f"{WEIGHT}.values").startswith(
        f"{WEIGHT}.values: the outliers of weight '{WEIGHT}'\n"
    )
    text = shown(cli, "bert.onnx")
    assert "was not compiled by Sardonyx: it holds 106 nodes and 61 constants" in text


def test_names_with_brackets(cli, folder, text_model, normal):
    model = text_model(
        "g (float[N,64] X) => (float[N,96] Y) { Y = MatMul (X, W) }", W=normal(64, 96)
    )
    model.graph.initializer[0].name = model.graph.node[0].input[1] = "[/red]w"
    onnx.save(model, "[m].onnx")
    assert cli("compile", "[m].onnx", "--recipe", "gobo").code == 0
    assert "[m].gobo.onnx" in shown(cli, "[m].gobo.onnx")
    assert "[/red]w.values: float32" in shown(cli, "[m].gobo.onnx", "[/red]w")


def test_refusals(refused, bert_file, folder):
    assert refused("explain", "no.onnx") == "cannot read 'no.onnx': No such file or directory"
    assert refused("explain", "out.onnx").startswith("'out.onnx' is not an ONNX model")
    text = refused("explain", bert_file, "embeddings.LayerNorm.bia")
    assert text.endswith(
        "has no tensor or node 'embeddings.LayerNorm.bia': did you mean "
        "'embeddings.LayerNorm.bias'?"
    )
    text = refused("explain", bert_file, "--report", "out.onnx")
    assert text == "'out.onnx' is not a report that 'compile --report' wrote"
    text = refused("explain", bert_file, "--report", "no.json")
    assert text == "no.json: No such file or directory"
