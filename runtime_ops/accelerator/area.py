"""Area of a chip by component: counts of adders, multipliers, registers and SRAM bits.

As with energy, only what has a public number is counted: no control, wires, multiplexers, pads. A
decoder is a table of 16 centroids for each weight that it decodes in a cycle. The pads that a
row-stationary PE keeps weights in are SRAM; those of inputs and sums are registers.
"""

from dataclasses import dataclass

from sardonyx.runtime_ops.accelerator.chip import (
    Chip,
    GoboArray,
    RowStationaryArray,
    SystolicArray,
    Technology,
    TensorCoreArray,
)

_SUM_BITS = 32
_BITS = {"float32": 32, "int16": 16, "int8": 8}


@dataclass(frozen=True)
class Area:
    """Area by component, in square micrometres."""

    pe: float = 0
    spu: float = 0
    registers: float = 0
    sram: float = 0
    vector: float = 0
    decoder: float = 0

    def __add__(self, other: "Area") -> "Area":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Area(*(mine + others for mine, others in pairs))

    @property
    def total(self) -> float:
        return float(sum(vars(self).values()))


def area_of(chip: Chip) -> Area:
    """Area of the array, the buffers, the vector unit and the decoder of a chip."""
    technology, buffers = chip.technology, chip.buffers
    capacities = (buffers.activations, buffers.weights, buffers.outputs)
    decoded = chip.decoder.weights.value if chip.decoder and chip.gobo_memory else 0
    rest = Area(
        sram=sum(_sram(technology, 8 * each.capacity.value) for each in capacities),
        vector=chip.vector.lanes.value * _float_mac(technology),
        decoder=decoded * 16 * _SUM_BITS * technology.register_area.value,
    )
    return _array(chip) + rest


def _array(chip: Chip) -> Area:
    technology, bit = chip.technology, chip.technology.register_area.value
    match chip.array:
        case GoboArray() as gobo:
            pes = gobo.tiles.value * gobo.pes.value
            sums = pes * gobo.register_sets.value << gobo.index_bits.value
            return Area(
                pe=pes * technology.fp32_add_area.value,
                spu=gobo.tiles.value * gobo.spu_macs.value * _float_mac(technology),
                registers=sums * _SUM_BITS * bit,
            )
        case TensorCoreArray() as cores:
            high, deep, wide = cores.rows.value, cores.depth.value, cores.columns.value
            operands = (high + wide) * deep * _widest(cores.arithmetic)
            registers = cores.units.value * (operands + high * wide * _SUM_BITS)
            macs = cores.units.value * high * deep * wide
            return Area(pe=macs * _mac(technology, cores.arithmetic), registers=registers * bit)
        case SystolicArray() as grid:
            macs = grid.rows.value * grid.columns.value
            each = (1 + grid.weight_tiles.value) * _widest(grid.arithmetic) + _SUM_BITS
            return Area(pe=macs * _mac(technology, grid.arithmetic), registers=macs * each * bit)
        case RowStationaryArray() as rows:
            macs = rows.rows.value * rows.columns.value
            width = _widest(rows.arithmetic)
            each = rows.input_words.value * width + rows.sum_words.value * _SUM_BITS
            return Area(
                pe=macs * _mac(technology, rows.arithmetic),
                registers=macs * each * bit,
                sram=macs * _sram(technology, rows.weight_words.value * width),
            )


def _sram(technology: Technology, bits: int) -> float:
    cells = bits * technology.sram_cell_area.value
    return float(cells / technology.sram_efficiency.value)


def _float_mac(technology: Technology) -> float:
    return float(technology.fp32_add_area.value + technology.fp32_multiply_area.value)


def _widest(formats: tuple[str, ...]) -> int:
    """Bits of the widest operand."""
    return max(_BITS[each] for each in formats)


def _mac(technology: Technology, formats: tuple[str, ...]) -> float:
    """A multiplier and an adder for all of some formats: the largest of them."""
    add = float(technology.int32_add_area.value)
    areas = {
        "float32": _float_mac(technology),
        "int8": technology.int8_multiply_area.value + add,
        "int16": technology.int16_multiply_area.value + add,
    }
    return max(areas[each] for each in formats)
