"""What stays on the chip between layers, and how each product is cut.

**What stays.** An activation may stay in the activation buffer from the layer that writes it to the
last that reads it. A quarter of the buffer is left for tiles of what does not stay. Where not all
fit, those with the shortest lives stay: they are read soonest, and a life blocks what it spans.

**Tiles.** Sizes are powers of two times the array's own, or all there is. Of each depth, width,
order and split, the two tallest tiles that fit are timed, and the fastest wins; among equals, the
one that moves least. Where none of them fits, the array's own sizes are halved until one does.
Outliers are left out of this search, but not of what must fit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from math import lcm

from sardonyx.runtime_ops.accelerator.machine import (
    SUM_BYTES,
    Gobo,
    Kept,
    Lanes,
    Machine,
    RowStationary,
    Systolic,
    TensorCore,
    Tiling,
)
from sardonyx.runtime_ops.accelerator.timing import Plan, Traffic
from sardonyx.runtime_ops.accelerator.work import COLUMNS, Layer, Product
from sardonyx.runtime_ops.errors import InputError

_SHARE_OF_TILES = 4
_TALLEST = 2
_HALVINGS = 12


@dataclass(frozen=True)
class Residents:
    """Names of the activations that stay on the chip, and the bytes of them at each layer."""

    names: frozenset[str]
    nbytes: tuple[int, ...]


def residents(layers: Sequence[Layer], capacity: int) -> Residents:
    """Choose what stays in an activation buffer of ``capacity`` bytes."""
    room = [capacity - capacity // _SHARE_OF_TILES] * len(layers)
    names = set()
    for first, last, name, nbytes in sorted(_lives(layers), key=lambda life: life[1] - life[0]):
        if all(nbytes <= left for left in room[first : last + 1]):
            names.add(name)
            for number in range(first, last + 1):
                room[number] -= nbytes
    free = capacity - capacity // _SHARE_OF_TILES
    return Residents(frozenset(names), tuple(free - left for left in room))


def _lives(layers: Sequence[Layer]) -> Iterator[tuple[int, int, str, int]]:
    """First and last layer, name and bytes of what is written and then read on the chip."""
    written: dict[str, int] = {}
    last: dict[str, int] = {}
    sizes: dict[str, int] = {}
    on_host: set[str] = set()
    for number, layer in enumerate(layers):
        last |= {value.name: number for value in layer.reads}
        written |= {value.name: number for value in layer.writes}
        sizes |= {value.name: value.nbytes for value in layer.writes}
        if layer.on == "host":
            on_host |= {value.name for value in (*layer.reads, *layer.writes)}
    for name, first in written.items():
        if name in last and name not in on_host:
            yield first, last[name], name, sizes[name]


def tiling_of(machine: Machine, product: Product, kept: Kept, room: int) -> Tiling:
    """The fastest tiling of a product whose tiles of A may take ``room`` bytes of their buffer.

    Raises InputError where the buffers hold not one tile.
    """
    plain = replace(product, outliers=(), table_bytes=0)
    for tiling in _ranked(machine, plain, kept, room):
        if _fits(machine, product, kept, room, tiling):
            return tiling
    raise InputError(_too_small(machine, product, kept, room))


@lru_cache(maxsize=256)
def _ranked(machine: Machine, product: Product, kept: Kept, room: int) -> tuple[Tiling, ...]:
    """Tilings that fit, the best first."""

    def cost(tiling: Tiling) -> tuple[int, int]:
        phases = list(Plan(machine, product, tiling, kept).phases(True, Traffic()))
        bursts = sum(times * phase.traffic.bursts for times, phase in phases)
        return sum(times * phase.cycles for times, phase in phases), bursts

    for halvings in range(_HALVINGS):
        found = list(_candidates(machine, product, kept, room, halvings))
        if found:
            return tuple(sorted(found, key=cost))
    return ()


def _candidates(
    machine: Machine, product: Product, kept: Kept, room: int, halvings: int
) -> Iterator[Tiling]:
    rows = sorted({-(-product.m // (1 << shift)) for shift in range(product.m.bit_length())})
    for split in _splits(machine):
        deep, wide = _own_sizes(machine, product, split, halvings)
        for depth in _sizes(product.k, deep):
            for columns in _sizes(product.n, wide):
                tiles = (Tiling(each, depth, columns, "columns", split) for each in rows[::-1])
                fitting = (tile for tile in tiles if _fits(machine, product, kept, room, tile))
                for tiling in islice(fitting, _TALLEST):
                    yield tiling
                    yield replace(tiling, outer="rows")


def _splits(machine: Machine) -> list[int]:
    """Ways to split the array (`Tiling.split`)."""
    match machine.array:
        case Gobo(tiles=whole) | RowStationary(rows=whole):
            return [part for part in range(1, whole + 1) if whole % part == 0]
        case _:
            return [1]


def _own_sizes(machine: Machine, product: Product, split: int, halvings: int) -> tuple[int, int]:
    """Depth and columns that fill the array once, halved; of a codebook, whole sub-matrices.

    GOBO's sums are of all of K: those of a part would meet the centroids once for each part.
    """
    match machine.array:
        case Gobo(tiles=tiles):
            return product.k, COLUMNS * max(1, tiles // split >> halvings)
        case TensorCore(depth=depth, columns=columns):
            sizes = depth, columns
        case Systolic(rows=rows, columns=columns):
            sizes = rows, columns
        case RowStationary() as pes:
            sizes = pes.depth * split, pes.width * (pes.rows // split)
        case Lanes(lanes):
            sizes = 1, lanes
    unit = COLUMNS if product.format == "codebook" else 1
    deep, wide = (max(1, size >> halvings) for size in sizes)
    return lcm(deep, unit), lcm(wide, unit)


def _sizes(extent: int, own: int) -> list[int]:
    """``own`` times powers of two below ``extent``, and ``extent``."""
    sizes = [own << power for power in range(max(1, (extent // own).bit_length()))]
    return [size for size in sizes if size < extent] + [extent]


def _fits(machine: Machine, product: Product, kept: Kept, room: int, tiling: Tiling) -> bool:
    needs = _needs(machine, product, kept, room, tiling)
    return all(needed <= capacity for _, needed, capacity in needs)


def _needs(
    machine: Machine, product: Product, kept: Kept, room: int, tiling: Tiling
) -> list[tuple[str, int, int]]:
    """Of each buffer: its name, the bytes of two tiles, and what there is for them."""
    inputs = 0 if kept.inputs else tiling.rows * tiling.depth * product.activation_bytes
    outputs = tiling.rows * tiling.columns * SUM_BYTES
    return [
        ("activations", 2 * inputs, room),
        ("weights", 2 * _weight_tile(machine, product, tiling), machine.capacity.weights),
        ("outputs", 2 * outputs, machine.capacity.outputs),
    ]


def _weight_tile(machine: Machine, product: Product, tiling: Tiling) -> int:
    """Bytes on the chip of the largest tile of W."""
    if isinstance(machine.array, Gobo):
        starts = range(0, product.n, tiling.columns)
        tiles = (product.blocks(n, min(tiling.columns, product.n - n)) for n in starts)
        return max(product.container_bytes(tiling.depth, blocks) for blocks in tiles)
    return tiling.depth * tiling.columns * product.activation_bytes


def _too_small(machine: Machine, product: Product, kept: Kept, room: int) -> str:
    split = _splits(machine)[-1]
    deep, wide = _own_sizes(machine, product, split, _HALVINGS - 1)
    smallest = Tiling(1, min(deep, product.k), min(wide, product.n), "columns", split)
    lacking = [
        f"buffers.{name}.capacity of {capacity} bytes, which two of the smallest tiles of a "
        f"{product.m} x {product.k} x {product.n} product exceed: they take {needed}"
        for name, needed, capacity in _needs(machine, product, kept, room, smallest)
        if needed > capacity
    ]
    return "; ".join(lacking)
