"""How a product is cut: the tiling that costs least of those that fit.

The cost of a layer is its cycles and a sixteenth of those in which DRAM works, so that of two
tilings that are nearly as fast, the one that moves less wins.

Sizes are powers of two times the array's own, or all there is. Of each depth, width, order and
split, the two tallest tiles that fit are timed; lower ones arrive sooner, which gains BERT-base
less than a thousandth. Where none fits, the array's own sizes are halved until one does. Outliers
are left out of this search, but not of what must fit.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
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
from sardonyx.runtime_ops.accelerator.timing import Phase, Plan, Traffic
from sardonyx.runtime_ops.accelerator.work import COLUMNS, Product
from sardonyx.runtime_ops.errors import InputError

_MOVING = 1 / 16
_TALLEST = 2
_HALVINGS = 12


def cost_of(phases: Iterable[tuple[int, Phase]]) -> float:
    """Cost of a layer, in cycles."""
    return sum(times * (phase.cycles + phase.dram * _MOVING) for times, phase in phases)


def least_cost(machine: Machine, product: Product, kept: Kept, room: int) -> float:
    """Cost of a product without its outliers under its best tiling; infinite where none fits."""
    ranked = _ranked(machine, *_plain(product, kept, room))
    return ranked[0][0] if ranked else math.inf


def tiling_of(machine: Machine, product: Product, kept: Kept, room: int) -> Tiling:
    """The fastest tiling of a product whose tiles of A may take ``room`` bytes of their buffer.

    Raises InputError where the buffers hold not one tile.
    """
    for _, tiling in _ranked(machine, *_plain(product, kept, room)):
        if _fits(machine, product, kept, room, tiling):
            return tiling
    raise InputError(_too_small(machine, product, kept, room))


def _plain(product: Product, kept: Kept, room: int) -> tuple[Product, Kept, int]:
    """A product without what differs between products of a shape, and no more room than of use."""
    whole = 2 * product.m * product.k * product.activation_bytes
    return replace(product, outliers=(), table_bytes=0), kept, min(room, whole)


@lru_cache(maxsize=1024)
def _ranked(
    machine: Machine, product: Product, kept: Kept, room: int
) -> tuple[tuple[float, Tiling], ...]:
    """Tilings that fit and their costs, the best first."""
    for halvings in range(_HALVINGS):
        found = list(_candidates(machine, product, kept, room, halvings))
        if found:
            plans = ((Plan(machine, product, tiling, kept), tiling) for tiling in found)
            costs = [(cost_of(plan.phases(True, Traffic())), tiling) for plan, tiling in plans]
            return tuple(sorted(costs, key=lambda pair: pair[0]))
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
        f"buffers.{name}.capacity is {capacity} bytes, but two of the smallest tiles of a "
        f"{product.m} x {product.k} x {product.n} product take {needed}"
        for name, needed, capacity in _needs(machine, product, kept, room, smallest)
        if needed > capacity
    ]
    return "; ".join(lacking)
