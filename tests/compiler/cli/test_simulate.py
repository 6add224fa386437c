"""sardonyx simulate, from the command line to its files; what it refuses."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import onnx
import pytest

from sardonyx.runtime_ops.accelerator.chip_file import CHIPS

MATMUL = "g (float[B,S,64] X) => (float[B,S,96] Y) { Y = MatMul (X, W) }"
SIZES = ("--batch", 1, "--sequence", 16)


@pytest.fixture
def model(bert_file, cli, folder):
    """A small BERT, compiled for the chip, beside its source b.onnx."""
    (folder / "b.onnx").write_bytes(bert_file.read_bytes())
    assert cli("compile", "b.onnx", "--recipe", "gobo", "--verify", "off", "-o", "m.onnx").code == 0
    return "m.onnx"


@pytest.fixture
def said(cli, model):
    """What the command prints."""

    def run(*arguments):
        ran = cli("simulate", model, *arguments)
        assert (ran.code, ran.err) == (0, "")
        return ran.out

    return run


def test_a_chip(said):
    text = said(*SIZES)
    assert text.startswith("m.onnx on gobo, batch 1, sequence 16")
    assert "GoboMatMul3" in text
    assert "4 products of two activations (attention) run on the vector unit" in text


def test_chips_side_by_side(said, folder):
    own = (CHIPS / "tpu-like.toml").read_text().replace("34.0", "68.0")
    (folder / "mine.toml").write_text(own)
    chips = ("gobo", "tensorcore-like+gobo-memory", "mine.toml")
    given = [part for chip in chips for part in ("--chip", chip)]
    text = said(*SIZES, *given)
    titles = [line.strip() for line in text.splitlines() if line.startswith("m.onnx on")]
    assert [title.split(" on ")[1].split(",")[0] for title in titles] == [
        "gobo",
        "tensorcore-like+gobo-memory",
        "mine",
    ]
    assert "Totals" in text


def test_the_total_line_is_the_reports(said, folder):
    text = said(*SIZES, "--report", "r.json", "--trace", "t.json")
    report = json.loads((folder / "r.json").read_text())
    total = next(line for line in text.splitlines() if "in all" in line)
    assert f"{report['totals']['cycles']:,}" in total
    assert f"{len(report['layers']):,} in all" in total
    assert (report["chip"], report["model"]) == ("gobo", "m.onnx")
    assert json.loads((folder / "t.json").read_text())["traceEvents"]
    assert text.splitlines()[-2:] == ["Wrote r.json", "Wrote t.json"]


def test_the_page_has_the_reports_numbers(said, folder):
    text = said(*SIZES, "--report", "r.json", "--html", "p.html")
    assert text.splitlines()[-1] == "Wrote p.html"
    report = json.loads((folder / "r.json").read_text())
    page = ElementTree.fromstring((folder / "p.html").read_text().partition("\n")[2])
    sections = {section.findtext("h2"): section for section in page.iter("section")}
    totals = {float(each.get("value")) for each in sections["Totals"].iter("data")}
    keys = ("cycles", "seconds", "energy_pj", "dram_bytes", "macs", "utilization", "area_um2")
    assert totals == {report["totals"][key] for key in keys}
    rows = sections["All layers"].findall(".//tbody/tr")
    for row, layer in zip(rows, report["layers"], strict=True):
        cells = [float(each.get("value")) for each in row.iter("data")]
        costs = ("cycles", "compute_cycles", "memory_cycles", "dram_bytes")
        assert cells[:4] == [layer[key] for key in costs]
        assert cells[4] == sum(layer["energy_pj"].values())


def test_a_sweep(said, folder):
    pytest.importorskip("matplotlib")
    sweep = ("--sweep", "dram.bandwidth=10,20", "--sweep", "sequence=8,16")
    text = said("--batch", 1, *sweep, "--csv", "s.csv", "--plot", "s.png")
    lines = (folder / "s.csv").read_text().splitlines()
    assert len(lines) == 1 + 4
    for line in lines[1:]:
        assert f"{int(line.split(',')[4]):,}" in text
    assert (folder / "s.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "'input_ids' [batch, sequence]"),
        (("--batch", 1), "are open: give --sequence"),
        ((*SIZES, "--chip", "gobbo"), "unknown chip 'gobbo': did you mean 'gobo'?"),
        ((*SIZES, "--chip", "missing.toml"), "cannot read chip 'missing.toml'"),
        ((*SIZES, "--chip", "tpu-like-int8"), "source with --recipe int8-kl or peg"),
        ((*SIZES, "--sweep", "dram.width=1"), "has no field 'dram.width'"),
        ((*SIZES, "--sweep", "dram.bandwidth=-1"), "dram.bandwidth.value"),
        ((*SIZES, "--sweep", "buffers.weights.capacity=16"), "buffers.weights.capacity is 16"),
        ((*SIZES, "--sweep", "batch=1", "--report", "r.json"), "not --report, --trace or --html"),
        ((*SIZES, "--sweep", "batch=1", "--html", "p.html"), "not --report, --trace or --html"),
        ((*SIZES, "--csv", "s.csv"), "show what --sweep varies: give that too"),
        ((*SIZES, "--sweep", "batch=1", "--plot", "s.txt"), "must end in .png, .svg or .pdf"),
        ((*SIZES, "--report", "r.json", "--trace", "r.json"), "cannot both be written"),
        ((*SIZES, "--report", "m.onnx"), "output 'm.onnx' is an input"),
        (("--batch", 1, "--sequence", 129), "a sequence of 129 is beyond the model's positions"),
    ],
)
def test_what_is_refused(model, refused, arguments, sentence):
    assert sentence in refused("simulate", model, *arguments)


def test_a_model_that_is_not_compiled(model, refused):
    expected = "compile its source with --recipe gobo, gobo4 or gobo-roberta"
    assert expected in refused("simulate", "b.onnx", *SIZES)


def test_a_chip_file_with_a_mistake(model, refused, folder):
    text = (CHIPS / "gobo.toml").read_text()
    (folder / "c.toml").write_text(text.replace('25.6, unit = "GB/s"', '25.6, unit = "MB/s"'))
    sentence = refused("simulate", model, *SIZES, "--chip", "c.toml")
    assert sentence == "chip 'c.toml': dram.bandwidth: its unit is 'GB/s', not 'MB/s'"


def test_ops_of_the_host_are_named(cli, folder, text_model, normal):
    text = MATMUL.replace("Y = MatMul (X, W)", "Z = MatMul (X, W) Y = Acosh (Z)")
    onnx.save(text_model(text, W=normal(64, 96)), "h.onnx")
    ran = cli("simulate", "h.onnx", *SIZES, "--chip", "tpu-like")
    assert "On the host, as the chip has no unit for them: 1 Acosh." in ran.out
