"""sweep: a model on chips whose constants, or the batch or the sequence, take several values."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from sardonyx.compiler.simulate import Simulation, Workload
from sardonyx.models.optional import optional
from sardonyx.runtime_ops.accelerator.chip import Chip
from sardonyx.runtime_ops.accelerator.chip_file import changed
from sardonyx.runtime_ops.errors import InputError

_SIZES = ("batch", "sequence")

_WIDE = 10
"""Times the least value that the largest is where an axis is logarithmic."""


@dataclass(frozen=True)
class Axis:
    """What is varied: ``batch``, ``sequence`` or a constant of the chip, as ``dram.bandwidth``."""

    field: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Point:
    """One simulation of a sweep. ``settings``: the value of each field that is varied."""

    settings: dict[str, float]
    simulation: Simulation

    def row(self) -> dict[str, str | float]:
        """What is written of it, by the names of columns; a size that there is not is empty."""
        found, timeline = self.simulation, self.simulation.timeline
        sizes = {name: getattr(found, name) for name in _SIZES}
        return {
            "chip": found.chip.name,
            **{name: "" if size is None else size for name, size in sizes.items()},
            **{name: value for name, value in self.settings.items() if name not in _SIZES},
            "cycles": timeline.cycles,
            "seconds": timeline.seconds,
            "energy_pj": timeline.energy.total,
            "dram_bytes": timeline.dram_bytes,
            "macs": timeline.macs,
            "utilization": timeline.utilization,
            "area_um2": timeline.area.total,
        }


def parse_axis(text: str) -> Axis:
    """An axis, written FIELD=a,b,c. Raises InputError where it is written otherwise."""
    field, _, values = text.partition("=")
    try:
        numbers = tuple(float(value) for value in values.split(","))
    except ValueError:
        numbers = ()
    if not field or not numbers or not all(map(math.isfinite, numbers)):
        raise InputError(f"--sweep '{text}' is not FIELD=a,b,c with numbers")
    if field in _SIZES and not all(n >= 1 and n.is_integer() for n in numbers):
        raise InputError(f"--sweep '{text}': {field} takes whole numbers from 1 on")
    return Axis(field, numbers)


def sweep(
    workload: Workload,
    chips: Sequence[Chip],
    axes: Sequence[Axis],
    batch: int | None = None,
    sequence: int | None = None,
) -> Iterator[Point]:
    """Every chip with every combination of values, the last axis the fastest.

    Raises InputError where a field is given twice, a chip has no such field, or a value does not
    fit.
    """
    _check_once(axes, {"batch": batch, "sequence": sequence})
    for chip, values in product(chips, product(*(axis.values for axis in axes))):
        settings = {axis.field: value for axis, value in zip(axes, values, strict=True)}
        sizes = {"batch": batch, "sequence": sequence}
        sizes |= {name: int(settings[name]) for name in _SIZES if name in settings}
        varied = chip
        for field in settings.keys() - set(_SIZES):
            varied = changed(varied, field, settings[field])
        yield Point(settings, workload.on(varied, **sizes))


def _check_once(axes: Sequence[Axis], sizes: Mapping[str, int | None]) -> None:
    """Refuse a field of which it is not clear what values it is to take."""
    fields = [axis.field for axis in axes]
    for field in fields:
        if fields.count(field) > 1:
            raise InputError(f"--sweep {field} is given twice: give all of its values in one")
        if sizes.get(field) is not None:
            raise InputError(f"--{field} and --sweep {field} cannot both be given: leave one out")


def write_csv(path: Path, points: Sequence[Point]) -> None:
    """Write a line a point, with names of columns above."""
    rows = [point.row() for point in points]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def plot(path: Path, points: Sequence[Point], form: str) -> None:
    """Draw time and energy over the values of the first axis, a line for each chip and each
    combination of the other values. ``form``: of the file: png, svg or pdf."""
    try:
        figures = optional("matplotlib.figure")
    except ImportError as error:
        raise InputError(
            "matplotlib, which draws the plot, is missing: pip install 'sardonyx[plots]'"
        ) from error
    field = next(iter(points[0].settings))
    figure = figures.Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for label, line in _lines(points, field).items():
        x = [point.settings[field] for point in line]
        timelines = [point.simulation.timeline for point in line]
        panels[0].plot(x, [1e3 * t.seconds for t in timelines], marker="o", label=label)
        panels[1].plot(x, [1e-9 * t.energy.total for t in timelines], marker="o", label=label)
    values = sorted({point.settings[field] for point in points})
    for panel, what in zip(panels, ("time (ms)", "energy (mJ)"), strict=True):
        if values[0] > 0 and values[-1] >= _WIDE * values[0]:
            panel.set_xscale("log")
            panel.set_xticks(values, [f"{value:g}" for value in values])
            panel.minorticks_off()
        panel.set(xlabel=_named(points[0].simulation.chip, field), ylabel=what, ylim=(0, None))
        panel.grid(alpha=0.3)
    panels[0].legend()
    figure.suptitle(points[0].simulation.model.name)
    figure.savefig(path, format=form, dpi=120)


def _named(chip: Chip, field: str) -> str:
    """A field and its unit."""
    if field in _SIZES:
        return field
    constant: Any = chip.model_dump()
    for part in field.split("."):
        constant = constant[part]
    return f"{field} ({constant['unit']})"


def _lines(points: Sequence[Point], field: str) -> dict[str, list[Point]]:
    """Points that differ in ``field`` alone, by what they share."""
    lines: dict[str, list[Point]] = {}
    for point in points:
        shared = [f"{name} {value:g}" for name, value in point.settings.items() if name != field]
        lines.setdefault(", ".join([point.simulation.chip.name, *shared]), []).append(point)
    return lines
