"""Energy of work on a chip by component: counts of operations times public constants.

Counted are operations, register, SRAM and DRAM accesses. Not counted, for want of public numbers:
clock and control, wires, multiplexers, leakage, idle time, the link to the host. So the figures of
a chip are too low, and two chips are compared in what is counted.

**Memories.** A memory that moves P bytes a cycle is P / 8 banks of 64 bits; an access costs what a
memory of a bank's capacity costs. Between the three capacities of the table, and beyond them, the
logarithm of energy is linear in that of capacity (with slope 1/2 beyond). A register file is such
a memory too, charged by the byte.

**Registers** (a word is 4 bytes, a float or a sum; operands of integers are smaller):

    gobo            a sum read and written for each addition of a PE; the sums for the SPU read,
                    written to the shadow registers, read
    tensorcore      for each unit and cycle, its operands and the sums read, the sums written
    systolic        for each MAC a weight, an activation and a sum read, and all but the weight
                    written
    row-stationary  for each MAC a weight, an input and a sum read, and the sum written
    lanes           for each MAC both operands and the sum read, and the sum written
    decoder         for each weight a centroid read
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import log

from sardonyx.runtime_ops.accelerator.accesses import Accesses, accesses
from sardonyx.runtime_ops.accelerator.arrays import Tile
from sardonyx.runtime_ops.accelerator.chip import Buffer, Chip, Technology
from sardonyx.runtime_ops.accelerator.machine import (
    SUM_BYTES,
    Array,
    Gobo,
    Lanes,
    RowStationary,
    Systolic,
    TensorCore,
)
from sardonyx.runtime_ops.accelerator.timing import Traffic
from sardonyx.runtime_ops.accelerator.work import Product, Vector

_WORD = 8
"""Bytes of the accesses in the table."""


@dataclass(frozen=True)
class Energy:
    """Energy by component, in pJ."""

    pe: float = 0
    spu: float = 0
    registers: float = 0
    sram: float = 0
    dram: float = 0
    vector: float = 0
    host: float = 0

    def __add__(self, other: "Energy") -> "Energy":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Energy(*(mine + others for mine, others in pairs))

    def __mul__(self, times: int) -> "Energy":
        return Energy(*(times * mine for mine in vars(self).values()))

    @property
    def total(self) -> float:
        return float(sum(vars(self).values()))


def access_pj(technology: Technology, capacity: float) -> float:
    """Energy of a 64-bit access of a memory of ``capacity`` bytes."""
    table = [
        (8 * 1024, technology.sram_8kb_energy.value),
        (32 * 1024, technology.sram_32kb_energy.value),
        (1024 * 1024, technology.sram_1mb_energy.value),
    ]
    for (small, low), (large, high) in pairwise(table):
        if small <= capacity <= large:
            share = log(capacity / small) / log(large / small)
            return float(low * (high / low) ** share)
    nearest, energy = table[0] if capacity < table[0][0] else table[-1]
    return float(energy * (capacity / nearest) ** 0.5)


def buffer_pj(technology: Technology, buffer: Buffer) -> float:
    """Energy of a byte read from or written to a buffer."""
    banks = max(1, buffer.port.value // _WORD)
    return access_pj(technology, buffer.capacity.value / banks) / _WORD


def register_pj(technology: Technology, capacity: int) -> float:
    """Energy of a byte read from or written to a register file of ``capacity`` bytes."""
    return access_pj(technology, capacity) / _WORD


def step_energy(chip: Chip, array: Array, product: Product, tile: Tile, split: int) -> Energy:
    """Energy of one step of a product on the array, or on the vector unit (`Lanes`)."""
    counts = accesses(array, product, tile, split)
    energy = _array_energy(chip.technology, array, product, tile)
    return energy + Energy(sram=_sram(chip, counts))


def traffic_energy(chip: Chip, traffic: Traffic) -> Energy:
    """Energy of what is moved: DRAM and the buffer behind it, between buffers, the decoder."""
    technology, buffers = chip.technology, chip.buffers
    burst = chip.dram.burst.value
    inputs, weights, outputs = (
        buffer_pj(technology, buffer)
        for buffer in (buffers.activations, buffers.weights, buffers.outputs)
    )
    decoded = SUM_BYTES * traffic.decoded
    arriving = decoded or burst * traffic.weights
    return Energy(
        sram=burst * (traffic.inputs * inputs + traffic.results * outputs)
        + arriving * weights
        + traffic.port_bytes * (inputs + outputs),
        dram=burst * traffic.bursts * technology.dram_energy.value / _WORD,
        registers=decoded * register_pj(technology, 16 * SUM_BYTES),
    )


def vector_energy(chip: Chip, work: Vector) -> Energy:
    """Energy of the vector unit; of plain arithmetic, half is taken to be multiplications."""
    technology = chip.technology
    each = (technology.fp32_add_energy.value + technology.fp32_multiply_energy.value) / 2
    if work.kind == "special":
        each = technology.special_energy.value
    moved = work.bytes_in + work.bytes_out
    return Energy(
        vector=work.operations * each,
        sram=moved * buffer_pj(technology, chip.buffers.activations),
    )


def host_energy(chip: Chip, operations: int) -> Energy:
    """Energy of the host."""
    return Energy(host=operations * chip.technology.host_energy.value)


def _sram(chip: Chip, counts: Accesses) -> float:
    buffers = chip.buffers
    return (
        counts.activations * buffer_pj(chip.technology, buffers.activations)
        + counts.weights * buffer_pj(chip.technology, buffers.weights)
        + counts.outputs * buffer_pj(chip.technology, buffers.outputs)
    )


def _array_energy(technology: Technology, array: Array, product: Product, tile: Tile) -> Energy:
    macs = tile.rows * tile.depth * tile.columns
    mac = _mac_pj(technology, product)
    element = product.activation_bytes

    def register(capacity: int) -> float:
        return register_pj(technology, capacity)

    match array:
        case Gobo():
            return _gobo(technology, array, product, tile)
        case TensorCore():
            return Energy(pe=macs * mac, registers=_tensor_core(array, tile, element, register))
        case Systolic():
            moved = (3 * element + 2 * SUM_BYTES) * register(SUM_BYTES)
            return Energy(pe=macs * mac, registers=macs * moved)
        case RowStationary(depth=depth, width=width):
            weights = element * register(depth * width * element)
            inputs = element * register(depth * element)
            sums = 2 * SUM_BYTES * register(width * SUM_BYTES)
            return Energy(pe=macs * mac, registers=macs * (weights + inputs + sums))
        case Lanes():
            moved = (2 * element + 2 * SUM_BYTES) * register(SUM_BYTES)
            return Energy(vector=macs * mac, registers=macs * moved)


def _gobo(technology: Technology, array: Gobo, product: Product, tile: Tile) -> Energy:
    outliers = sum(tile.outliers) * tile.rows
    additions = tile.rows * tile.depth * tile.columns - outliers
    sums = tile.rows * tile.columns << product.bits
    file = register_pj(technology, SUM_BYTES << array.index_bits)
    return Energy(
        pe=additions * technology.fp32_add_energy.value,
        spu=(sums + outliers) * _mac_pj(technology, product),
        registers=SUM_BYTES * (2 * additions + (3 if array.shadow else 1) * sums) * file,
    )


def _tensor_core(
    array: TensorCore, tile: Tile, element: int, register: Callable[[int], float]
) -> float:
    blocks = -(-tile.rows // array.rows) * -(-tile.columns // array.columns)
    operands = (array.rows + array.columns) * array.depth * element
    sums = array.rows * array.columns * SUM_BYTES
    cycles = blocks * -(-tile.depth // array.depth)
    return cycles * (operands + 2 * sums) * register(SUM_BYTES)


def _mac_pj(technology: Technology, product: Product) -> float:
    """A multiplication and an addition."""
    match product.format:
        case "int8":
            return technology.int8_multiply_energy.value + technology.int32_add_energy.value
        case "int16":
            return technology.int16_multiply_energy.value + technology.int32_add_energy.value
        case _:
            return technology.fp32_multiply_energy.value + technology.fp32_add_energy.value
