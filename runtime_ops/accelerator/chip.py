"""A chip is data: a TOML file of constants, each with its unit and where it comes from.

The files in ``chips/`` are examples; the classes here are their schema. A chip is an array that
multiplies, one of four kinds, buffers around it, a vector unit, DRAM and a host; the technology
it is made in gives energies and areas.
"""

from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Number = TypeVar("Number", int, float)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Constant(_Part, Generic[Number]):
    """A number above 0, its unit and its source: a publication, a derivation, or "chosen: why"."""

    value: Annotated[Number, Field(gt=0)]
    unit: str
    source: Annotated[str, Field(min_length=1)]


AnyConstant = TypeVar("AnyConstant", bound=Constant[Any])


def _in(unit: str) -> AfterValidator:
    """A check that a constant has this unit."""

    def check(constant: AnyConstant) -> AnyConstant:
        if constant.unit != unit:
            raise ValueError(f"its unit is '{unit}', not '{constant.unit}'")
        return constant

    return AfterValidator(check)


Bytes: TypeAlias = Annotated[Constant[int], _in("bytes")]
BytesPerCycle: TypeAlias = Annotated[Constant[int], _in("bytes/cycle")]
Cycles: TypeAlias = Annotated[Constant[int], _in("cycles")]
Gigahertz: TypeAlias = Annotated[Constant[float], _in("GHz")]
GigabytesPerSecond: TypeAlias = Annotated[Constant[float], _in("GB/s")]
GigaoperationsPerSecond: TypeAlias = Annotated[Constant[float], _in("Gop/s")]
Nanoseconds: TypeAlias = Annotated[Constant[float], _in("ns")]
Picojoules: TypeAlias = Annotated[Constant[float], _in("pJ")]
Ratio: TypeAlias = Annotated[Constant[float], _in("ratio")]
SquareMicrometres: TypeAlias = Annotated[Constant[float], _in("um2")]
SquareMicrometresPerBit: TypeAlias = Annotated[Constant[float], _in("um2/bit")]

Formats: TypeAlias = Annotated[
    tuple[Literal["float32", "int8", "int16"], ...], Field(strict=False, min_length=1)
]
"""The formats of operands that multipliers take."""


class Technology(_Part):
    """Energies and areas of operations. ``*_energy`` of arithmetic: pJ an operation.

    ``sram_*_energy``: pJ a 64-bit access of a memory of that capacity; ``dram_energy``: of DRAM,
    interface included; ``host_energy``: pJ an operation of the host. ``special_energy``: an exp,
    erf, root or quotient. ``sram_cell_area``: of one cell; ``sram_efficiency``: share of a memory
    that is cells. ``register_area``: of one flip-flop.
    """

    description: str
    fp32_add_energy: Picojoules
    fp32_multiply_energy: Picojoules
    int8_add_energy: Picojoules
    int8_multiply_energy: Picojoules
    int16_multiply_energy: Picojoules
    int32_add_energy: Picojoules
    special_energy: Picojoules
    sram_8kb_energy: Picojoules
    sram_32kb_energy: Picojoules
    sram_1mb_energy: Picojoules
    dram_energy: Picojoules
    host_energy: Picojoules
    fp32_add_area: SquareMicrometres
    fp32_multiply_area: SquareMicrometres
    int8_add_area: SquareMicrometres
    int8_multiply_area: SquareMicrometres
    int16_multiply_area: SquareMicrometres
    int32_add_area: SquareMicrometres
    sram_cell_area: SquareMicrometresPerBit
    sram_efficiency: Ratio
    register_area: SquareMicrometresPerBit


class GoboArray(_Part):
    """Tiles of PEs that add, and an SPU a tile that multiplies.

    A PE holds 2^index_bits FP32 accumulators, in ``register_sets`` copies: with 2, the next round
    adds into one while the SPU reads the other. ``spu_macs``: of an SPU, a cycle.
    """

    kind: Literal["gobo"]
    tiles: Annotated[Constant[int], _in("tiles")]
    pes: Annotated[Constant[int], _in("PEs/tile")]
    index_bits: Annotated[Constant[int], _in("bits")]
    register_sets: Annotated[Constant[int], _in("sets/PE")]
    spu_macs: Annotated[Constant[int], _in("MACs/cycle")]


class TensorCoreArray(_Part):
    """Units that each multiply a ``rows`` x ``depth`` by a ``depth`` x ``columns`` matrix, and add
    to a third, a cycle."""

    kind: Literal["tensorcore"]
    arithmetic: Formats
    units: Annotated[Constant[int], _in("units")]
    rows: Annotated[Constant[int], _in("rows")]
    depth: Annotated[Constant[int], _in("products")]
    columns: Annotated[Constant[int], _in("columns")]


class SystolicArray(_Part):
    """MACs that each keep a weight: activations move along rows (of K), sums down columns (of N).

    ``weight_tiles``: sets of weights that each MAC holds: with 2, the next load while one is used.
    """

    kind: Literal["systolic"]
    arithmetic: Formats
    rows: Annotated[Constant[int], _in("rows")]
    columns: Annotated[Constant[int], _in("columns")]
    weight_tiles: Annotated[Constant[int], _in("tiles")]


class RowStationaryArray(_Part):
    """PEs that each keep a row of weights and slide it over a row of inputs.

    ``*_words``: of a PE's register files; a word is an element of the product.
    """

    kind: Literal["row-stationary"]
    arithmetic: Formats
    rows: Annotated[Constant[int], _in("rows")]
    columns: Annotated[Constant[int], _in("columns")]
    weight_words: Annotated[Constant[int], _in("words/PE")]
    input_words: Annotated[Constant[int], _in("words/PE")]
    sum_words: Annotated[Constant[int], _in("words/PE")]


Array: TypeAlias = Annotated[
    GoboArray | TensorCoreArray | SystolicArray | RowStationaryArray, Field(discriminator="kind")
]


class Buffer(_Part):
    """An on-chip SRAM. ``port``: what the array can take from it or put into it."""

    capacity: Bytes
    port: BytesPerCycle


class Buffers(_Part):
    """The SRAMs around the array; double buffering takes half of one."""

    activations: Buffer
    weights: Buffer
    outputs: Buffer


class Vector(_Part):
    """The unit for all that is no product: ``lanes``, each an FP32 multiplier and adder, that take
    one operation a cycle; ``special`` cycles for an exp, erf, root or quotient."""

    lanes: Annotated[Constant[int], _in("lanes")]
    special: Cycles


class Dram(_Part):
    """``bandwidth``: peak; ``burst``: least bytes of a transfer; ``latency``: until the first."""

    bandwidth: GigabytesPerSecond
    burst: Bytes
    latency: Nanoseconds


class Host(_Part):
    """What runs the ops that the chip has no unit for. ``link``: between it and the chip."""

    link: GigabytesPerSecond
    rate: GigaoperationsPerSecond


class Decoder(_Part):
    """What turns indices into floats on the way from DRAM, on a chip with GOBO memory."""

    weights: Annotated[Constant[int], _in("weights/cycle")]


class Chip(_Part):
    """A chip. ``gobo_memory``: GOBO weights travel from DRAM as indices and outliers, and the
    ``decoder`` turns them into floats on the way in. A gobo array needs neither: it takes them as
    they are."""

    name: str
    description: str
    clock: Gigahertz
    array: Array
    buffers: Buffers
    vector: Vector
    dram: Dram
    host: Host
    technology: Technology
    decoder: Decoder | None = None
    gobo_memory: bool = False
