"""A systolic array, ticking: numbers move from PE to PE, and the sums that leave are kept."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from sardonyx.runtime_ops.accelerator.machine import PerBuffer, Systolic
from sardonyx.runtime_ops.accelerator.work import Product

Tag = tuple[int, int]
"""Of an activation: the number of its fold and its row of A."""


@dataclass
class Request:
    """Bytes that a port has yet to move."""

    port: int
    left: int = 0

    def tick(self) -> None:
        self.left = max(0, self.left - self.port)


@dataclass(frozen=True)
class Fold:
    """The part of K and of N whose weights fill the array at once."""

    depth: range
    columns: range


class SystolicGrid:
    """PE (r, c) holds a weight of the fold that the activation beside it belongs to.

    Every step multiplies ``inputs`` by ``weights``, small numbers that are made up, and gathers
    ``result``: what the array computes shows that its cycles are those of a machine that works.
    """

    def __init__(self, array: Systolic, port: PerBuffer) -> None:
        self.array = array
        self.reading = Request(port.activations), Request(port.outputs)
        self.loading = Request(port.weights)
        self.folds: list[Fold] = []
        self.finished = 0

    @property
    def busy(self) -> bool:
        return self.finished < len(self.folds)

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
        numbers = np.random.default_rng(rows)
        self.inputs = numbers.integers(-9, 10, (rows, depth))
        self.weights = numbers.integers(-9, 10, (depth, columns))
        self.result = np.zeros((rows, columns), np.int64)
        self.folds = [
            Fold(range(k, min(k + array.rows, depth)), range(n, min(n + array.columns, columns)))
            for n in range(0, columns, array.columns)
            for k in range(0, depth, array.rows)
        ]
        element = {"int8": 1, "int16": 2}.get(product.format, 4)
        widest = min(array.columns, columns)
        self.asks = (min(array.rows, depth) * element, widest * 4)
        self.row_bytes = widest * element
        self.loaded = self.started = self.finished = 0
        self.rows_to_load = array.rows
        self.loading.left = self.row_bytes
        self.entering: deque[Tag] = deque()
        self.entered: deque[Tag | None] = deque([None] * array.rows, array.rows)
        self.moving = False
        self.tags: list[list[Tag | None]] = [[None] * array.columns for _ in range(array.rows)]
        self.sums = np.zeros((array.rows, array.columns), np.int64)

    def tick(self) -> None:
        if not self.moving:
            self._begin_move()
        self._load()
        for request in self.reading:
            request.tick()
        if self.moving and not any(request.left for request in self.reading):
            self._move()
            self.moving = False

    def _begin_move(self) -> None:
        """A fold whose weights are there follows the last row of the one before."""
        if not self.entering and self.loaded > self.started:
            self.entering = deque((self.started, row) for row in range(len(self.inputs)))
            self.started += 1
        if self.started > self.finished or (self.array.ahead and self.started):
            self.moving = True
            for request, nbytes in zip(self.reading, self.asks, strict=True):
                request.left = nbytes

    def _load(self) -> None:
        """Shift in weights: of the next fold, or only of an idle array."""
        free = self.loaded <= (self.started if self.array.ahead else self.finished)
        if self.loaded == len(self.folds) or not free:
            return
        self.loading.tick()
        if not self.loading.left:
            self.rows_to_load -= 1
            self.loading.left = self.row_bytes
        if not self.rows_to_load:
            self.loaded += 1
            self.rows_to_load = self.array.rows

    def _move(self) -> None:
        """Everything one PE further; row r of the array takes what entered r moves ago."""
        self.entered.appendleft(self.entering.popleft() if self.entering else None)
        self.tags = [
            [entered, *row[:-1]] for entered, row in zip(self.entered, self.tags, strict=True)
        ]
        self.sums = np.roll(self.sums, 1, axis=0)
        self.sums[0] = 0
        for r, row in enumerate(self.tags):
            for c, tag in enumerate(row):
                if tag is not None:
                    self.sums[r, c] += self._multiply(tag, r, c)
        for c, tag in enumerate(self.tags[-1]):
            if tag is not None:
                self._leave(tag, c)

    def _multiply(self, tag: Tag, r: int, c: int) -> int:
        """What PE (r, c) adds; 0 beyond the edges of the product."""
        fold, row = self.folds[tag[0]], tag[1]
        k, n = fold.depth.start + r, fold.columns.start + c
        if k >= fold.depth.stop or n >= fold.columns.stop:
            return 0
        return int(self.inputs[row, k] * self.weights[k, n])

    def _leave(self, tag: Tag, c: int) -> None:
        """A sum drops out of column c."""
        columns = self.folds[tag[0]].columns
        if columns.start + c < columns.stop:
            self.result[tag[1], columns.start + c] += self.sums[-1, c]
        if tag[1] == len(self.inputs) - 1 and c == self.array.columns - 1:
            self.finished += 1
