"""What a chip must compute: a list of layers, one a node of the graph.

A chip is data and so is its work; timing, energy and trace are functions of the two.
"""

from dataclasses import dataclass
from typing import Literal

Format = Literal["float32", "codebook", "int8", "int16"]
Kind = Literal["arithmetic", "special", "lookup", "move"]

COLUMNS = 16
_CELLS = COLUMNS * COLUMNS
OUTLIER_BYTES = 5
_ACTIVATION_BYTES: dict[Format, int] = {"float32": 4, "codebook": 4, "int8": 1, "int16": 2}


@dataclass(frozen=True)
class Product:
    """``count`` times A [m, k] by W [k, n], as a batch of one MatMul.

    constant: W is a weight, read from DRAM; otherwise an activation (attention scores, context).
    format: of a stored element of W, which has ``bits`` bits; activations are float32 beside float
    and codebook weights, and integers of the weight's format beside the others.
    outliers: of each block of 16 columns of W, for a codebook; ``ceil(n / 16)`` of them, or none.
    table_bytes: centroids, scales: what is stored once for all of W.
    output_bytes: of one element of the result; 4 for sums in float32 and int32.
    """

    m: int
    k: int
    n: int
    constant: bool
    format: Format
    bits: int
    count: int = 1
    outliers: tuple[int, ...] = ()
    table_bytes: int = 0
    output_bytes: int = 4

    @property
    def macs(self) -> int:
        """Multiply-accumulates, were all weights multiplied."""
        return self.count * self.m * self.k * self.n

    @property
    def activation_bytes(self) -> int:
        """Bytes of one element of A."""
        return _ACTIVATION_BYTES[self.format]

    def blocks(self, first: int, columns: int) -> tuple[int, ...]:
        """Outliers of the blocks of 16 that ``columns`` columns from ``first`` on are cut in; those
        of a block that lies across two of W are taken to be spread evenly in these."""
        starts = range(first, first + columns, COLUMNS)
        if not self.outliers:
            return (0,) * len(starts)
        if first % COLUMNS == 0 and (columns % COLUMNS == 0 or first + columns >= self.n):
            return self.outliers[first // COLUMNS :][: len(starts)]
        ends = [*starts[1:], first + columns]
        return tuple(self._before(b) - self._before(a) for a, b in zip(starts, ends, strict=True))

    def _before(self, column: int) -> int:
        """Outliers of all columns before one."""
        if column >= self.n:
            return sum(self.outliers)
        block, part = divmod(column, COLUMNS)
        return sum(self.outliers[:block]) + self.outliers[block] * part // COLUMNS

    def container_bytes(self, depth: int, blocks: tuple[int, ...]) -> int:
        """Bytes in DRAM of ``depth`` rows of column blocks with these outliers in all of K.

        A codebook is stored in sub-matrices of 16 x 16 with padded edges, each tile of W in its
        own, as tiles are known when a model is loaded: a count (1 byte), the indices, the outliers
        (place and FP32 value: 5 bytes). A second count byte, of sub-matrices with more than 254
        outliers, is not counted. Of part of K, outliers are taken to be spread evenly.
        """
        indices = 1 + _CELLS * self.bits // 8
        outliers = -(-sum(blocks) * depth // self.k)
        return len(blocks) * -(-depth // COLUMNS) * indices + OUTLIER_BYTES * outliers


@dataclass(frozen=True)
class Vector:
    """Everything that is no product: softmax, norms, additions, lookups, data movement.

    operations: on single elements, so 0 for a pure move. bytes_in, bytes_out: activations.
    stored_bytes: constants it reads, as they are stored (rows of a table, say); decoded_bytes:
    the same as float32.
    """

    operations: int
    bytes_in: int
    bytes_out: int
    kind: Kind
    stored_bytes: int = 0
    decoded_bytes: int = 0


@dataclass(frozen=True)
class Value:
    """An activation that a layer writes and others read: its name in the graph, its bytes."""

    name: str
    nbytes: int


@dataclass(frozen=True)
class Layer:
    """One node: its work, where it is meant to run, and which activations it reads and writes.

    on: "array" asks for the array of processing elements (a chip whose array cannot do the product
    gives it to its vector unit), "host" is outside the chip: its activations cross the DRAM.
    reads, writes: its activations, which may then stay on the chip; of a product first A, then W
    if that is an activation too. What a layer does not name comes from DRAM and goes there, and so
    does what nobody reads.
    """

    node: str
    op: str
    shape: str
    work: Product | Vector
    on: Literal["array", "vector", "host"]
    reads: tuple[Value, ...] = ()
    writes: tuple[Value, ...] = ()
