"""A layer placed on a chip: what it costs in cycles, traffic and energy.

A product that the array cannot do runs on the vector unit, which is then an array of lanes and
takes weights as plain numbers. All other work of the vector unit is one phase, in which what is not
on the chip streams past it. So is what runs on the host: operands cross DRAM and the link, the host
works, results come back.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Literal, Protocol

from sardonyx.runtime_ops.accelerator.chip import Chip, GoboArray
from sardonyx.runtime_ops.accelerator.energy import (
    Energy,
    buffer_pj,
    host_energy,
    step_energy,
    vector_energy,
)
from sardonyx.runtime_ops.accelerator.machine import (
    SUM_BYTES,
    Kept,
    Lanes,
    Machine,
    Tiling,
    array_takes,
)
from sardonyx.runtime_ops.accelerator.schedule import cost_of, least_cost, tiling_of
from sardonyx.runtime_ops.accelerator.timing import Phase, Plan, Traffic, phase
from sardonyx.runtime_ops.accelerator.work import Layer, Product, Value, Vector
from sardonyx.runtime_ops.errors import InputError

Unit = Literal["array", "vector", "host"]


class Stage(Protocol):
    """A layer on a unit of a chip."""

    @property
    def unit(self) -> Unit:
        """Where it runs."""
        ...

    @property
    def tiling(self) -> Tiling | None:
        """How it is cut."""
        ...

    def first_weights(self) -> Traffic:
        """What may be loaded before the layer begins."""
        ...

    def phases(
        self, ready: bool, ahead: Traffic, every: bool = False
    ) -> Iterator[tuple[int, Phase]]:
        """`Plan.phases`."""
        ...

    def energy(self) -> Energy:
        """Of the work, without what DRAM and moves cost."""
        ...


@dataclass(frozen=True)
class ProductStage:
    """A product on the array or on the lanes of the vector unit."""

    chip: Chip
    unit: Unit
    plan: Plan

    @property
    def tiling(self) -> Tiling:
        return self.plan.tiling

    def first_weights(self) -> Traffic:
        return self.plan.first_weights() if self.plan.product.constant else Traffic()

    def phases(
        self, ready: bool, ahead: Traffic, every: bool = False
    ) -> Iterator[tuple[int, Phase]]:
        return self.plan.phases(ready, ahead, every)

    def energy(self) -> Energy:
        """Of all steps; between parts of K, the sums so far are read again."""
        plan, product = self.plan, self.plan.product
        again = product.count * product.m * product.n * SUM_BYTES * (plan.extents[3] - 1)
        spent = Energy(sram=again * buffer_pj(self.chip.technology, self.chip.buffers.outputs))
        for times, tile in plan.tiles():
            step = step_energy(self.chip, plan.machine.array, product, tile, plan.tiling.split)
            spent += step * times
        return spent


@dataclass(frozen=True)
class StreamStage:
    """One phase: work of the vector unit or of the host, past which its operands stream."""

    unit: Unit
    machine: Machine
    compute: int
    traffic: Traffic
    spent: Energy
    tiling: None = None

    def first_weights(self) -> Traffic:
        return Traffic()

    def phases(
        self, ready: bool, ahead: Traffic, every: bool = False
    ) -> Iterator[tuple[int, Phase]]:
        yield 1, phase(self.machine, self.traffic, ahead, self.compute)

    def energy(self) -> Energy:
        return self.spent


def stage_of(chip: Chip, machine: Machine, layer: Layer, kept: frozenset[str], room: int) -> Stage:
    """Place a layer. ``kept``: activations on the chip; ``room``: bytes left for tiles beside them.

    Raises InputError where a buffer holds no tile.
    """
    if layer.on == "host":
        return _on_host(chip, machine, layer)
    if isinstance(layer.work, Vector):
        return _on_vector(chip, machine, layer, layer.work, kept)
    return _product(chip, machine, layer, layer.work, kept, room)


def cost_of_layer(
    chip: Chip, machine: Machine, layer: Layer, kept: frozenset[str], room: int
) -> float:
    """Cost of a layer as `stage_of` would place it; infinite where a buffer holds no tile."""
    if isinstance(layer.work, Product) and layer.on != "host":
        _, on, where = _placed(chip, machine, layer, layer.work, kept)
        return least_cost(on, layer.work, where, room)
    return cost_of(stage_of(chip, machine, layer, kept, room).phases(True, Traffic()))


def _product(
    chip: Chip, machine: Machine, layer: Layer, work: Product, kept: frozenset[str], room: int
) -> ProductStage:
    unit, on, where = _placed(chip, machine, layer, work, kept)
    try:
        tiling = tiling_of(on, work, where, room)
    except InputError as error:
        raise InputError(f"chip '{chip.name}' cannot run '{layer.node}': {error}") from error
    return ProductStage(chip, unit, Plan(on, work, tiling, where))


def _placed(
    chip: Chip, machine: Machine, layer: Layer, work: Product, kept: frozenset[str]
) -> tuple[Unit, Machine, Kept]:
    """The unit that does a product, as a machine, and which operands are on the chip."""
    unit: Unit = "array" if layer.on == "array" and array_takes(chip, work) else "vector"
    if unit == "vector":
        machine = replace(machine, array=Lanes(chip.vector.lanes.value))
    stays = [value.name in kept for value in layer.reads]
    where = Kept(
        inputs=stays[:1] == [True],
        weights=stays[1:2] == [True] and not work.constant,
        outputs=any(value.name in kept for value in layer.writes),
    )
    return unit, machine, where


def _on_vector(
    chip: Chip, machine: Machine, layer: Layer, work: Vector, kept: frozenset[str]
) -> StreamStage:
    lanes = chip.vector.lanes.value
    each = chip.vector.special.value if work.kind == "special" else 1
    compressed = chip.gobo_memory or isinstance(chip.array, GoboArray)
    constants = work.stored_bytes if compressed else work.decoded_bytes
    decoded = work.decoded_bytes // 4 if machine.decoder and constants < work.decoded_bytes else 0
    passing = max(work.bytes_in + work.decoded_bytes, work.bytes_out)
    traffic = Traffic(
        inputs=_bursts(machine, _streamed(layer.reads, kept, work.bytes_in)),
        weights=_bursts(machine, constants),
        results=_bursts(machine, _streamed(layer.writes, kept, work.bytes_out)),
        decoded=decoded,
    )
    compute = max(-(-work.operations * each // lanes), -(-passing // (4 * lanes)))
    return StreamStage("vector", machine, compute, traffic, vector_energy(chip, work))


def _on_host(chip: Chip, machine: Machine, layer: Layer) -> StreamStage:
    work = layer.work
    if isinstance(work, Vector):
        operations, brought, returned = work.operations, work.bytes_in, work.bytes_out
    else:
        operations = 2 * work.macs
        brought = work.count * work.m * work.k * work.activation_bytes
        if not work.constant:
            brought += work.count * work.k * work.n * work.activation_bytes
        returned = work.count * work.m * work.n * work.output_bytes
    nanoseconds = Fraction(brought + returned) / Fraction(str(chip.host.link.value))
    nanoseconds += Fraction(operations) / Fraction(str(chip.host.rate.value))
    cycles = ceil(nanoseconds * Fraction(str(chip.clock.value)))
    traffic = Traffic(inputs=_bursts(machine, brought), results=_bursts(machine, returned))
    return StreamStage("host", machine, cycles, traffic, host_energy(chip, operations))


def _streamed(values: Iterable[Value], kept: frozenset[str], total: int) -> int:
    """Bytes that are not on the chip: of all but what stays, or all where nothing is named."""
    named = list(values)
    return sum(value.nbytes for value in named if value.name not in kept) if named else total


def _bursts(machine: Machine, nbytes: int) -> int:
    return -(-nbytes // machine.memory.burst)
