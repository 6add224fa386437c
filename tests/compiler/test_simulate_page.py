"""The page of a simulation: well-formed, alone, and with the figures of the timeline."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from sardonyx.compiler.simulate import Simulation
from sardonyx.compiler.simulate_page import page
from sardonyx.runtime_ops.accelerator.chip_file import load_chip
from sardonyx.runtime_ops.accelerator.timeline import simulate
from sardonyx.runtime_ops.accelerator.work import Layer, Product, Value, Vector

NAMES = ("gobo", "tensorcore-like", "tensorcore-like+gobo-memory")


def layers(node="/a<b>&'c'"):
    """A bit of everything: weights, two activations, work of the vector unit and of the host."""
    x, scores = Value("x", 4 * 32 * 96), Value("scores", 4 * 32 * 32)
    dense = Product(32, 96, 96, True, "codebook", 3, outliers=(2,) * 6, table_bytes=32)
    batched = Product(32, 96, 32, False, "float32", 32)
    softmax = Vector(2 * 32 * 32, 4 * 32 * 32, 4 * 32 * 32, "special")
    return [
        Layer(node, "GoboMatMul", "32 x 96 x 96", dense, "array", (), (x,)),
        Layer("scores", "MatMul", "32 x 96 x 32", batched, "array", (x,), (scores,)),
        Layer("shares", "Softmax", "32 x 32", softmax, "vector", (scores,)),
        Layer("odd", "TopK", "32 x 32", softmax, "host"),
    ]


def simulations(*names, of=None, batch=1):
    """The layers on some chips."""
    work = layers() if of is None else of
    model = Path("some/model <1>.onnx")
    return [Simulation(model, batch, 32, simulate(load_chip(n), work)) for n in names]


def parsed(source):
    """The page as a tree; raises where it is not well-formed."""
    first, _, rest = source.partition("\n")
    assert first == "<!DOCTYPE html>"
    return ElementTree.fromstring(rest)


def section(tree, title):
    return next(part for part in tree.iter("section") if part.findtext("h2") == title)


def figures(tree):
    """The exact numbers of a part of the page, in order."""
    return [float(each.get("value")) for each in tree.iter("data")]


@pytest.fixture(scope="module")
def three():
    return simulations(*NAMES)


@pytest.fixture(scope="module")
def tree(three):
    return parsed(page(three))


def test_the_page_is_alone(three, tree):
    """Nothing is loaded and nothing runs."""
    source = page(three)
    assert not {"script", "link", "img", "iframe", "a"} & {part.tag for part in tree.iter()}
    for word in ("http", "url(", "@import", "src="):
        assert word not in source
    assert "prefers-color-scheme: dark" in tree.find("head").findtext("style")


def test_heading(tree):
    """What the model and its layers are called is text, not markup."""
    assert tree.find("body/main/header").findtext("h1") == "model <1>.onnx on gobo"
    said = "".join(tree.find("body/main/header").itertext())
    assert "(batch 1, tokens 32)" in said
    assert "/a<b>&'c'" in "".join(section(tree, "All layers").itertext())


def test_totals(three, tree):
    timeline = three[0].timeline
    assert figures(section(tree, "Totals")) == [
        timeline.seconds,
        timeline.cycles,
        timeline.energy.total,
        timeline.dram_bytes,
        timeline.macs,
        timeline.utilization,
        timeline.area.total,
    ]


def test_all_layers(three, tree):
    """A row each, with all costs."""
    found = section(tree, "All layers").findall(".//tbody/tr")
    for row, time in zip(found, three[0].timeline.layers, strict=True):
        costs = [time.cycles, time.compute_cycles, time.memory_cycles, time.dram_bytes]
        assert figures(row) == [*costs, time.energy.total]
        assert time.bound in "".join(row.itertext())


def test_energy(three, tree):
    assert figures(section(tree, "Energy by component")) == list(
        vars(three[0].timeline.energy).values()
    )


def test_chips(three, tree):
    """A row each, ratios to the first, which is named."""
    chips = section(tree, "Chips side by side")
    assert [head.text for head in chips.findall(".//th")].count(f"Ratio to {NAMES[0]}") == 2
    rows = chips.findall(".//tbody/tr")
    assert [row.find("td").text for row in rows] == list(NAMES)
    first = three[0].timeline
    for row, each in zip(rows, three, strict=True):
        time, energy = each.seconds, each.energy.total
        expected = [time, time / first.seconds, energy, energy / first.energy.total]
        assert figures(row)[:4] == expected


def test_layers_are_drawn_by_what_bounds_them(three, tree):
    """Their columns are as high as their cycles, side by side."""
    plot = section(tree, "Cycles by layer").find("svg")
    most = max(time.cycles for time in three[0].timeline.layers)
    for box, time in zip(plot.findall("rect"), three[0].timeline.layers, strict=True):
        assert box.get("class") == time.bound
        height = float(box.get("height").rstrip("%"))
        assert height == pytest.approx(100 * time.cycles / most, abs=1e-4)  # as it is written


def test_lanes(three, tree):
    """Each unit that works has one, as busy on the whole as the events of the timeline say."""
    timeline = three[0].timeline
    titles = [title.text for title in section(tree, "Timeline").iter("title")]
    shares = {}
    for event in timeline.events():
        shares[event.lane] = shares.get(event.lane, 0) + event.cycles / timeline.cycles
    assert set(shares) == {"array", "SPU", "vector", "DRAM", "host"}
    names = {"array": "Array", "vector": "Vector unit", "host": "Host"}
    for lane, share in shares.items():
        assert f"{names.get(lane, lane)}: works {share:.1%} of the time" in titles


def test_roofline(tree):
    """A circle for each product, below the roof of its unit; what has no MACs has none."""
    plot = section(tree, "Roofline").find("svg")
    circles = plot.findall("circle")
    assert len(circles) == 2
    kinds = {circle.get("class").split()[1]: circle for circle in circles}
    assert set(kinds) == {"weights", "activations"}
    roofs = [line for line in plot.findall("line") if line.get("class") == "roof"]
    flat = sorted(float(line.get("y2").rstrip("%")) for line in roofs[1::2])
    array, vector = flat
    heights = {kind: float(circle.get("cy").rstrip("%")) for kind, circle in kinds.items()}
    assert heights["weights"] >= array
    assert heights["activations"] >= vector


def test_one_chip():
    tree = parsed(page(simulations("gobo", batch=None)))
    assert "give --chip again" in "".join(section(tree, "Chips side by side").itertext())
    assert "(tokens 32)" in "".join(tree.find("body/main/header").itertext())


def test_constants_have_sources(three, tree):
    rows = section(tree, "Constants of the chip").findall(".//tbody/tr")
    said = {row.find("td").text: [cell.text for cell in row] for row in rows}
    bandwidth = three[0].chip.dram.bandwidth
    assert said["dram.bandwidth"][1:] == ["25.6", "GB/s", bandwidth.source]
    assert "technology.dram_energy" in said


def test_a_model_without_products():
    """Nothing to multiply, or nothing at all, is no error."""
    parsed(page(simulations("gobo", of=layers()[2:])))
    parsed(page(simulations("gobo", of=[])))
