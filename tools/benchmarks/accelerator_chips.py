"""Chips of other sizes and bandwidths, and what two of them take for the same model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isqrt

from sardonyx.compiler.simulate import Workload
from sardonyx.runtime_ops.accelerator.area import area_of
from sardonyx.runtime_ops.accelerator.chip import Chip
from sardonyx.runtime_ops.accelerator.chip_file import changed, load_chip
from sardonyx.runtime_ops.accelerator.timeline import (
    LayerTime,
    Timeline,
    macs_a_cycle,
    simulate,
)
from sardonyx.runtime_ops.accelerator.work import Layer, Product, Value

BANDWIDTHS = (0.4, 1.6, 6.4, 25.6, 102.4, 409.6)
"""GB/s: a channel of DDR4-3200, and parts and multiples of it."""

BITS = 3
"""The paper's PE has 2^3 accumulators, which is all that recipe gobo's products need."""

SCOPES = ("FC layers", "whole model")
FIGURES = ("speed", "energy")

_SIDES = {"gobo": ("tiles",), "tensorcore": ("units",)}
_GRID = ("rows", "columns")


def with_fields(chip: Chip, fields: dict[str, float]) -> Chip:
    """A chip with other values of some constants."""
    for field, value in fields.items():
        chip = changed(chip, field, value)
    return chip


def scaled(chip: Chip, factor: float) -> Chip:
    """A chip ``factor`` times as large: array, buffers, ports, vector unit, decoder.

    A grid grows at both sides, so that the factor is a square. The ports of a systolic array grow
    with its sides; those of the others with all of it.
    """
    grid = chip.array.kind not in _SIDES
    side = isqrt(round(factor * 65536)) / 256 if grid else factor
    ports = side if chip.array.kind == "systolic" else factor
    fields: dict[str, float] = {}
    for name in _SIDES.get(chip.array.kind, _GRID):
        fields[f"array.{name}"] = round(getattr(chip.array, name).value * side)
    for name, buffer in chip.buffers:
        fields[f"buffers.{name}.capacity"] = round(buffer.capacity.value * factor)
        fields[f"buffers.{name}.port"] = round(buffer.port.value * ports)
    fields["vector.lanes"] = max(1, round(chip.vector.lanes.value * factor))
    if chip.decoder:
        fields["decoder.weights"] = max(1, round(chip.decoder.weights.value * ports))
    return with_fields(chip, fields)


def gobo_chips(area: float, factor: float, lanes: int = 1) -> Iterator[Chip]:
    """GOBO's chips of an area at most, with buffers and vector unit ``factor`` times the chip's
    (the vector unit ``lanes`` times that), and tiles in what is left: all that fit, and as many as
    blocks of 16 columns divide well among."""
    plain = load_chip("gobo")
    fields: dict[str, float] = {"array.index_bits": BITS}
    for name, buffer in plain.buffers:
        fields[f"buffers.{name}.capacity"] = round(buffer.capacity.value * factor)
    fields["vector.lanes"] = round(plain.vector.lanes.value * factor * lanes)
    chip = with_fields(plain, fields)
    one, two = (area_of(with_fields(chip, {"array.tiles": n})).total for n in (1, 2))
    most = int((area - one) / (two - one)) + 1
    for tiles in sorted({most} | {most - most % each for each in (12, 16)} - {0}):
        if tiles > 0:
            yield with_fields(chip, {"array.tiles": tiles, **_gobo_ports(tiles)})


def _gobo_ports(tiles: int) -> dict[str, float]:
    """As the chip's file derives them: an activation, 16 indices and an output a tile."""
    each = {"activations": 4, "weights": 2 * BITS, "outputs": 4}
    return {f"buffers.{name}.port": nbytes * tiles for name, nbytes in each.items()}


@dataclass(frozen=True)
class Part:
    """What some layers take on a chip: seconds by what takes them, energy (J) by component.
    ``utilization``: of the array, in the FC layers among them."""

    chip: Chip
    seconds: Counter[str]
    energy: Counter[str]
    dram_bytes: int
    utilization: float


Run = Mapping[str, Part]
"""What a model takes on a chip, by scope."""


@lru_cache(maxsize=4096)
def run(work: Workload, tokens: int, chip: Chip) -> Run:
    """A model on a chip, whole and its FC layers alone."""
    whole = work.on(chip, 1, tokens).timeline
    return {SCOPES[0]: part(simulate(chip, fc_layers(whole))), SCOPES[1]: part(whole)}


def fc_layers(timeline: Timeline) -> list[Layer]:
    """Products by weights in a row, as if all between them took no time and no memory.

    Each reads what products before it wrote and none has read yet, if it is as large, for that may
    stay on the chip as it does in the whole model.
    """
    unread: list[Value] = []
    read: dict[str, tuple[Value, ...]] = {}
    found = []
    for layer in (time.layer for time in timeline.layers if is_fc(time)):
        value = layer.reads[0]
        if value.name not in read:
            same = [each for each in unread if each.nbytes == value.nbytes]
            unread = [each for each in unread if each not in same]
            read[value.name] = tuple(same[::-1]) or (value,)
        found.append(replace(layer, reads=read[value.name]))
        unread += layer.writes
    return found


def part(timeline: Timeline) -> Part:
    """Sums over the layers of a timeline."""
    seconds: Counter[str] = Counter()
    energy: Counter[str] = Counter()
    for time in timeline.layers:
        seconds[_takes(time)] += time.cycles / (timeline.chip.clock.value * 1e9)
        energy.update({name: pj * 1e-12 for name, pj in vars(time.energy).items()})
    dense = [time for time in timeline.layers if is_fc(time)]
    peak = sum(time.cycles for time in dense) * macs_a_cycle(timeline.chip)
    utilization = sum(time.macs for time in dense) / peak
    return Part(timeline.chip, seconds, energy, timeline.dram_bytes, utilization)


def is_fc(time: LayerTime) -> bool:
    """Whether a layer is a product by weights."""
    return isinstance(time.layer.work, Product) and time.layer.work.constant


def _takes(time: LayerTime) -> str:
    if is_fc(time):
        return f"FC, {time.bound}-bound"
    return f"attention on the {time.unit}" if time.macs else "other ops"


@dataclass(frozen=True)
class Point:
    """Two chips on one model: ``ratios`` of what the first takes to what the second does, by scope
    and figure, and why they are what they are."""

    area: float
    bandwidth: float
    ratios: dict[str, float]
    causes: dict[str, str]
    reasons: dict[str, str]
    chips: tuple[str, str]


def compared(first: Run, second: Run) -> Point:
    """A point, at the first chip's area (mm2) and bandwidth."""
    ratios, causes, reasons = {}, {}, {}
    for scope in SCOPES:
        before, after = first[scope], second[scope]
        speed, energy = (f"{scope}, {figure}" for figure in FIGURES)
        ratios[speed] = before.seconds.total() / after.seconds.total()
        ratios[energy] = before.energy.total() / after.energy.total()
        causes[speed], taken = after.seconds.most_common(1)[0]
        reasons[speed] = (
            f"{taken / after.seconds.total():.0%} of its time is {causes[speed]}"
            + _because(causes[speed], before, after)
        )
        causes[energy], spent = after.energy.most_common(1)[0]
        reasons[energy] = f"{spent / after.energy.total():.0%} of its energy is {causes[energy]}"
    chips = first[SCOPES[1]].chip, second[SCOPES[1]].chip
    return Point(
        area_of(chips[0]).total / 1e6,
        chips[0].dram.bandwidth.value,
        ratios,
        causes,
        reasons,
        (described(chips[0]), described(chips[1])),
    )


def _because(cause: str, first: Part, second: Part) -> str:
    """What the model says of the largest share of time."""
    if cause == "FC, compute-bound":
        units = macs_a_cycle(second.chip) / macs_a_cycle(first.chip)
        terms = f"{units:.2f} times as many" if units != 1 else "as many"
        used, before = second.utilization, first.utilization
        return (
            f", where at best {terms} of a product's terms are done in a cycle as without GOBO; "
            f"the array is used to {used:.0%}, without GOBO to {before:.0%}"
        )
    if cause == "FC, memory-bound":
        fewer = first.dram_bytes / second.dram_bytes
        return (
            f", where {fewer:.1f} times fewer bytes move than without GOBO, activations among them"
        )
    if cause == "attention on the vector":
        return f", {second.chip.vector.lanes.value} MACs a cycle"
    return ""


def described(chip: Chip) -> str:
    """A chip's array, lanes and area."""
    sizes = {
        name: constant["value"]
        for name, constant in chip.array.model_dump().items()
        if name in ("tiles", "units", *_GRID) and isinstance(constant, dict)
    }
    if chip.array.kind in _SIDES:
        sizes = {name: sizes[name] for name in _SIDES[chip.array.kind]}
    told = ", ".join(f"{value} {name}" for name, value in sizes.items())
    area = area_of(chip).total / 1e6
    return f"{chip.name}: {told}, {chip.vector.lanes.value} lanes, {area:.1f} mm2"
