"""What a simulation shows on the screen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sardonyx.compiler.cli.table import megabytes
from sardonyx.compiler.simulate import Simulation
from sardonyx.compiler.sweep import Point
from sardonyx.runtime_ops.accelerator.energy import Energy
from sardonyx.runtime_ops.accelerator.timeline import LayerTime, Timeline, utilization_of

_MOST_ROWS = 14
"""Groups of layers that have a row of their own."""

_ALL = "all"

_WIDE = 110
"""Columns of a screen on which all of a table fits."""

_COMPONENTS = {
    "pe": "array",
    "spu": "SPU",
    "registers": "registers",
    "sram": "SRAM",
    "dram": "DRAM",
    "vector": "vector unit",
    "host": "host",
}


@dataclass(frozen=True)
class _Group:
    """Layers of one op and shape on one unit, or several such groups."""

    op: str
    shape: str
    unit: str
    layers: tuple[LayerTime, ...]

    @property
    def cycles(self) -> int:
        return sum(layer.cycles for layer in self.layers)

    @property
    def bound(self) -> str:
        bounds = {layer.bound for layer in self.layers}
        return "either" if len(bounds) > 1 else "".join(bounds)


def print_simulations(simulations: Sequence[Simulation], console: Console) -> None:
    """The layers on each chip, then the totals side by side."""
    for simulation in simulations:
        console.print(layer_table(simulation, console.width >= _WIDE))
        for sentence in _notes(simulation):
            console.print(escape(sentence), soft_wrap=True)
        console.print()
    console.print(totals_table(simulations))


def layer_table(simulation: Simulation, wide: bool = True) -> Table:
    """Layers that are alike share a row; those that take longest come first."""
    timeline = simulation.timeline
    table = Table(title=_title(simulation), title_justify="left")
    shown = [column for column in _COLUMNS if wide or not column.wide]
    for column in shown:
        numbers = column.justify == "right"
        table.add_column(column.name, justify=column.justify, overflow="fold", no_wrap=numbers)
    for group in _groups(timeline.layers):
        table.add_row(*(column.cell(group, timeline) for column in shown))
    table.add_section()
    every = _Group("in all", "", _ALL, timeline.layers)
    table.add_row(*(column.cell(every, timeline) for column in shown), style="bold")
    return table


def _title(simulation: Simulation) -> str:
    sizes = [
        f"{name} {size}"
        for name, size in (("batch", simulation.batch), ("sequence", simulation.sequence))
        if size is not None
    ]
    return escape(", ".join([f"{simulation.model.name} on {simulation.chip.name}", *sizes]))


def _groups(layers: Sequence[LayerTime]) -> list[_Group]:
    """Groups that take longest, and the others as one."""
    found: dict[tuple[str, str, str], list[LayerTime]] = {}
    for time in layers:
        found.setdefault((time.layer.op, time.layer.shape, time.unit), []).append(time)
    groups = [_Group(*key, tuple(alike)) for key, alike in found.items()]
    groups.sort(key=lambda group: -group.cycles)
    if len(groups) <= _MOST_ROWS + 1:
        return groups
    rest = groups[_MOST_ROWS:]
    others = tuple(layer for group in rest for layer in group.layers)
    return [*groups[:_MOST_ROWS], _Group(f"others, of {len(rest)} kinds", "", "", others)]


def _utilized(group: _Group, timeline: Timeline) -> str:
    """Of the array: in layers that run there, or in all."""
    share = utilization_of(timeline.chip, group.layers)
    return f"{share:.0%}" if share and group.unit in ("array", _ALL) else ""


def _energy(group: _Group) -> float:
    """In pJ."""
    return sum((layer.energy for layer in group.layers), Energy()).total


@dataclass(frozen=True)
class _Column:
    """``wide``: shown on a wide screen only."""

    name: str
    cell: Callable[[_Group, Timeline], str]
    justify: Literal["left", "right"] = "right"
    wide: bool = False


_COLUMNS = (
    _Column("layers", lambda group, _: f"{len(group.layers):,} {escape(group.op)}", "left"),
    _Column("shape", lambda group, _: group.shape, "left"),
    _Column("unit", lambda group, _: group.unit.removeprefix(_ALL), "left", wide=True),
    _Column("cycles", lambda group, _: f"{group.cycles:,}"),
    _Column("share", lambda group, timeline: f"{group.cycles / timeline.cycles:.1%}"),
    _Column("bound", lambda group, _: group.bound, "left"),
    _Column("utilized", _utilized, wide=True),
    _Column("DRAM MB", lambda group, _: f"{sum(x.dram_bytes for x in group.layers) / 1e6:,.2f}"),
    _Column("mJ", lambda group, _: f"{_energy(group) / 1e9:,.3f}"),
)


def _notes(simulation: Simulation) -> list[str]:
    """What the table does not say."""
    chip, notes = simulation.chip.name, []
    if simulation.attention_on_vector:
        notes.append(
            f"{simulation.attention_on_vector} products of two activations (attention) run on the "
            f"vector unit, as the array of '{chip}' cannot do them."
        )
    if simulation.weights_on_vector:
        notes.append(
            f"{simulation.weights_on_vector} products by weights run on the vector unit, as the "
            f"array of '{chip}' does not take their format."
        )
    if simulation.host_ops:
        ops = ", ".join(f"{count} {op}" for op, count in simulation.host_ops.most_common())
        notes.append(f"On the host, as the chip has no unit for them: {ops}.")
    return notes


def totals_table(simulations: Sequence[Simulation]) -> Table:
    """A column for each chip."""
    table = Table(title="Totals", title_justify="left")
    table.add_column("")
    for simulation in simulations:
        table.add_column(escape(simulation.chip.name), justify="right", overflow="fold")
    for name, shown in _TOTALS.items():
        table.add_row(name, *(shown(simulation.timeline) for simulation in simulations))
    for component, name in _COMPONENTS.items():
        parts = [getattr(simulation.timeline.energy, component) for simulation in simulations]
        if any(parts):
            table.add_row(f"  of it {name}", *map(joules, parts))
    return table


_TOTALS: dict[str, Callable[[Timeline], str]] = {
    "cycles": lambda timeline: f"{timeline.cycles:,}",
    "time": lambda timeline: f"{1e3 * timeline.seconds:,.3f} ms",
    "multiply-accumulates": lambda timeline: f"{timeline.macs:,}",
    "array utilized": lambda timeline: f"{timeline.utilization:.1%}",
    "DRAM traffic": lambda timeline: megabytes(timeline.dram_bytes),
    "area": lambda timeline: f"{timeline.area.total / 1e6:,.2f} mm²",
    "energy": lambda timeline: joules(timeline.energy.total),
}


def points_table(points: Sequence[Point]) -> Table:
    """A row for each point of a sweep."""
    table = Table(title="Sweep", title_justify="left")
    fields = list(points[0].settings)
    table.add_column("chip", overflow="fold")
    for field in fields:
        table.add_column(escape(field), justify="right", overflow="fold")
    for column in ("cycles", "ms", "mJ", "DRAM MB", "mm²"):
        table.add_column(column, justify="right", no_wrap=True)
    for point in points:
        timeline = point.simulation.timeline
        table.add_row(
            escape(point.simulation.chip.name),
            *(f"{point.settings[field]:g}" for field in fields),
            f"{timeline.cycles:,}",
            f"{1e3 * timeline.seconds:,.3f}",
            f"{timeline.energy.total / 1e9:,.3f}",
            f"{timeline.dram_bytes / 1e6:,.2f}",
            f"{timeline.area.total / 1e6:,.2f}",
        )
    return table


def joules(picojoules: float) -> str:
    """Energy as people read it."""
    return f"{picojoules / 1e9:,.3f} mJ" if picojoules >= 1e6 else f"{picojoules / 1e3:,.3f} nJ"
