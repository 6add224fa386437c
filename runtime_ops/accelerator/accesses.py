"""What an array reads from and writes to its buffers in one step (`arrays` says in which order)."""

from dataclasses import dataclass

from sardonyx.runtime_ops.accelerator.arrays import Tile
from sardonyx.runtime_ops.accelerator.machine import (
    SUM_BYTES,
    Array,
    Gobo,
    Lanes,
    RowStationary,
    Systolic,
    TensorCore,
)
from sardonyx.runtime_ops.accelerator.work import COLUMNS, OUTLIER_BYTES, Product


@dataclass(frozen=True)
class Accesses:
    """Bytes read and written of each buffer."""

    activations: int
    weights: int
    outputs: int


def accesses(array: Array, product: Product, tile: Tile, split: int) -> Accesses:
    """Bytes of one step; what several PEs take at once is read once."""
    rows, depth, columns = tile.rows, tile.depth, tile.columns
    element = product.activation_bytes
    inputs, weights, sums = rows * depth * element, depth * columns * element, rows * columns
    match array:
        case Gobo(tiles=tiles):
            return _gobo(tiles // split, product, tile, split)
        case TensorCore(rows=high, columns=wide):
            return Accesses(
                inputs * -(-columns // wide), weights * -(-rows // high), sums * SUM_BYTES
            )
        case Systolic(rows=high, columns=wide):
            again = -(-depth // high)
            return Accesses(inputs * -(-columns // wide), weights, _summed(sums, again))
        case RowStationary() as pes:
            across = pes.width * (pes.rows // split)
            again = -(-depth // (pes.depth * split))
            return Accesses(inputs * -(-columns // across), weights, _summed(sums, again))
        case Lanes(lanes):
            return Accesses(inputs * -(-columns // lanes), rows * weights, sums * SUM_BYTES)


def _summed(sums: int, parts: int) -> int:
    """Sums of several parts of K are written for each and read for each but the first."""
    return sums * SUM_BYTES * (2 * parts - 1)


def _gobo(abreast: int, product: Product, tile: Tile, split: int) -> Accesses:
    """Activations: for each block that a tile takes in turn, and for each outlier once more.
    Indices: for all the rows that groups of tiles take at once."""
    blocks = len(tile.outliers)
    outliers = tile.rows * sum(tile.outliers)
    indices = tile.depth * blocks * COLUMNS * product.bits // 8
    return Accesses(
        SUM_BYTES * (tile.rows * tile.depth * -(-blocks // abreast) + outliers),
        indices * -(-tile.rows // split) + OUTLIER_BYTES * outliers,
        SUM_BYTES * tile.rows * tile.columns,
    )
