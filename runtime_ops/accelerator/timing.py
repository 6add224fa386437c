"""Cycles of a product on a machine, in closed form; `stepper` is the same machine, ticking.

**Tiles.** A product ``count`` x (A [m, k] by W [k, n]) is cut by a `Tiling` into *steps*. A step
multiplies a tile of A [rows, depth] by a tile of W [depth, columns] into a tile of the result. The
last tile along an axis is what is left. Steps follow each other in the order of ``outer``, and all
of K before the next tile of the result, which meanwhile stays in the output buffer.

**Buffers.** Each of the three buffers has two halves. While the array works on step s between one
set of halves, the other set takes in the operands of step s + 1 and lets out the result of step
s - 1. When both sides are done, and not before, the halves swap. So a product takes

    fill     in(0)
    steps    sum over s of max(compute(s), in(s + 1) + out(s - 1))
    drain    out(last)

in(s) holds the tiles that step s - 1 did not have; out(s) is empty but for the last of K. The
first tile of W, if it is a weight, depends on nothing: it is loaded during the last step of the
layer before (``ahead`` bursts), and is then no part of the fill.

**Moving.** What is moved between two swaps, ``in`` and ``out`` together, takes as long as the
slowest of three that work side by side:

    DRAM     latency + bursts * burst / rate, rounded up, and 0 without bursts
    port     bytes of operands and results that stay on the chip / port of the activation buffer
    decoder  weights / its rate, for codebooks on a chip that decodes them on the way in

A is read in place where it stays on the chip; W and results are moved between buffers. Rows of
activations are runs of whole bursts, of their own unless the tile has whole rows; the weights of a
tile lie together. Where ``arrays`` says what ``compute(s)`` is, a product of several matrices
(``count``) is so many products in a row.

Equations hold for steps of equal neighbours, of which an axis has at most four kinds: its first,
its last, the one before, and the others. Column tiles with outliers differ and are added one by
one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product as cartesian

from sardonyx.runtime_ops.accelerator.arrays import Tile, compute_cycles, spu_cycles
from sardonyx.runtime_ops.accelerator.machine import Gobo, Kept, Machine, Tiling
from sardonyx.runtime_ops.accelerator.work import Product

Place = tuple[int, int, int, int]
"""Number of a step along each axis: the matrix of the batch, rows, columns, depth."""


@dataclass(frozen=True)
class Traffic:
    """What is moved between two swaps: DRAM bursts of inputs, weights and results, bytes through
    the port of the activation buffer, weights through the decoder."""

    inputs: int = 0
    weights: int = 0
    results: int = 0
    port_bytes: int = 0
    decoded: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.inputs + other.inputs,
            self.weights + other.weights,
            self.results + other.results,
            self.port_bytes + other.port_bytes,
            self.decoded + other.decoded,
        )

    def __mul__(self, times: int) -> "Traffic":
        return Traffic(
            self.inputs * times,
            self.weights * times,
            self.results * times,
            self.port_bytes * times,
            self.decoded * times,
        )

    @property
    def bursts(self) -> int:
        return self.inputs + self.weights + self.results

    def dram_cycles(self, machine: Machine) -> int:
        """How long DRAM takes."""
        memory = machine.memory
        if not self.bursts:
            return 0
        nbytes, rate = self.bursts * memory.burst, memory.rate
        return memory.latency - (-nbytes * rate.denominator // rate.numerator)

    def cycles(self, machine: Machine) -> int:
        """How long it takes, as the module says."""
        port = -(-self.port_bytes // machine.port.activations)
        decoder = -(-self.decoded // (machine.decoder or 1))
        return max(self.dram_cycles(machine), port, decoder)


@dataclass(frozen=True)
class Phase:
    """Between two swaps: cycles of the array and of what is moved meanwhile.

    traffic: of the layer itself; dram: cycles of DRAM, with what is loaded ahead; spu: those of
    ``compute`` that the work of the SPUs takes, shared by all of them.
    """

    compute: int
    memory: int
    traffic: Traffic
    dram: int
    spu: int

    @property
    def cycles(self) -> int:
        return max(self.compute, self.memory)


def phase(
    machine: Machine, moved: Traffic, ahead: Traffic, compute: int = 0, spu: int = 0
) -> Phase:
    """What happens between two swaps."""
    everything = moved + ahead
    return Phase(
        compute,
        everything.cycles(machine),
        moved,
        everything.dram_cycles(machine),
        spu,
    )


@dataclass(frozen=True)
class Plan:
    """A product on a machine, cut and placed. Equations are its methods."""

    machine: Machine
    product: Product
    tiling: Tiling
    kept: Kept

    def first_weights(self) -> Traffic:
        """The first tile of W and its tables, which a layer before may load if W is a weight."""
        tables = self._bursts(1, self.product.table_bytes, True)
        return self._weights((0, 0, 0, 0)) + Traffic(weights=tables)

    def phases(
        self, ready: bool, ahead: Traffic, every: bool = False
    ) -> Iterator[tuple[int, Phase]]:
        """How many times each phase occurs, in order: fill, kinds of steps (or every step), drain.

        ready: the first weights were loaded ahead. ahead: what the last step loads for the next
        layer.
        """
        start = self._inputs((0, 0, 0, 0))
        if not (ready and self.product.constant):
            start += self.first_weights()
        machine, none = self.machine, Traffic()
        yield 1, phase(machine, start, none)
        for times, place in self._places(every):
            following, before = self._next(place), self._previous(place)
            moved = none if following is None else self._changed(place, following)
            if before is not None:
                moved += self._result(before)
            during = ahead if following is None else none
            yield times, phase(machine, moved, during, *self._compute(place))
        yield 1, phase(machine, self._result(self._last), none)

    def tiles(self) -> Iterator[tuple[int, Tile]]:
        """How many times the array works on each kind of tile."""
        for times, place in self._places(every=False):
            yield times, self._tile(place)

    # places

    @cached_property
    def extents(self) -> Place:
        """How many tiles along each axis."""
        product, tiling = self.product, self.tiling
        return (
            product.count,
            -(-product.m // tiling.rows),
            -(-product.n // tiling.columns),
            -(-product.k // tiling.depth),
        )

    @cached_property
    def _order(self) -> tuple[int, ...]:
        """Axes, the slowest first."""
        return (0, 2, 1, 3) if self.tiling.outer == "columns" else (0, 1, 2, 3)

    @cached_property
    def _last(self) -> Place:
        a, b, c, d = self.extents
        return a - 1, b - 1, c - 1, d - 1

    def _places(self, every: bool) -> Iterator[tuple[int, Place]]:
        """Steps in order with how many like it there are (or every one)."""
        kinds = [
            _kinds(extent, every or (axis == 2 and bool(self.product.outliers)))
            for axis, extent in enumerate(self.extents)
        ]
        for chosen in cartesian(*(kinds[axis] for axis in self._order)):
            times = 1
            place = [0, 0, 0, 0]
            for axis, (number, alike) in zip(self._order, chosen, strict=True):
                place[axis] = number
                times *= alike
            yield times, (place[0], place[1], place[2], place[3])

    def _next(self, place: Place) -> Place | None:
        found = list(place)
        for axis in reversed(self._order):
            if found[axis] + 1 < self.extents[axis]:
                found[axis] += 1
                return found[0], found[1], found[2], found[3]
            found[axis] = 0
        return None

    def _previous(self, place: Place) -> Place | None:
        found = list(place)
        for axis in reversed(self._order):
            if found[axis]:
                found[axis] -= 1
                return found[0], found[1], found[2], found[3]
            found[axis] = self.extents[axis] - 1
        return None

    # work and traffic of a step

    def _sizes(self, place: Place) -> tuple[int, int, int]:
        """Rows, columns and depth of a step."""
        product, tiling = self.product, self.tiling
        return (
            min(tiling.rows, product.m - place[1] * tiling.rows),
            min(tiling.columns, product.n - place[2] * tiling.columns),
            min(tiling.depth, product.k - place[3] * tiling.depth),
        )

    def _tile(self, place: Place) -> Tile:
        rows, columns, depth = self._sizes(place)
        blocks = self.product.blocks(place[2] * self.tiling.columns, columns)
        return Tile(rows, depth, columns, blocks)

    def _compute(self, place: Place) -> tuple[int, int]:
        """Cycles of the array, and those of its SPUs."""
        machine, tile, split = self.machine, self._tile(place), self.tiling.split
        compute = compute_cycles(machine, self.product, tile, split)
        if not isinstance(machine.array, Gobo):
            return compute, 0
        return compute, spu_cycles(machine.array, self.product.bits, tile)

    def _changed(self, old: Place, new: Place) -> Traffic:
        """Operands of a step that the step before did not have."""
        traffic = Traffic()
        if (old[0], old[1], old[3]) != (new[0], new[1], new[3]):
            traffic += self._inputs(new)
        if (old[0], old[2], old[3]) != (new[0], new[2], new[3]):
            traffic += self._weights(new)
        return traffic

    def _inputs(self, place: Place) -> Traffic:
        if self.kept.inputs:
            return Traffic()
        rows, _, depth = self._sizes(place)
        width = self.product.activation_bytes
        return Traffic(inputs=self._bursts(rows, depth * width, depth == self.product.k))

    def _weights(self, place: Place) -> Traffic:
        product = self.product
        _, columns, depth = self._sizes(place)
        bits = weight_bits(self.machine, product)
        if not product.constant:
            nbytes = depth * columns * product.activation_bytes
            if self.kept.weights:
                return Traffic(port_bytes=nbytes)
            row = columns * product.activation_bytes
            return Traffic(weights=self._bursts(depth, row, columns == product.n))
        if bits is not None:
            return Traffic(weights=self._bursts(1, -(-depth * columns * bits // 8), True))
        blocks = product.blocks(place[2] * self.tiling.columns, columns)
        return Traffic(
            weights=self._bursts(1, product.container_bytes(depth, blocks), True),
            decoded=depth * columns if self.machine.decoder else 0,
        )

    def _result(self, place: Place) -> Traffic:
        if place[3] != self._last[3]:
            return Traffic()
        rows, columns, _ = self._sizes(place)
        row = columns * self.product.output_bytes
        if self.kept.outputs:
            return Traffic(port_bytes=rows * row)
        return Traffic(results=self._bursts(rows, row, columns == self.product.n))

    def _bursts(self, rows: int, row_bytes: int, together: bool) -> int:
        """Bursts of some rows, which lie together or apart."""
        burst = self.machine.memory.burst
        return -(-rows * row_bytes // burst) if together else rows * -(-row_bytes // burst)


def weight_bits(machine: Machine, product: Product) -> int | None:
    """Bits of a weight in DRAM, None of a codebook that travels as indices and outliers."""
    if product.format != "codebook":
        return product.bits
    return None if machine.decoder or isinstance(machine.array, Gobo) else 32


def _kinds(extent: int, every: bool) -> list[tuple[int, int]]:
    """Numbers along an axis, each with how many are like it."""
    if every or extent <= 4:
        return [(number, 1) for number in range(extent)]
    return [(0, 1), (1, extent - 3), (extent - 2, 1), (extent - 1, 1)]
