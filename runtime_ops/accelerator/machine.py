"""The numbers of a chip that its timing depends on, in bytes and cycles, and how work is cut.

`timing` (equations) and `stepper` (a machine that ticks) both read these and share nothing else.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

from sardonyx.runtime_ops.accelerator import chip as chips
from sardonyx.runtime_ops.accelerator.work import COLUMNS, Format, Product
from sardonyx.runtime_ops.errors import InputError

SUM_BYTES = 4


@dataclass(frozen=True)
class Gobo:
    """``tiles`` of 16 PEs and an SPU; ``shadow``: the SPU has registers of its own to read."""

    tiles: int
    index_bits: int
    shadow: bool
    spu_macs: int


@dataclass(frozen=True)
class TensorCore:
    """``units`` that each do a rows x depth by depth x columns product a cycle."""

    units: int
    rows: int
    depth: int
    columns: int


@dataclass(frozen=True)
class Systolic:
    """``rows`` of K by ``columns`` of N; ``ahead``: the next weights load while one set works."""

    rows: int
    columns: int
    ahead: bool


@dataclass(frozen=True)
class RowStationary:
    """``columns`` of PEs take as many rows of A; each PE keeps ``depth`` x ``width`` weights."""

    rows: int
    columns: int
    depth: int
    width: int


@dataclass(frozen=True)
class Lanes:
    """The vector unit as a multiplier: ``lanes`` columns of W, a row of it a cycle."""

    lanes: int


Array = Gobo | TensorCore | Systolic | RowStationary | Lanes


@dataclass(frozen=True)
class PerBuffer:
    """A number of bytes for each buffer: its capacity, or what its port moves in a cycle."""

    activations: int
    weights: int
    outputs: int


@dataclass(frozen=True)
class Memory:
    """DRAM: bytes of a burst, bytes a cycle, cycles until the first burst."""

    burst: int
    rate: Fraction
    latency: int


@dataclass(frozen=True)
class Machine:
    """An array between buffers and DRAM. ``decoder``: weights a cycle that become floats on their
    way in; None where they travel as the array takes them."""

    array: Array
    port: PerBuffer
    capacity: PerBuffer
    memory: Memory
    decoder: int | None = None


@dataclass(frozen=True)
class Tiling:
    """How a product is cut: tiles of ``rows`` of A, ``depth`` of K, ``columns`` of W.

    outer: what changes last; K changes first. With "columns" a tile of W, if it has all of K,
    stays while all of A passes; with "rows" a tile of A stays.
    split: of the array. Gobo: groups of tiles that take different rows of A. Row-stationary: rows
    of PEs that take different parts of K and add up.
    """

    rows: int
    depth: int
    columns: int
    outer: Literal["rows", "columns"] = "columns"
    split: int = 1


@dataclass(frozen=True)
class Kept:
    """Which operands of a product, if they are activations, are on the chip already or stay."""

    inputs: bool = False
    weights: bool = False
    outputs: bool = False


def machine_of(chip: chips.Chip) -> Machine:
    """The numbers of a chip; a cycle is one of its own clock."""
    gigahertz = Fraction(str(chip.clock.value))
    buffers = chip.buffers
    parts = (buffers.activations, buffers.weights, buffers.outputs)
    return Machine(
        _array(chip),
        PerBuffer(*(part.port.value for part in parts)),
        PerBuffer(*(part.capacity.value for part in parts)),
        Memory(
            chip.dram.burst.value,
            Fraction(str(chip.dram.bandwidth.value)) / gigahertz,
            ceil(Fraction(str(chip.dram.latency.value)) * gigahertz),
        ),
        chip.decoder.weights.value if chip.decoder and chip.gobo_memory else None,
    )


def _array(chip: chips.Chip) -> Array:
    match chip.array:
        case chips.GoboArray() as gobo:
            if gobo.pes.value != COLUMNS:
                raise InputError(
                    f"chip '{chip.name}': array.pes must be {COLUMNS}, the columns of a sub-matrix "
                    f"in memory, not {gobo.pes.value}"
                )
            shadow = gobo.register_sets.value > 1
            return Gobo(gobo.tiles.value, gobo.index_bits.value, shadow, gobo.spu_macs.value)
        case chips.TensorCoreArray() as cores:
            sides = (cores.rows.value, cores.depth.value, cores.columns.value)
            return TensorCore(cores.units.value, *sides)
        case chips.SystolicArray() as systolic:
            ahead = systolic.weight_tiles.value > 1
            return Systolic(systolic.rows.value, systolic.columns.value, ahead)
        case chips.RowStationaryArray() as pes:
            depth = min(pes.input_words.value, pes.weight_words.value)
            width = min(pes.sum_words.value, pes.weight_words.value // depth)
            return RowStationary(pes.rows.value, pes.columns.value, depth, width)


def array_takes(chip: chips.Chip, product: Product) -> bool:
    """Whether the chip's array can do a product; otherwise its vector unit does."""
    if isinstance(chip.array, chips.GoboArray):
        return product.format == "codebook" and product.bits <= chip.array.index_bits.value
    plain: Format = "float32" if product.format == "codebook" else product.format
    return plain in chip.array.arithmetic
