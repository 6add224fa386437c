"""`simulate`: a list of layers on a chip, from the first cycle to the last.

Layers run one after the other; between two, only the first weights of the next are loaded ahead
(`timing`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from sardonyx.runtime_ops.accelerator.area import Area, area_of
from sardonyx.runtime_ops.accelerator.chip import (
    Chip,
    GoboArray,
    RowStationaryArray,
    SystolicArray,
    TensorCoreArray,
)
from sardonyx.runtime_ops.accelerator.energy import Energy, traffic_energy
from sardonyx.runtime_ops.accelerator.machine import Tiling, machine_of
from sardonyx.runtime_ops.accelerator.residents import residents
from sardonyx.runtime_ops.accelerator.stages import Stage, Unit, cost_of_layer, stage_of
from sardonyx.runtime_ops.accelerator.timing import Traffic
from sardonyx.runtime_ops.accelerator.work import Layer, Product

Lane = Literal["array", "SPU", "DRAM", "vector", "host"]


@dataclass(frozen=True)
class LayerTime:
    """A layer on a chip.

    compute_cycles: its unit works; memory_cycles: its operands and results, or the next layer's
    first weights, are moved; each of the two hides behind the other but where it waits, so that
    ``cycles`` lies between the larger and the sum. dram_bytes and energy: of its own operands.
    """

    layer: Layer
    unit: Unit
    tiling: Tiling | None
    start: int
    cycles: int
    compute_cycles: int
    memory_cycles: int
    dram_bytes: int
    energy: Energy

    @property
    def bound(self) -> Literal["compute", "memory"]:
        """What takes longer."""
        return "memory" if self.memory_cycles > self.compute_cycles else "compute"

    @property
    def macs(self) -> int:
        return self.layer.work.macs if isinstance(self.layer.work, Product) else 0


@dataclass(frozen=True)
class Event:
    """A lane is busy with a layer for some cycles."""

    lane: Lane
    node: str
    start: int
    cycles: int


@dataclass(frozen=True)
class _Run:
    """A stage, and how its neighbours meet it."""

    stage: Stage
    ready: bool
    ahead: Traffic


@dataclass(frozen=True)
class Timeline:
    """All layers of a model on a chip."""

    chip: Chip
    layers: tuple[LayerTime, ...]
    runs: tuple[_Run, ...] = field(repr=False)

    @cached_property
    def cycles(self) -> int:
        return sum(layer.cycles for layer in self.layers)

    @property
    def seconds(self) -> float:
        return self.cycles / (self.chip.clock.value * 1e9)

    @cached_property
    def energy(self) -> Energy:
        return sum((layer.energy for layer in self.layers), Energy())

    @property
    def dram_bytes(self) -> int:
        return sum(layer.dram_bytes for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def utilization(self) -> float:
        """Of the array, in all cycles."""
        return utilization_of(self.chip, self.layers)

    @property
    def area(self) -> Area:
        return area_of(self.chip)

    def events(self) -> Iterator[Event]:
        """What each lane does when, phase by phase, in order of time. SPUs work now and then while
        PEs add: what they do in a phase is told at its end, as if all did it together."""
        for layer, run in zip(self.layers, self.runs, strict=True):
            start = layer.start
            lane: Lane = layer.unit
            for _, phase in run.stage.phases(run.ready, run.ahead, every=True):
                spans: list[tuple[Lane, int, int]] = [
                    (lane, start, phase.compute),
                    ("SPU", start + phase.compute - phase.spu, phase.spu),
                    ("DRAM", start, phase.dram),
                ]
                for name, first, cycles in spans:
                    if cycles:
                        yield Event(name, layer.layer.node, first, cycles)
                start += phase.cycles


def simulate(chip: Chip, layers: Sequence[Layer]) -> Timeline:
    """Run layers on a chip.

    Raises InputError where a buffer of the chip holds not one tile of a product.
    """
    machine = machine_of(chip)

    def cost(layer: Layer, kept: frozenset[str], room: int) -> float:
        return cost_of_layer(chip, machine, layer, kept, room)

    stay = residents(layers, machine.capacity.activations, cost)
    stages = [
        stage_of(chip, machine, layer, stay.names, room)
        for layer, room in zip(layers, stay.room, strict=True)
    ]
    coming = [stage.first_weights() for stage in stages[1:]] + [Traffic()]
    runs = tuple(
        _Run(stage, number > 0, ahead)
        for number, (stage, ahead) in enumerate(zip(stages, coming, strict=False))
    )
    times: list[LayerTime] = []
    start = 0
    for layer, run in zip(layers, runs, strict=True):
        times.append(_time(chip, layer, run, start))
        start += times[-1].cycles
    return Timeline(chip, tuple(times), runs)


def _time(chip: Chip, layer: Layer, run: _Run, start: int) -> LayerTime:
    traffic = run.stage.first_weights() if run.ready else Traffic()
    cycles = compute = memory = 0
    for times, phase in run.stage.phases(run.ready, run.ahead):
        cycles += times * phase.cycles
        compute += times * phase.compute
        memory += times * phase.memory
        traffic += phase.traffic * times
    return LayerTime(
        layer,
        run.stage.unit,
        run.stage.tiling,
        start,
        cycles,
        compute,
        memory,
        traffic.bursts * chip.dram.burst.value,
        run.stage.energy() + traffic_energy(chip, traffic),
    )


def utilization_of(chip: Chip, layers: Sequence[LayerTime]) -> float:
    """MACs of the array over what it could do in all cycles of some layers, of GOBO's additions."""
    cycles = sum(layer.cycles for layer in layers)
    done = sum(layer.macs for layer in layers if layer.unit == "array")
    return done / (cycles * macs_a_cycle(chip)) if cycles else 0.0


def macs_a_cycle(chip: Chip) -> int:
    """MACs that the array does at best in a cycle; additions, of GOBO's."""
    match chip.array:
        case GoboArray() as gobo:
            return gobo.tiles.value * gobo.pes.value
        case TensorCoreArray() as cores:
            return cores.units.value * cores.rows.value * cores.depth.value * cores.columns.value
        case SystolicArray() | RowStationaryArray() as grid:
            return grid.rows.value * grid.columns.value
