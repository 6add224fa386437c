"""Cycles that each array takes for one step, in closed form (``compute`` in `timing`).

All operands lie in the buffers. A port delivers whole requests: what asks for more bytes than the
port moves in a cycle waits, and everything in step with it. A step starts with an empty array and
ends with the last result in the output buffer.

**Gobo.** Tiles stand in ``split`` groups; those of a group share their rows of A, and the i-th
tiles of all groups share a block of 16 columns of W. A tile takes its blocks one after the other,
and of each, its rows of A. A *round* is one row of A and one block: every (stalled) cycle an
activation goes to 16 PEs, each of which adds it to the accumulator that its index selects, and
leaves it out if the weight is an outlier. Then the sums move to the shadow registers, as soon as
these are free, and the next round starts, while the SPU multiplies 2^bits sums of each column in
use by the centroids and adds the block's outliers, one MAC each. Without shadow registers the next
round waits for the SPU. An FP32 addition takes one cycle.

    K' = depth * max(ceil(groups * 4 / port), ceil(blocks at once * 16 * bits / 8 / port))
    S  = max(ceil((columns * 2^bits + outliers) / spu_macs), ceil(tiles at once * 64 / port))
    a tile with S_1 ... S_R:   K' + max(K', S_1) + ... + max(K', S_(R-1)) + S_R

**Tensor core.** A unit keeps a rows x columns block of the result and takes a ``depth`` of K a
cycle; all units work on blocks of their own, with operands of their own. Sums leave while the next
blocks start.

    f = max(ceil(units * rows * depth * bytes / port), ceil(units * depth * columns * bytes / port))
    w = ceil(units * rows * columns * 4 / port),   K' = f * ceil(K / depth)
    K' + (groups of blocks - 1) * max(K', w) + w

**Systolic.** A *fold* holds R x C weights, shifted in from above, a row a cycle. Row m of A enters
row r of the array at cycle m + r and moves right; sums move down and the last leaves after
M + R + C - 2 cycles. Idle edges of the array are passed through like the rest. Port waits stop the
whole array (f), or the shifting (g). With a second set of weights they are shifted in while the
fold before runs, which it follows at once; otherwise a fold starts when the one before is done.

    D = M + R + C - 2
    F folds:  F (g R + f D),   with the second set:  g R + (F - 1) f max(M, ceil(g R / f)) + f D

**Row-stationary.** For a product a row of weights is one weight, so a PE keeps depth x width of
them. The array's rows stand in groups of ``split``, which take consecutive parts of K and pass
their sums up; the groups take parts of N, the array's columns rows of A. A *pass* first loads the
weights of all PEs; then inputs of a row of A for each column of PEs stream in, are used, and sums
leave, in three stages that change places when all are done. Idle edges are run like the rest.

    L, I, O = bytes of weights, inputs, sums / port,   X = depth * width + split - 1
    a pass of n > 1:  L + I + max(I, X) + (n - 2) max(I, X, O) + max(X, O) + O
    a pass of n = 1:  L + I + X + O

**Lanes.** The vector unit: a row of A by ``lanes`` columns of W, one of K a cycle.
"""

from dataclasses import dataclass

from sardonyx.runtime_ops.accelerator.machine import (
    SUM_BYTES,
    Gobo,
    Lanes,
    Machine,
    PerBuffer,
    RowStationary,
    Systolic,
    TensorCore,
)
from sardonyx.runtime_ops.accelerator.work import COLUMNS, Product


@dataclass(frozen=True)
class Tile:
    """A step: its sizes and the outliers of its blocks of 16 columns."""

    rows: int
    depth: int
    columns: int
    outliers: tuple[int, ...]


def compute_cycles(machine: Machine, product: Product, tile: Tile, split: int) -> int:
    """Cycles of the array for one step."""
    port = machine.port
    element = product.activation_bytes
    match machine.array:
        case Gobo() as gobo:
            return _gobo(gobo, port, product.bits, tile, split)
        case TensorCore() as cores:
            return _tensor_core(cores, port, element, tile)
        case Systolic() as systolic:
            return _systolic(systolic, port, element, tile)
        case RowStationary() as pes:
            return _row_stationary(pes, port, element, tile, split)
        case Lanes(lanes):
            stall = max(1, _waits(lanes * element, port.weights), _waits(element, port.activations))
            return tile.rows * -(-tile.columns // lanes) * tile.depth * stall


def spu_cycles(array: Gobo, bits: int, tile: Tile) -> int:
    """Cycles of one step in which SPUs multiply, were all of them to share the work."""
    sums = (tile.columns << bits) + sum(tile.outliers)
    return -(-tile.rows * sums // (array.tiles * array.spu_macs))


def _first_round(array: Gobo, port: PerBuffer, bits: int, tile: Tile, split: int) -> int:
    """K' of the module: cycles before the first sums reach an SPU."""
    at_once = min(array.tiles // split, len(tile.outliers))
    indices = -(-at_once * COLUMNS * bits // 8)
    activations = min(split, tile.rows) * SUM_BYTES
    return tile.depth * max(_waits(activations, port.activations), _waits(indices, port.weights))


def _waits(nbytes: int, port: int) -> int:
    """Cycles of a request."""
    return -(-nbytes // port)


def _gobo(array: Gobo, port: PerBuffer, bits: int, tile: Tile, split: int) -> int:
    abreast = array.tiles // split
    groups = min(split, tile.rows)
    at_once = min(abreast, len(tile.outliers))
    adding = _first_round(array, port, bits, tile, split)
    leaving = _waits(groups * at_once * COLUMNS * SUM_BYTES, port.outputs)
    edge = tile.columns - (len(tile.outliers) - 1) * COLUMNS
    finishing = [
        max(leaving, -(-((COLUMNS << bits) + outliers) // array.spu_macs))
        for outliers in tile.outliers[:-1]
    ]
    finishing.append(max(leaving, -(-((edge << bits) + tile.outliers[-1]) // array.spu_macs)))
    rounds = -(-tile.rows // split)
    if not array.shadow:
        return max(
            rounds * sum(adding + each for each in finishing[first::abreast])
            for first in range(at_once)
        )
    return max(
        adding
        + rounds * sum(max(adding, each) for each in finishing[first::abreast])
        + min(0, finishing[first::abreast][-1] - adding)
        for first in range(at_once)
    )


def _tensor_core(array: TensorCore, port: PerBuffer, element: int, tile: Tile) -> int:
    blocks = -(-tile.rows // array.rows) * -(-tile.columns // array.columns)
    units = min(array.units, blocks)
    stall = max(
        _waits(units * array.rows * array.depth * element, port.activations),
        _waits(units * array.depth * array.columns * element, port.weights),
    )
    leaving = _waits(units * array.rows * array.columns * SUM_BYTES, port.outputs)
    adding = stall * -(-tile.depth // array.depth)
    groups = -(-blocks // array.units)
    return adding + (groups - 1) * max(adding, leaving) + leaving


def _systolic(array: Systolic, port: PerBuffer, element: int, tile: Tile) -> int:
    stall = max(
        _waits(min(array.rows, tile.depth) * element, port.activations),
        _waits(min(array.columns, tile.columns) * SUM_BYTES, port.outputs),
    )
    loading = array.rows * _waits(min(array.columns, tile.columns) * element, port.weights)
    folds = -(-tile.depth // array.rows) * -(-tile.columns // array.columns)
    running = stall * (tile.rows + array.rows + array.columns - 2)
    if array.ahead:
        between = stall * max(tile.rows, -(-loading // stall))
        return loading + (folds - 1) * between + running
    return folds * (loading + running)


def _row_stationary(
    array: RowStationary, port: PerBuffer, element: int, tile: Tile, split: int
) -> int:
    parts = array.rows // split
    depth, width = min(array.depth, tile.depth), min(array.width, tile.columns)
    high = min(split, -(-tile.depth // depth))
    wide = min(parts, -(-tile.columns // width))
    abreast = min(array.columns, tile.rows)
    loading = _waits(high * wide * depth * width * element, port.weights)
    reading = _waits(abreast * high * depth * element, port.activations)
    leaving = _waits(abreast * wide * width * SUM_BYTES, port.outputs)
    adding = depth * width + high - 1
    rounds = -(-tile.rows // array.columns)
    passes = -(-tile.depth // (split * depth)) * -(-tile.columns // (parts * width))
    if rounds == 1:
        return passes * (loading + reading + adding + leaving)
    return passes * (
        loading
        + reading
        + max(reading, adding)
        + (rounds - 2) * max(reading, adding, leaving)
        + max(adding, leaving)
        + leaving
    )
