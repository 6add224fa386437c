"""How a product is cut: the tiling that costs least of those that fit.

The cost of a layer is its cycles and a sixteenth of those in which DRAM works, so that of two
tilings that are nearly as fast, the one that moves less wins; and a very little for every time that
tiles of the result come back for more of K, so that of two that DRAM cannot tell apart, the one of
fewer accesses wins.

Which tilings there are depends on the array and the shape of the product, not on the buffers or on
how weights are stored, so that a larger buffer, a faster memory or smaller weights never raise the
least cost. Rows are a power of two of equal parts; depth and columns are such parts too, or a
third of one, or the array's own sizes times a power of two. A bound tells which tilings need not be
timed. Outliers are left out of the cost, but not of what must fit. So are the first weights, which
come during the layer before: the first layer of all has none, and larger first tiles may cost it
some cycles.
"""

import math
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import replace
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import product as cartesian
from itertools import tee

from sardonyx.runtime_ops.accelerator.arrays import Tile, compute_cycles
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
from sardonyx.runtime_ops.accelerator.timing import Phase, Plan, Traffic, weight_bits
from sardonyx.runtime_ops.accelerator.work import COLUMNS, Product
from sardonyx.runtime_ops.errors import InputError

_MOVING = 1 / 16
_AGAIN = 1 / 4096
"""Cycles for each sum of a tile, read and written: about as its energy is to that of DRAM."""
_SHARE = 16


def cost_of(phases: Iterable[tuple[int, Phase]]) -> float:
    """Cost of a layer, in cycles."""
    return sum(times * (phase.cycles + phase.dram * _MOVING) for times, phase in phases)


def cost_of_plan(plan: Plan) -> float:
    """Cost of a product as it is cut, its first weights loaded before."""
    return cost_of(plan.phases(True, Traffic())) + _cost_of_sums(plan.product, plan.tiling)


def _cost_of_sums(product: Product, tiling: Tiling) -> float:
    steps = -(-product.k // tiling.depth)
    return product.count * product.m * product.n * steps * _AGAIN


def least_cost(machine: Machine, product: Product, kept: Kept, room: int) -> float:
    """Cost of a product without its outliers under its best tiling; infinite where none fits."""
    plain = replace(product, outliers=(), table_bytes=0)
    fitting = (
        cost
        for cost, tiling in _ranked(machine, plain, kept)
        if _fits(machine, plain, kept, room, tiling)
    )
    return next(fitting, math.inf)


def tiling_of(machine: Machine, product: Product, kept: Kept, room: int) -> Tiling:
    """The best tiling of a product whose tiles of A may take ``room`` bytes of their buffer.

    Raises InputError where the buffers hold not one tile.
    """
    for _, tiling in _ranked(machine, replace(product, outliers=(), table_bytes=0), kept):
        if _fits(machine, product, kept, room, tiling):
            return tiling
    raise InputError(_too_small(machine, product, kept, room))


def _ranked(machine: Machine, product: Product, kept: Kept) -> Iterator[tuple[float, Tiling]]:
    """Costs and tilings that fit an activation buffer of their own, the best first."""
    return copy(_ranking(machine, product, kept))


@lru_cache(maxsize=256)
def _ranking(machine: Machine, product: Product, kept: Kept) -> Iterator[tuple[float, Tiling]]:
    """`_ranked`, made as far as it was needed; only copies of it may be advanced."""
    (shared,) = tee(_best_first(machine, product, kept), 1)
    return shared


def _best_first(machine: Machine, product: Product, kept: Kept) -> Iterator[tuple[float, Tiling]]:
    """Times a tiling when its bound is the least of what is left."""
    room = machine.capacity.activations
    found = (t for t in _tilings(machine, product) if _fits(machine, product, kept, room, t))
    queue = [
        (bound(machine, product, tiling, kept), False, number, tiling)
        for number, tiling in enumerate(found)
    ]
    heapify(queue)
    while queue:
        least, timed, number, tiling = heappop(queue)
        if timed:
            yield least, tiling
        else:
            plan = Plan(machine, product, tiling, kept)
            heappush(queue, (cost_of_plan(plan), True, number, tiling))


def bound(machine: Machine, product: Product, tiling: Tiling, kept: Kept) -> float:
    """What a tiling costs at least: all that the array does between the first tiles that come in
    and the last that goes out, or all that DRAM moves."""
    blocks = (0,) * -(-tiling.columns // COLUMNS)
    tile = Tile(tiling.rows, tiling.depth, tiling.columns, blocks)
    whole = product.m // tiling.rows * (product.n // tiling.columns)
    compute = compute_cycles(machine, product, tile, tiling.split)
    compute *= product.count * whole * (product.k // tiling.depth)
    dram, edges = _dram_cycles(machine, product, tiling, kept)
    return max(compute + edges, dram) + dram * _MOVING + _cost_of_sums(product, tiling)


def _dram_cycles(
    machine: Machine, product: Product, tiling: Tiling, kept: Kept
) -> tuple[float, float]:
    """Cycles of DRAM at least, and those for the first tiles of A and W and the last result alone.
    The first weights came before."""
    rows = -(-product.m // tiling.rows)
    columns = -(-product.n // tiling.columns)
    depth = -(-product.k // tiling.depth)
    first = last = moved = moves = 0
    if not kept.inputs:
        stays = depth == 1 and (tiling.outer == "rows" or rows == 1)
        again = 1 if stays else columns
        moved += again * product.m * product.k * product.activation_bytes
        moves = again * rows * depth
        first += tiling.rows * tiling.depth * product.activation_bytes
    if not kept.weights:
        stays = depth == 1 and (tiling.outer == "columns" or columns == 1)
        again = 1 if stays else rows
        weights, bits = again * product.k * product.n, 8 * product.activation_bytes
        if product.constant:
            weights -= tiling.depth * tiling.columns
            bits = weight_bits(machine, product) or product.bits
        else:
            first += tiling.depth * tiling.columns * product.activation_bytes
        moved += weights * bits // 8
        moves = max(moves, again * columns * depth - product.constant)
    if not kept.outputs:
        moved += product.m * product.n * product.output_bytes
        moves = max(moves, rows * columns)
        end = (product.m - (rows - 1) * tiling.rows) * (product.n - (columns - 1) * tiling.columns)
        last = end * product.output_bytes
    cycle = machine.memory.rate.denominator / machine.memory.rate.numerator
    alone = machine.memory.latency * (bool(first) + bool(last)) + (first + last) * cycle
    return product.count * (machine.memory.latency * moves + moved * cycle), alone


def _tilings(machine: Machine, product: Product) -> Iterator[Tiling]:
    rows = sorted({-(-product.m // (1 << shift)) for shift in range(product.m.bit_length())})
    for split in _splits(machine):
        for (depth, columns), each in cartesian(_faces(machine, product, split), rows):
            tiling = Tiling(each, depth, columns, "columns", split)
            yield tiling
            if each < product.m and columns < product.n:
                yield replace(tiling, outer="rows")


def _faces(machine: Machine, product: Product, split: int) -> list[tuple[int, int]]:
    """Depth and columns of tiles, those of the smallest first.

    GOBO's sums are of all of K: those of a part would meet the centroids once for each part. Its
    columns are whole blocks of 16.
    """
    deep, wide = _own_sizes(machine, product, split)
    if isinstance(machine.array, Gobo):
        return [(deep, columns) for columns in _sizes(product.n, wide, COLUMNS)]
    return list(cartesian(_sizes(product.k, deep), _sizes(product.n, wide)))


def _splits(machine: Machine) -> list[int]:
    """Ways to split the array (`Tiling.split`)."""
    match machine.array:
        case Gobo(tiles=whole) | RowStationary(rows=whole):
            return [part for part in range(1, whole + 1) if whole % part == 0]
        case _:
            return [1]


def _own_sizes(machine: Machine, product: Product, split: int) -> tuple[int, int]:
    """Depth and columns that fill the array once."""
    match machine.array:
        case Gobo(tiles=tiles):
            return product.k, COLUMNS * (tiles // split)
        case TensorCore(depth=depth, columns=columns):
            return depth, columns
        case Systolic(rows=rows, columns=columns):
            return rows, columns
        case RowStationary() as pes:
            return pes.depth * split, pes.width * (pes.rows // split)
        case Lanes(lanes):
            return 1, lanes


def _sizes(extent: int, own: int, unit: int = 1) -> list[int]:
    """Sizes of tiles along an axis, in whole ``unit``s but for ``extent``: ``own`` times powers of
    two; parts of ``extent``, a power of two or three times one where three divides it, down to a
    share of ``own``."""
    shifts = range(extent.bit_length())
    sizes = {own << shift for shift in shifts}
    parts = (1, 3) if extent % 3 == 0 else (1,)
    sizes |= {-(-extent // (part << shift)) for part in parts for shift in shifts}
    least = min(own, extent) // _SHARE
    whole = {unit * -(-size // unit) for size in sizes if size >= least}
    return sorted(size for size in whole if size < extent) + [extent]


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
    smallest = Tiling(1, *_faces(machine, product, split)[0], "columns", split)
    lacking = [
        f"buffers.{name}.capacity is {capacity} bytes, but two of the smallest tiles of a "
        f"{product.m} x {product.k} x {product.n} product take {needed}"
        for name, needed, capacity in _needs(machine, product, kept, room, smallest)
        if needed > capacity
    ]
    return "; ".join(lacking)
