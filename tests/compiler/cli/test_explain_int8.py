"""sardonyx explain and diff on integers, as they look."""

import onnx
import pytest

from sardonyx.compiler.cli import screen


@pytest.fixture
def compiled(bert, cli, folder, monkeypatch):
    """Compiled models by target, in a folder to work in; a screen of 80 columns."""
    monkeypatch.setattr(screen.out, "width", 80)
    onnx.save(bert, folder / "bert.onnx")

    def form(target):
        ran = cli(
            *("compile", "bert.onnx", "--recipe", "int8-kl", "--target", target),
            *("--random-calibration", 4, "-o", f"{target}.onnx"),
        )
        assert ran.code == 0
        return f"{target}.onnx"

    return form


def shown(cli, *arguments):
    ran = cli(*arguments)
    assert (ran.code, ran.err) == (0, "")
    return ran.out


@pytest.mark.parametrize("target", ["portable", "cpu"])
def test_explain_a_model(cli, compiled, target):
    text = shown(cli, "explain", compiled(target))
    assert max(map(len, text.splitlines())) <= 80
    heads = [line for line in text.splitlines() if line.startswith("\u2503")]
    columns = [[cell.strip() for cell in head.strip("\u2503").split("\u2503")] for head in heads]
    assert columns == [
        ["weight of", "op", "bits", "SQNR", "before", "after"],
        ["activation", "to", "method", "class", "range", "products"],
    ]
    assert "uint8 \u2502 kl-" in text
    assert "Not touched: " in text
    assert "Of new nodes: " in text


def test_few_activations_have_a_row_each(cli, compiled):
    text = shown(cli, "explain", compiled("portable"))
    rows = [line for line in text.splitlines() if " uint8 " in line]
    assert len(rows) == 8


def test_diff_shows_what_was_lost(cli, compiled):
    text = shown(cli, "diff", "bert.onnx", compiled("portable"))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = (line for line in lines if line.startswith("\u2502 uniform8/tensor"))
    assert row.split("\u2502")[-2].strip().endswith((" dB", " to"))
    assert "float32 -> uniform7/channel" in text
    lines = shown(cli, "diff", "portable.onnx", compiled("cpu")).splitlines()
    assert not any("SQNR" in line for line in lines)
