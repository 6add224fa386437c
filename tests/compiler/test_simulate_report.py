"""The report and the trace of a simulation: documented keys, sums, lanes."""

from __future__ import annotations

import json

import onnx
import pytest
from pydantic import ValidationError

from sardonyx.compiler import compile
from sardonyx.compiler.chip_trace import write_trace
from sardonyx.compiler.simulate import Workload
from sardonyx.compiler.simulate_report import SimulateReport, report_of
from sardonyx.runtime_ops.accelerator.chip_file import load_chip

DOCUMENTED = {
    "": "schema model chip batch sequence totals layers others",
    "totals": "cycles seconds energy_pj energy_by_component_pj dram_bytes macs utilization "
    "area_um2 area_by_component_um2 host_ops",
    "layers": "node op shape unit start cycles compute_cycles memory_cycles bound macs dram_bytes "
    "energy_pj",
}


@pytest.fixture(scope="module")
def simulations(bert, tmp_path_factory):
    path = tmp_path_factory.mktemp("simulated") / "bert.gobo.onnx"
    compile(bert, "gobo", verify="off").save(path)
    workload = Workload(path)
    return [workload.on(load_chip(name), 2, 16) for name in ("gobo", "tensorcore-like")]


@pytest.fixture(scope="module")
def written(simulations):
    return json.loads(report_of(simulations).to_json())


def test_json_reads_back(simulations):
    report = report_of(simulations)
    assert SimulateReport.model_validate_json(report.to_json()) == report


def test_the_documented_keys(written):
    assert written["schema"] == 1
    for place, keys in DOCUMENTED.items():
        part = written[place] if place else written
        part = part[0] if isinstance(part, list) else part
        assert set(part) == set(keys.split()), place
    assert set(written["others"][0]) == {"chip", "batch", "sequence", "totals", "layers"}


def test_another_key_or_version_is_refused(written):
    for change in ({"extra": 1}, {"schema": 2}, {"totals": {}}):
        with pytest.raises(ValidationError):
            SimulateReport.model_validate(written | change)


def test_layers_add_up_to_totals(written):
    chips = [written, *written["others"]]
    assert [entry["chip"] for entry in chips] == ["gobo", "tensorcore-like"]
    for entry in chips:
        totals, layers = entry["totals"], entry["layers"]
        for key in ("cycles", "dram_bytes", "macs"):
            assert totals[key] == sum(layer[key] for layer in layers)
        energy = [sum(layer["energy_pj"].values()) for layer in layers]
        assert totals["energy_pj"] == pytest.approx(sum(energy))
        parts = totals["energy_by_component_pj"].values()
        assert totals["energy_pj"] == pytest.approx(sum(parts))
        assert totals["area_um2"] == pytest.approx(sum(totals["area_by_component_um2"].values()))
        assert {layer["bound"] for layer in layers} == {"compute", "memory"}


def test_simulate_schema(golden):
    schema = SimulateReport.model_json_schema(mode="serialization", by_alias=True)
    golden(json.dumps(schema, indent=1) + "\n")


def test_a_trace_has_a_lane_for_each_unit(simulations, tmp_path):
    """As Chrome's format says: "M" names processes and threads, "X" are spans."""
    write_trace(tmp_path / "t.json", simulations)
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    names = [event for event in events if event["ph"] == "M"]
    processes = {e["pid"]: e["args"]["name"] for e in names if e["name"] == "process_name"}
    assert list(processes.values()) == [
        "bert.gobo.onnx on gobo",
        "bert.gobo.onnx on tensorcore-like",
    ]
    lanes = {(e["pid"], e["tid"]): e["args"]["name"] for e in names if e["name"] == "thread_name"}
    spans = [event for event in events if event["ph"] == "X"]
    assert len(spans) + len(names) == len(events)
    busy = {lanes[span["pid"], span["tid"]] for span in spans if span["pid"] == 1}
    assert busy == {"tile array", "SPU", "DRAM", "vector unit"}
    for process, simulation in enumerate(simulations, 1):
        own = [span for span in spans if span["pid"] == process]
        assert all(span["dur"] > 0 for span in own)
        end = max(span["ts"] + span["dur"] for span in own)
        assert end == pytest.approx(1e6 * simulation.seconds)
        nodes = {time.layer.node for time in simulation.timeline.layers}
        assert {span["name"] for span in own} <= nodes


def test_a_model_without_a_sequence(text_model, normal, tmp_path):
    model = text_model(
        "g (float[N,64] X) => (float[N,96] Y) { Y = MatMul (X, W) }", W=normal(64, 96)
    )
    onnx.save(model, tmp_path / "m.onnx")
    found = Workload(tmp_path / "m.onnx").on(load_chip("tpu-like"), 4)
    report = report_of([found])
    assert (report.batch, report.sequence, report.others) == (4, None, [])
    assert report.layers[0].shape == "4x64 * 64x96"
