"""Packed index layout of the GOBO ops: exactly ``bits`` bits a weight, in planes of bytes.

The layout of a weight matrix W [K, N] is uint8 ``[N/16, K/32, bits, 16, 4]`` (N and K rounded up;
padding holds index 0): panels of 16 columns, blocks of 32 rows, then ``bits`` planes, of which
each holds 4 bytes for each of the 16 columns. The bytes at one ``[panel, block, :, lane, t]``,
one of each plane, hold the 8 indices of column ``n = 16 panel + lane`` whose rows are

    k = j * (K/members) + q * words + s        with q = 4 block + t,
                                               j < members, s < words, members * words = 8.

The ``members`` indices that share (q, s) form one *word* of ``members * bits`` bits, index j at
bit ``j * bits``. A word is cut, from its high end, into 8 bits, which are byte s of the first
``words`` planes, and the rest, which is cut again into fields of 4 and then 2 bits: the fields of
all words, one width after the other, fill the remaining planes, word 0 in the lowest bits.

    bits                     2  3  4  5  6  7  8
    members                  4  4  2  2  2  2  1
    words                    2  2  4  4  4  4  8
    bits a word              8 12  8 10 12 14  8

Rows of a word are far apart in k, so that one table lookup a word (``2^(members bits)`` entries of
``members`` values) yields ``members`` blocks of consecutive rows: standard ops decode the matrix
without ever spreading it into single indices, and a kernel finds the index of 16 columns in 16
32-bit lanes by one shift.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LANES = 16
ROWS = 32

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Field:
    """Part of a word: ``width`` bits from bit ``shift``, in ``planes`` planes from ``plane``."""

    shift: int
    width: int
    plane: int
    planes: int


@dataclass(frozen=True)
class Layout:
    """Where the indices of one bit width lie in the planes (the table of the module)."""

    bits: int
    members: int
    words: int

    @property
    def fields(self) -> list[Field]:
        """The cuts of a word, high end first; their planes add up to ``bits``."""
        found: list[Field] = []
        left, plane = self.members * self.bits, 0
        for width in (8, 4, 2):
            if left >= width:
                left -= width
                planes = self.words * width // 8
                found.append(Field(left, width, plane, planes))
                plane += planes
        return found

    def shape(self, rows: int, columns: int) -> tuple[int, int, int, int, int]:
        """Shape of the packed indices of a [rows, columns] matrix."""
        return -(-columns // LANES), -(-rows // ROWS), self.bits, LANES, 4

    def place(self, k: Ints, n: Ints, rows: int) -> Ints:
        """Number of weight (k, n) of a matrix of ``rows`` rows, counted word by word.

        Columns follow each other, each with K rounded up places; within one, words (q, s) do;
        within a word, its members. `weight` is the inverse.
        """
        height = self._height(rows)
        return n * (height * self.members) + k % height * self.members + k // height

    def weight(self, place: Ints, rows: int) -> tuple[Ints, Ints]:
        """Row k and column n of the weight with this `place`."""
        height = self._height(rows)
        n, within = np.divmod(place, height * self.members)
        word, member = np.divmod(within, self.members)
        return member * height + word, n

    def _height(self, rows: int) -> int:
        """Words in a column."""
        return -(-rows // ROWS) * ROWS // self.members

    def nbytes(self, rows: int, columns: int) -> int:
        """Bytes of the packed indices of a [rows, columns] matrix."""
        return int(np.prod(self.shape(rows, columns), dtype=np.int64))


LAYOUTS = {
    bits: Layout(bits, members, 8 // members)
    for bits, members in {2: 4, 3: 4, 4: 2, 5: 2, 6: 2, 7: 2, 8: 1}.items()
}


def pack(indices: Bytes, bits: int) -> Bytes:
    """Packed planes of ``indices`` (uint8 [K, N], below 2^bits, in any memory order)."""
    layout = LAYOUTS[bits]
    rows, columns = indices.shape
    packed = np.empty(layout.shape(rows, columns), np.uint8)
    step = _panels_a_step(rows)
    for panel in range(0, packed.shape[0], step):
        part = packed[panel : panel + step]
        _pack_panels(indices[:, panel * LANES : (panel + step) * LANES], layout, part)
    return packed


def unpack(packed: Bytes, bits: int, rows: int, columns: int) -> Bytes:
    """The inverse of `pack`: uint8 [rows, columns], in column-major (Fortran) order."""
    layout = LAYOUTS[bits]
    indices = np.empty((columns, rows), np.uint8)
    step = _panels_a_step(rows)
    for panel in range(0, packed.shape[0], step):
        part = indices[panel * LANES : (panel + step) * LANES]
        part[:] = _unpack_panels(packed[panel : panel + step], layout)[: part.shape[0], :rows]
    return indices.T


def _panels_a_step(rows: int) -> int:
    """Panels handled at once: about a quarter of a million indices, which stay in the cache."""
    return max(1, (1 << 18) // (LANES * rows))


def _pack_panels(indices: Bytes, layout: Layout, out: Bytes) -> None:
    """Fill ``out`` [panels, K/32, bits, 16, 4] from the columns of those panels."""
    panels, blocks = out.shape[:2]
    padded = np.zeros((panels * LANES, blocks * ROWS), np.uint8)
    padded[: indices.shape[1], : indices.shape[0]] = indices.T
    members = padded.reshape(panels, LANES, layout.members, blocks, 4, layout.words)
    words = np.zeros((panels, LANES, blocks, 4, layout.words), np.uint16)
    for j in range(layout.members):
        words |= members[:, :, j].astype(np.uint16) << np.uint16(j * layout.bits)
    planes = out.transpose(0, 3, 1, 4, 2)
    for field in layout.fields:
        parts = (words >> np.uint16(field.shift)).astype(np.uint8) & np.uint8(
            (1 << field.width) - 1
        )
        a_byte = 8 // field.width
        for i in range(a_byte):
            part = parts[..., i::a_byte] << np.uint8(i * field.width)
            target = planes[..., field.plane : field.plane + field.planes]
            np.copyto(target, part) if i == 0 else np.bitwise_or(target, part, out=target)


def _unpack_panels(packed: Bytes, layout: Layout) -> Bytes:
    """Indices [16 * panels, K rounded up] of packed panels."""
    panels, blocks = packed.shape[:2]
    planes = np.ascontiguousarray(packed.transpose(0, 3, 1, 4, 2))
    words = np.zeros((panels, LANES, blocks, 4, layout.words), np.uint16)
    for field in layout.fields:
        a_byte = 8 // field.width
        for i in range(a_byte):
            part = planes[..., field.plane : field.plane + field.planes] >> np.uint8(
                i * field.width
            )
            part &= np.uint8((1 << field.width) - 1)
            words[..., i::a_byte] |= part.astype(np.uint16) << np.uint16(field.shift)
    out = np.empty((panels, LANES, layout.members, blocks, 4, layout.words), np.uint8)
    for j in range(layout.members):
        out[:, :, j] = (words >> np.uint16(j * layout.bits)).astype(np.uint8) & np.uint8(
            (1 << layout.bits) - 1
        )
    return out.reshape(panels * LANES, blocks * ROWS)
