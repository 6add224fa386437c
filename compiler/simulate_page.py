"""simulate page: simulations as one HTML page that needs nothing beside it. ``--html`` writes it.

Every figure is a ``data`` element whose value is the exact number of the report.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sardonyx.compiler.markup import amount, element, exact, table, text
from sardonyx.compiler.simulate import Simulation
from sardonyx.compiler.simulate_charts import (
    LANES,
    bars,
    lanes_chart,
    layers_chart,
    ops_chart,
    roofline_chart,
)
from sardonyx.runtime_ops.accelerator.chip import Chip
from sardonyx.runtime_ops.accelerator.chip_file import constants
from sardonyx.runtime_ops.accelerator.stages import Unit
from sardonyx.runtime_ops.accelerator.timeline import LayerTime, Timeline

_STYLE = Path(__file__).with_name("simulate_page.css")

_COMPONENTS = {
    "pe": ("PEs", "additions and multiplications in the array"),
    "spu": ("SPUs", "sums times centroids, and outliers"),
    "registers": ("Registers", "register files in the array"),
    "sram": ("SRAM", "the buffers on the chip"),
    "dram": ("DRAM", "memory outside the chip"),
    "vector": ("Vector unit", "its arithmetic"),
    "host": ("Host", "what runs outside the chip"),
}
"""Components of energy: their names on the page, and what they are."""


def page(simulations: Sequence[Simulation]) -> str:
    """The page of one model on some chips: the first in detail, all of them side by side."""
    first = simulations[0]
    timeline = first.timeline
    title = f"{first.model.name} on {first.chip.name}"
    sections = [
        _header(first),
        _section("Totals", _totals(timeline)),
        _section("Timeline", _lanes(timeline)),
        _section("Cycles by layer", _layers(timeline)),
        _section("Roofline", _roofline(timeline)),
        _section("Energy by component", _energy(timeline)),
        _section("Chips side by side", _chips([each.timeline for each in simulations])),
        _section("All layers", _all_layers(timeline)),
        _section("Constants of the chip", _constants(first.chip)),
    ]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", text(title)),
        element("style", _STYLE.read_text(encoding="utf-8")),
    )
    whole = element("html", head, element("body", element("main", *sections)), lang="en")
    return f"<!DOCTYPE html>\n{whole}\n"


def _section(title: str, content: str) -> str:
    return element("section", element("h2", text(title)), content)


def _note(plain: str) -> str:
    return element("p", text(plain))


def _header(simulation: Simulation) -> str:
    chip = simulation.chip
    sizes = {"batch": simulation.batch, "tokens": simulation.sequence}
    given = [f"{name} {size}" for name, size in sizes.items() if size is not None]
    of = f" ({', '.join(given)})" if given else ""
    return element(
        "header",
        element("h1", text(f"{simulation.model.name} on {chip.name}")),
        _note(f"One run of the model{of} on a simulated chip. {chip.description}."),
        _note(
            "Numbers are rounded to three digits; point at one, or at a part of a drawing, for all "
            "of them."
        ),
    )


def _totals(timeline: Timeline) -> str:
    cards = [
        ("Time", amount(timeline.seconds, "s"), "for one run of the whole model"),
        ("Cycles", amount(timeline.cycles, ""), "of the chip's clock"),
        ("Energy", _joules(timeline.energy.total), "of all operations and accesses"),
        ("DRAM traffic", amount(timeline.dram_bytes, "B"), "to and from memory off the chip"),
        ("Work", amount(timeline.macs, "MAC"), "multiply-accumulates of all products"),
        ("Utilization", _share(timeline.utilization), "of what the array could do meanwhile"),
        ("Area", _square_millimetres(timeline), "of arithmetic, registers and SRAM"),
    ]
    boxes = [
        element("div", element("h3", text(name)), element("strong", value), _note(meaning))
        for name, value, meaning in cards
    ]
    note = _note(
        "Not counted for want of public numbers: control, wires, leakage, pads. So energy and area "
        "are too low, and two chips compare in what is counted."
    )
    return element("div", *boxes, class_="cards") + note


def _lanes(timeline: Timeline) -> str:
    notes = [
        "Time runs from left to right. The first row shows the layers one after the other, those "
        "that compute takes longest in blue, those that memory does in orange; below, a lane is "
        "as high as the share of the time in which that unit works.",
        "Widen it with the buttons, then scroll sideways.",
    ]
    return "".join(map(_note, notes)) + lanes_chart(timeline)


def _layers(timeline: Timeline) -> str:
    bound = {kind: sum(t.cycles for t in timeline.layers if t.bound == kind) for kind in _BOUNDS}
    return "".join(
        [
            _note(
                "A layer computes while its operands and results move between DRAM and the chip. "
                "What takes longer bounds it."
            ),
            _legend(
                (kind, f"{kind}-bound: {_part(cycles, timeline.cycles)} of the cycles")
                for kind, cycles in bound.items()
            ),
            element("h3", "Cycles of each layer, in the order in which they run"),
            layers_chart(timeline),
            element("h3", "Cycles of all layers of a kind"),
            ops_chart(timeline),
        ]
    )


_BOUNDS = ("compute", "memory")


def _roofline(timeline: Timeline) -> str:
    notes = [
        "Each circle is a product of matrices. The further right, the more MACs "
        "(multiply-accumulates) it does for each byte that it moves through DRAM; the higher, the "
        "more of them in a second.",
        "The lines are what the chip can do at best: the slope is DRAM's bandwidth, the flat parts "
        "are all units at work. At the slope more bandwidth helps, at the flat part more units; "
        "far below either, the work does not fill the array.",
        "A circle above the slope had its first weights loaded during the layer before; one at the "
        "right edge moves nothing through DRAM.",
    ]
    kinds = [
        ("compute weights", "by weights, compute-bound"),
        ("memory weights", "by weights, memory-bound"),
        ("compute activations", "of two activations, compute-bound"),
        ("memory activations", "of two activations, memory-bound"),
    ]
    axes = element("p", "Across: MAC/byte. Up: MAC/s. Both logarithmic.", class_="axes")
    return "".join(map(_note, notes)) + _legend(kinds) + roofline_chart(timeline) + axes


def _energy(timeline: Timeline) -> str:
    spent = vars(timeline.energy)
    rows = []
    for component, (name, what) in _COMPONENTS.items():
        label = text(name) + " " + element("small", text(what))
        share = _part(spent[component], timeline.energy.total)
        value = f"{_joules(spent[component])} ({share})"
        rows.append((label, {component: spent[component]}, value))
    note = _note("Each operation and each access costs what a public table says (below).")
    return note + bars(rows, max(*spent.values(), 1e-30))


def _chips(timelines: Sequence[Timeline]) -> str:
    first = timelines[0]
    name = first.chip.name
    note = _note(
        f"The same model on each chip. The ratios are to {name}: how many times as much time or "
        f"energy a chip takes as {name} does. Below 1 is better than {name}."
    )
    if len(timelines) == 1:
        note = _note("One chip was simulated: give --chip again to set others beside it.")
    ratio = text(f"Ratio to {name}")
    header = ("Chip", "Time", ratio, "Energy", ratio, "DRAM traffic", "Utilization", "Area")
    rows = [
        (
            text(each.chip.name),
            amount(each.seconds, "s"),
            _times(each.seconds, first.seconds),
            _joules(each.energy.total),
            _times(each.energy.total, first.energy.total),
            amount(each.dram_bytes, "B"),
            _share(each.utilization),
            _square_millimetres(each),
        )
        for each in timelines
    ]
    names = {component: name for component, (name, _) in _COMPONENTS.items()}
    return "".join(
        [
            note,
            table(header, rows),
            element("h3", "Time: the array, the vector unit, the host"),
            _legend((f"lane-{unit}", LANES[unit]) for unit in _UNITS),
            bars([_time_bar(each) for each in timelines], max(t.seconds for t in timelines)),
            element("h3", "Energy by component"),
            _legend(names.items()),
            bars(
                [(text(t.chip.name), vars(t.energy), _joules(t.energy.total)) for t in timelines],
                max(t.energy.total for t in timelines),
            ),
        ]
    )


_UNITS: tuple[Unit, ...] = ("array", "vector", "host")


def _time_bar(timeline: Timeline) -> tuple[str, dict[str, float], str]:
    parts = {
        f"lane-{unit}": sum(time.cycles for time in timeline.layers if time.unit == unit)
        / (timeline.chip.clock.value * 1e9)
        for unit in _UNITS
    }
    return text(timeline.chip.name), parts, amount(timeline.seconds, "s")


def _all_layers(timeline: Timeline) -> str:
    header = ("Node", "Op", "Shape", "Runs on", "Cycles", "Compute", "Memory", "Bound", "DRAM")
    rows = [_layer_row(time) for time in timeline.layers]
    summary = element("summary", f"Show all {len(rows)} layers")
    return element("details", summary, table((*header, "Energy"), rows))


def _layer_row(time: LayerTime) -> list[str]:
    counts = (time.cycles, time.compute_cycles, time.memory_cycles)
    return [
        text(time.layer.node),
        text(time.layer.op),
        text(time.layer.shape),
        text(LANES[time.unit].lower()),
        *(exact(count, f"{count:,}") for count in counts),
        element("span", time.bound, class_=f"tag {time.bound}"),
        amount(time.dram_bytes, "B"),
        _joules(time.energy.total),
    ]


def _constants(chip: Chip) -> str:
    found = chip.model_dump()
    rows = []
    for path in constants(found):
        constant: Any = found
        for part in path:
            constant = constant[part]
        cells = (".".join(path), f"{constant['value']:,}", constant["unit"], constant["source"])
        rows.append([text(cell) for cell in cells])
    summary = element("summary", f"Show all {len(rows)} constants and where they come from")
    return element("details", summary, table(("Constant", "Value", "Unit", "Source"), rows))


def _legend(entries: Iterable[tuple[str, str]]) -> str:
    keys = [element("span", element("i", class_=kind), text(name)) for kind, name in entries]
    return element("p", *keys, class_="legend")


def _joules(picojoules: float) -> str:
    return amount(picojoules, "J", 1e-12)


def _share(share: float) -> str:
    return exact(share, f"{share:.1%}")


def _part(value: float, whole: float) -> str:
    return f"{value / whole:.1%}" if whole else "0 %"


def _times(value: float, first: float) -> str:
    return exact(value / first, f"{value / first:.2f} x") if first else ""


def _square_millimetres(timeline: Timeline) -> str:
    return exact(timeline.area.total, f"{timeline.area.total / 1e6:.1f} mm²")
