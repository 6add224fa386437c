"""sardonyx simulate, from the command line to its files; what it refuses."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
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
        (
            (*SIZES, "--chip", "gobbo"),
            "unknown chip 'gobbo': did you mean 'gobo', or a chip of your",
        ),
        ((*SIZES, "--chip", "missing.toml"), "cannot read chip 'missing.toml'"),
        ((*SIZES, "--chip", "tpu-like-int8"), "source with --recipe int8-kl or peg"),
        ((*SIZES, "--sweep", "dram.width=1"), "has no field 'dram.width'"),
        ((*SIZES, "--sweep", "dram.bandwidth=-1"), "dram.bandwidth.value"),
        ((*SIZES, "--sweep", "buffers.weights.capacity=16"), "buffers.weights.capacity is 16"),
        ((*SIZES, "--sweep", "batch=1", "--report", "r.json"), "not --report, --trace or --html"),
        ((*SIZES, "--sweep", "batch=1", "--html", "p.html"), "not --report, --trace or --html"),
        ((*SIZES, "--csv", "s.csv"), "show what --sweep varies: give that too"),
        ((*SIZES, "--sweep", "batch=1", "--plot", "s.txt"), "must end in .png, .svg or .pdf"),
        (("--sequence", 8, "--batch", 1, "--sweep", "batch=1,2"), "--batch and --sweep batch"),
        (
            (*SIZES, "--report", "../work/r.json", "--html", "r.json"),
            "--report and --html cannot both be written to 'r.json'",
        ),
        ((*SIZES, "--report", "m.onnx"), "--report: output 'm.onnx' is an input"),
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


@pytest.mark.parametrize("output", ["mine.toml", "tech.toml"])
def test_never_over_a_file_of_the_chip(model, refused, folder, output):
    technology = (CHIPS / "technology/45nm.toml").read_text()
    chip = (CHIPS / "tensorcore-like.toml").read_text().replace('"45nm"', '"tech.toml"')
    (folder / "tech.toml").write_text(technology)
    (folder / "mine.toml").write_text(chip)
    arguments = (*SIZES, "--chip", "mine.toml+gobo-memory", "--report", output)
    expected = f"--report: output '{output}' is an input: give another name"
    assert refused("simulate", model, *arguments) == expected


def test_never_over_the_data_of_the_model(refused, folder, text_model, normal):
    weights = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}
    onnx.save(text_model(MATMUL, W=normal(64, 96)), "x.onnx", **weights)
    sentence = refused("simulate", "x.onnx", *SIZES, "--chip", "tpu-like", "--html", "w.bin")
    assert sentence == "--html: output 'w.bin' is an input: give another name"


def test_all_outputs_or_none(model, refused, folder, monkeypatch):
    """A page that cannot be written leaves the older report."""
    (folder / "r.json").write_text("older")
    write = Path.write_text

    def full(self, *arguments, **options):
        if "p.html" in self.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    sentence = refused("simulate", model, *SIZES, "--report", "r.json", "--html", "p.html")
    assert sentence == "cannot write 'p.html': No space left on device"
    assert (folder / "r.json").read_text() == "older"


def test_a_size_that_depends_on_data(refused, folder, text_model):
    text = "g (float[B,S] X) => (int64[2,N] Y) { nz = NonZero (X) Y = Neg (nz) }"
    model = text_model(text)
    model.graph.node[0].name = "find"
    onnx.save(model, "n.onnx")
    sentence = refused("simulate", "n.onnx", *SIZES, "--chip", "tpu-like")
    assert sentence == (
        "'n.onnx': how large 'nz' is, which node 'find' (NonZero) makes, depends on more than "
        "batch and sequence, or is not known: export the model so that all sizes follow from these "
        "two"
    )


def test_layers_that_have_no_row(cli, folder, text_model, normal):
    names = [f"W{n}" for n in range(16)]
    nodes = " ".join(f"Y{n} = MatMul (X, {name})" for n, name in enumerate(names))
    outputs = ", ".join(f"float[B,S,{n + 64}] Y{n}" for n in range(16))
    weights = {name: normal(64, n + 64) for n, name in enumerate(names)}
    model = text_model(f"g (float[B,S,64] X) => ({outputs}) {{ {nodes} }}", **weights)
    onnx.save(model, "k.onnx")
    ran = cli("simulate", "k.onnx", *SIZES, "--chip", "tpu-like")
    assert "2 others, of" in ran.out


def test_ops_of_the_host_are_named(cli, folder, text_model, normal):
    text = MATMUL.replace("Y = MatMul (X, W)", "Z = MatMul (X, W) Y = Acosh (Z)")
    onnx.save(text_model(text, W=normal(64, 96)), "h.onnx")
    ran = cli("simulate", "h.onnx", *SIZES, "--chip", "tpu-like")
    assert "On the host, as the chip has no unit for them: 1 Acosh." in ran.out
