"""The arrays of `arrays`, ticking: each is started on a step and counts down in all its parts."""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from sardonyx.runtime_ops.accelerator.machine import (
    Gobo,
    Lanes,
    Machine,
    PerBuffer,
    RowStationary,
    Systolic,
    TensorCore,
)
from sardonyx.runtime_ops.accelerator.systolic_stepper import Request, SystolicGrid
from sardonyx.runtime_ops.accelerator.work import Product


class Ticking(Protocol):
    """An array that is started on a step and ticks until it is not busy."""

    @property
    def busy(self) -> bool:
        """Whether something of the step is left to do."""
        ...

    def start(
        self,
        product: Product,
        rows: int,
        depth: int,
        columns: int,
        outliers: list[int],
        split: int,
    ) -> None:
        """Take on a step; ``outliers`` of each 16 columns."""
        ...

    def tick(self) -> None:
        """One cycle."""
        ...


def ticking(machine: Machine) -> Ticking:
    """The array of a machine."""
    match machine.array:
        case Gobo() as gobo:
            return GoboTiles(gobo, machine.port)
        case TensorCore() as cores:
            return Units(cores, machine.port)
        case Systolic() as systolic:
            return SystolicGrid(systolic, machine.port)
        case RowStationary() as pes:
            return Passes(pes, machine.port)
        case Lanes() as lanes:
            return VectorLanes(lanes, machine.port)


@dataclass(frozen=True)
class Round:
    """A row of A by a block of columns: what a tile has to add and to multiply."""

    adds: int
    macs: int


class GoboTile:
    """Sixteen PEs in step, and their SPU. ``asks``: bytes a request at each port, in which the
    tiles at work share."""

    def __init__(self, array: Gobo, port: PerBuffer, asks: PerBuffer, rounds: deque[Round]) -> None:
        self.array, self.asks, self.rounds = array, asks, rounds
        self.inputs = Request(port.activations), Request(port.weights)
        self.output = Request(port.outputs)
        self.adds_left: int | None = None
        self.macs_left = 0

    @property
    def spu_busy(self) -> bool:
        return self.macs_left > 0 or self.output.left > 0

    @property
    def busy(self) -> bool:
        return bool(self.rounds) or self.spu_busy

    def tick(self) -> None:
        waits_for_spu = self.spu_busy and not self.array.shadow
        self.macs_left = max(0, self.macs_left - self.array.spu_macs)
        self.output.tick()
        if self.rounds and not waits_for_spu:
            self._add()

    def _add(self) -> None:
        """One activation for all PEs; after the last of a round, its sums go to the SPU."""
        if self.adds_left is None:
            self.adds_left = self.rounds[0].adds
            self._ask()
        for request in self.inputs:
            request.tick()
        if self.adds_left and not any(request.left for request in self.inputs):
            self.adds_left -= 1
            self._ask()
        if not self.adds_left and not self.spu_busy:
            self.macs_left = self.rounds.popleft().macs
            self.output.left = self.asks.outputs
            self.adds_left = None

    def _ask(self) -> None:
        self.inputs[0].left, self.inputs[1].left = self.asks.activations, self.asks.weights


class GoboTiles:
    """All tiles of a GOBO chip."""

    def __init__(self, array: Gobo, port: PerBuffer) -> None:
        self.array, self.port = array, port
        self.tiles: list[GoboTile] = []

    @property
    def busy(self) -> bool:
        return any(tile.busy for tile in self.tiles)

    def start(
        self,
        product: Product,
        rows: int,
        depth: int,
        columns: int,
        outliers: list[int],
        split: int,
    ) -> None:
        abreast = self.array.tiles // split
        rounds: dict[tuple[int, int], deque[Round]] = {}
        for block, extra in enumerate(outliers):
            used = len(range(16 * block, columns)[:16])
            for row in range(rows):
                queue = rounds.setdefault((row % split, block % abreast), deque())
                queue.append(Round(depth, sum(2**product.bits for _ in range(used)) + extra))
        rows_at_once = len({row for row, _ in rounds})
        blocks_at_once = len({block for _, block in rounds})
        asks = PerBuffer(
            4 * rows_at_once,
            len(range(0, blocks_at_once * 16 * product.bits, 8)),
            4 * 16 * rows_at_once * blocks_at_once,
        )
        self.tiles = [GoboTile(self.array, self.port, asks, queue) for queue in rounds.values()]

    def tick(self) -> None:
        for tile in self.tiles:
            tile.tick()


class Units:
    """Dot-product units in step: a group of blocks is added up while the one before leaves."""

    def __init__(self, array: TensorCore, port: PerBuffer) -> None:
        self.array = array
        self.inputs = Request(port.activations), Request(port.weights)
        self.output = Request(port.outputs)
        self.groups: deque[list[int]] = deque()

    @property
    def busy(self) -> bool:
        return bool(self.groups) or self.output.left > 0

    def start(
        self,
        product: Product,
        rows: int,
        depth: int,
        columns: int,
        outliers: list[int],
        split: int,
    ) -> None:
        array = self.array
        blocks = [
            (row, column)
            for row in range(0, rows, array.rows)
            for column in range(0, columns, array.columns)
        ]
        self.at_once = len(blocks[: array.units])
        self.element = _element(product)
        slices = len(range(0, depth, array.depth))
        self.groups = deque([slices] for _ in blocks[:: array.units])
        self._ask()

    def tick(self) -> None:
        self.output.tick()
        if not self.groups:
            return
        for request in self.inputs:
            request.tick()
        current = self.groups[0]
        if current[0] and not any(request.left for request in self.inputs):
            current[0] -= 1
            self._ask()
        if not current[0] and not self.output.left:
            self.groups.popleft()
            self.output.left = 4 * self.at_once * self.array.rows * self.array.columns

    def _ask(self) -> None:
        array = self.array
        self.inputs[0].left = self.at_once * array.rows * array.depth * self.element
        self.inputs[1].left = self.at_once * array.depth * array.columns * self.element


class Passes:
    """Row-stationary PEs: weights are loaded, then rows of A pass three stages in step."""

    def __init__(self, array: RowStationary, port: PerBuffer) -> None:
        self.array = array
        self.loading = Request(port.weights)
        self.reading = Request(port.activations)
        self.leaving = Request(port.outputs)
        self.adding = 0
        self.stages: deque[tuple[bool, bool, bool]] = deque()
        self.passes = 0

    @property
    def busy(self) -> bool:
        return self.passes > 0

    def start(
        self,
        product: Product,
        rows: int,
        depth: int,
        columns: int,
        outliers: list[int],
        split: int,
    ) -> None:
        array = self.array
        deep, wide = min(array.depth, depth), min(array.width, columns)
        parts = array.rows // split
        high = len(range(0, depth, deep)[:split])
        across = len(range(0, columns, wide)[:parts])
        abreast = len(range(rows)[: array.columns])
        self.weights = high * across * deep * wide * _element(product)
        self.inputs = abreast * high * deep * _element(product)
        self.sums = abreast * across * wide * 4
        self.work = sum(wide for _ in range(deep)) + len(range(1, high))
        self.rounds = len(range(0, rows, array.columns))
        self.passes = sum(
            1 for _ in range(0, depth, split * deep) for _ in range(0, columns, parts * wide)
        )
        self._begin()

    def tick(self) -> None:
        if self.loading.left:
            self.loading.tick()
            return
        self.reading.tick()
        self.leaving.tick()
        self.adding = max(0, self.adding - 1)
        if not (self.reading.left or self.adding or self.leaving.left):
            self._change_places()

    def _begin(self) -> None:
        """A pass: in slot i, row i is read, row i - 1 used, and row i - 2 leaves."""
        self.loading.left = self.weights
        rows = range(self.rounds)
        self.stages = deque(
            (slot in rows, slot - 1 in rows, slot - 2 in rows) for slot in range(len(rows) + 2)
        )
        self._change_places()

    def _change_places(self) -> None:
        if self.stages:
            reads, adds, leaves = self.stages.popleft()
            self.reading.left = self.inputs * reads
            self.adding = self.work * adds
            self.leaving.left = self.sums * leaves
            return
        self.passes -= 1
        if self.passes:
            self._begin()


class VectorLanes:
    """A row of A by ``lanes`` columns of W, one of K a cycle."""

    def __init__(self, array: Lanes, port: PerBuffer) -> None:
        self.array = array
        self.inputs = Request(port.activations), Request(port.weights)
        self.left = 0

    @property
    def busy(self) -> bool:
        return self.left > 0

    def start(
        self,
        product: Product,
        rows: int,
        depth: int,
        columns: int,
        outliers: list[int],
        split: int,
    ) -> None:
        self.left = sum(depth for _ in range(rows) for _ in range(0, columns, self.array.lanes))
        self.element = _element(product)
        self._ask()

    def tick(self) -> None:
        for request in self.inputs:
            request.tick()
        if not any(request.left for request in self.inputs):
            self.left -= 1
            self._ask()

    def _ask(self) -> None:
        self.inputs[0].left = self.element
        self.inputs[1].left = self.array.lanes * self.element


def _element(product: Product) -> int:
    """Bytes of an operand in a buffer: what is decoded is FP32."""
    return {"int8": 1, "int16": 2}.get(product.format, 4)
