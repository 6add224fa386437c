"""What a simulation found, as data. ``--report`` writes it as JSON; this file is its schema."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from sardonyx.compiler.document import Document, Part
from sardonyx.compiler.simulate import Simulation
from sardonyx.runtime_ops.accelerator.timeline import LayerTime


class EnergyEntry(Part):
    """Energy by component, in pJ."""

    pe: float = Field(description="processing elements of the array; GOBO's add only")
    spu: float = Field(description="GOBO's units that multiply sums by centroids, and outliers")
    registers: float = Field(description="register files, and the decoder's tables")
    sram: float = Field(description="buffers on the chip")
    dram: float
    vector: float = Field(description="arithmetic of the vector unit")
    host: float = Field(description="arithmetic of the host")


class AreaEntry(Part):
    """Area by component, in square micrometres; what has no public number is not counted."""

    pe: float
    spu: float
    registers: float
    sram: float
    vector: float
    decoder: float


class ChipTotals(Part):
    """The whole model on a chip."""

    cycles: int
    seconds: float = Field(description="cycles at the chip's clock")
    energy_pj: float
    energy_by_component_pj: EnergyEntry
    dram_bytes: int = Field(description="to and from DRAM, in whole bursts")
    macs: int = Field(description="multiply-accumulates of all products, were all multiplied")
    utilization: float = Field(description="macs of the array over what it could do in all cycles")
    area_um2: float
    area_by_component_um2: AreaEntry
    host_ops: dict[str, int] = Field(
        description="ops that run on the host for want of a unit, and how many nodes each"
    )


class LayerEntry(Part):
    """A layer: a node of the graph, or a part of what it does."""

    node: str
    op: str = Field(description="the node's, or what the part is called")
    shape: str = Field(description="operands of a product, as 128x384 * 384x1536, else the result")
    unit: Literal["array", "vector", "host"] = Field(description="what it runs on")
    start: int = Field(description="first cycle")
    cycles: int
    compute_cycles: int = Field(description="its unit works")
    memory_cycles: int = Field(description="its operands, or the next weights, are moved")
    bound: Literal["compute", "memory"] = Field(description="which takes longer")
    macs: int = Field(description="0 of what is no product")
    dram_bytes: int
    energy_pj: EnergyEntry


class ChipEntry(Part):
    """A model on a chip."""

    chip: str
    batch: int | None = Field(description="null: the model has none")
    sequence: int | None = Field(description="null: the model has none")
    totals: ChipTotals
    layers: list[LayerEntry] = Field(description="in the order in which they run")


class SimulateReport(ChipEntry, Document):
    """The report of one call of simulate, schema version 1: the first chip, and the others."""

    model: str = Field(description="path of the model")
    others: list[ChipEntry] = Field(description="the same on the other chips, in their order")


def report_of(simulations: Sequence[Simulation]) -> SimulateReport:
    """The report of some simulations of a model, at least one."""
    first, *others = simulations
    entries = [_entry(simulation) for simulation in others]
    own = {name: getattr(_entry(first), name) for name in ChipEntry.model_fields}
    return SimulateReport(model=str(first.model), others=entries, **own)


def _entry(simulation: Simulation) -> ChipEntry:
    return ChipEntry(
        chip=simulation.chip.name,
        batch=simulation.batch,
        sequence=simulation.sequence,
        totals=_totals(simulation),
        layers=[_layer(time) for time in simulation.timeline.layers],
    )


def _totals(simulation: Simulation) -> ChipTotals:
    timeline = simulation.timeline
    return ChipTotals(
        cycles=timeline.cycles,
        seconds=timeline.seconds,
        energy_pj=timeline.energy.total,
        energy_by_component_pj=EnergyEntry(**vars(timeline.energy)),
        dram_bytes=timeline.dram_bytes,
        macs=timeline.macs,
        utilization=timeline.utilization,
        area_um2=timeline.area.total,
        area_by_component_um2=AreaEntry(**vars(timeline.area)),
        host_ops=dict(simulation.host_ops),
    )


def _layer(time: LayerTime) -> LayerEntry:
    return LayerEntry(
        node=time.layer.node,
        op=time.layer.op,
        shape=time.layer.shape,
        unit=time.unit,
        start=time.start,
        cycles=time.cycles,
        compute_cycles=time.compute_cycles,
        memory_cycles=time.memory_cycles,
        bound=time.bound,
        macs=time.macs,
        dram_bytes=time.dram_bytes,
        energy_pj=EnergyEntry(**vars(time.energy)),
    )
