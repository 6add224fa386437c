"""Sweeps: every combination, each as a simulation by itself."""

from __future__ import annotations

import csv

import onnx
import pytest

from sardonyx.compiler.simulate import Workload
from sardonyx.compiler.sweep import Axis, parse_axis, plot, sweep, write_csv
from sardonyx.runtime_ops.accelerator.chip_file import changed, load_chip
from sardonyx.runtime_ops.errors import InputError


@pytest.fixture
def workload(text_model, normal, tmp_path):
    model = text_model(
        "g (float[B,S,64] X) => (float[B,S,96] Y) { Y = MatMul (X, W) }", W=normal(64, 96)
    )
    onnx.save(model, tmp_path / "m.onnx")
    return Workload(tmp_path / "m.onnx")


def test_every_combination(workload):
    chips = [load_chip("tpu-like"), load_chip("tensorcore-like")]
    axes = [Axis("dram.bandwidth", (5.0, 50.0)), Axis("sequence", (8.0, 16.0))]
    points = list(sweep(workload, chips, axes, batch=2))
    expected = [
        (chip, bandwidth, sequence)
        for chip in chips
        for bandwidth in (5.0, 50.0)
        for sequence in (8, 16)
    ]
    assert len(points) == len(expected)
    for point, (chip, bandwidth, sequence) in zip(points, expected, strict=True):
        assert point.settings == {"dram.bandwidth": bandwidth, "sequence": sequence}
        alone = workload.on(changed(chip, "dram.bandwidth", bandwidth), 2, sequence)
        assert point.simulation.timeline.layers == alone.timeline.layers
        assert (point.simulation.batch, point.simulation.sequence) == (2, sequence)
    assert points[0].simulation.cycles > points[2].simulation.cycles


def test_csv(workload, tmp_path):
    axes = [Axis("batch", (1.0, 2.0)), Axis("array.rows", (32.0,))]
    points = list(sweep(workload, [load_chip("tpu-like")], axes, sequence=8))
    write_csv(tmp_path / "s.csv", points)
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = "chip batch sequence array.rows cycles seconds energy_pj dram_bytes macs"
    assert ",".join(rows[0]) == ",".join(columns.split()) + ",utilization,area_um2"
    assert [row["batch"] for row in rows] == ["1", "2"]
    for row, point in zip(rows, points, strict=True):
        assert int(row["cycles"]) == point.simulation.cycles
        assert float(row["energy_pj"]) == point.simulation.energy.total
        assert float(row["array.rows"]) == 32


@pytest.mark.parametrize(("form", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_plot(workload, tmp_path, form, start):
    pytest.importorskip("matplotlib")
    axes = [Axis("sequence", (8.0, 16.0)), Axis("batch", (1.0, 2.0))]
    plot(tmp_path / "plot", list(sweep(workload, [load_chip("tpu-like")], axes)), form)
    assert (tmp_path / "plot").read_bytes().startswith(start)


def test_a_plot_over_a_wide_range(workload, tmp_path):
    """Its axis is logarithmic, has a tick a value, and says the unit."""
    pytest.importorskip("matplotlib")
    axes = [Axis("dram.bandwidth", (1.6, 25.6, 102.4))]
    plot(tmp_path / "plot", list(sweep(workload, [load_chip("tpu-like")], axes, 1, 8)), "svg")
    drawn = (tmp_path / "plot").read_text(encoding="utf-8")
    for text in ("dram.bandwidth (GB/s)", "1.6", "25.6", "102.4"):
        assert f"<!-- {text} -->" in drawn


def test_an_axis_as_it_is_written():
    assert parse_axis("dram.bandwidth=10,2.5") == Axis("dram.bandwidth", (10.0, 2.5))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("dram.bandwidth", "is not FIELD=a,b,c with numbers"),
        ("dram.bandwidth=", "is not FIELD=a,b,c with numbers"),
        ("=1,2", "is not FIELD=a,b,c with numbers"),
        ("dram.bandwidth=1,x", "is not FIELD=a,b,c with numbers"),
        ("dram.bandwidth=inf", "is not FIELD=a,b,c with numbers"),
        ("batch=1.5", "batch takes whole numbers from 1 on"),
        ("sequence=0", "sequence takes whole numbers from 1 on"),
    ],
)
def test_an_axis_that_is_none(text, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_axis(text)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (["dram.bandwidth", "dram.bandwidth"], "--sweep dram.bandwidth is given twice"),
        (["sequence", "batch"], "--batch and --sweep batch cannot both be given"),
    ],
)
def test_a_field_with_values_from_two_places(workload, fields, sentence):
    axes = [Axis(field, (8.0,)) for field in fields]
    with pytest.raises(InputError, match=sentence):
        list(sweep(workload, [load_chip("tpu-like")], axes, batch=2))


def test_a_field_that_a_chip_has_not(workload):
    with pytest.raises(InputError, match=r"'tpu-like' has no field 'dram\.bandwith': did you mean"):
        list(sweep(workload, [load_chip("tpu-like")], [Axis("dram.bandwith", (1.0,))], 1, 8))
