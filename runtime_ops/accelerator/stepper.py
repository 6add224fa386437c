"""The machine of `timing`, ticking: every cycle, every part that can do something does it.

Slow, for small shapes. It knows no equation: cycles are counted, bytes are added up element by
element, and steps are found by walking the loops. The arrays tick in `array_steppers`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from sardonyx.runtime_ops.accelerator.array_steppers import Ticking, ticking
from sardonyx.runtime_ops.accelerator.machine import Gobo, Kept, Machine, Memory, Tiling
from sardonyx.runtime_ops.accelerator.work import Product


@dataclass(frozen=True)
class Job:
    """A product to do, cut and placed."""

    product: Product
    tiling: Tiling
    kept: Kept

    @cached_property
    def outliers(self) -> list[int]:
        """Outliers of each column of W: those of 16 columns are dealt out evenly, and what falls
        beyond the last column is the last one's."""
        found = [0] * self.product.n
        for block, outliers in enumerate(self.product.outliers):
            due = 0
            for column in range(16 * block, 16 * block + 16):
                due += outliers
                while due >= 16:
                    due -= 16
                    found[min(column, self.product.n - 1)] += 1
        return found


@dataclass(frozen=True)
class Step:
    """Ranges of one tile product: the matrix of the batch, rows, columns, parts of K."""

    job: Job
    matrix: int
    rows: range
    columns: range
    depth: range

    @property
    def inputs(self) -> tuple[int, range, range]:
        return self.matrix, self.rows, self.depth

    @property
    def weights(self) -> tuple[int, range, range]:
        return self.matrix, self.columns, self.depth

    @property
    def outliers(self) -> list[int]:
        """Outliers, in all of K, of each 16 columns of the tile."""
        own = [self.job.outliers[column] for column in self.columns]
        return [sum(own[start : start + 16]) for start in range(0, len(own), 16)]

    @property
    def finishes(self) -> bool:
        """Whether the tile of the result is complete."""
        return self.depth.stop == self.job.product.k


@dataclass
class Dram:
    """A channel: after its latency, bytes arrive at its rate and count burst by burst."""

    memory: Memory
    waiting: int = 0
    latency: int = 0
    arrived: Fraction = Fraction(0)

    def ask(self, bursts: int) -> None:
        self.waiting, self.arrived = bursts, Fraction(0)
        self.latency = self.memory.latency if bursts else 0

    def tick(self) -> None:
        if self.latency:
            self.latency -= 1
            return
        self.arrived += self.memory.rate
        while self.waiting and self.arrived >= self.memory.burst:
            self.arrived -= self.memory.burst
            self.waiting -= 1

    @property
    def busy(self) -> bool:
        return self.waiting > 0


@dataclass
class Mover:
    """What moves or decodes a number of things a cycle."""

    rate: int
    left: int = 0

    def tick(self) -> None:
        self.left = max(0, self.left - self.rate)


@dataclass
class Loads:
    """What is to be moved before the next swap: DRAM bursts, bytes on the chip, weights decoded."""

    bursts: int = 0
    on_chip: int = 0
    decoded: int = 0
    runs: list[int] = field(default_factory=list)

    def close(self, burst: int) -> None:
        """Runs of bytes that lie together in DRAM become bursts."""
        for run in self.runs:
            self.bursts += sum(1 for _ in range(0, run, burst))
        self.runs = []


def step_through(machine: Machine, jobs: Sequence[Job]) -> list[int]:
    """The cycle in which each of some products, done one after the other, has left the chip."""
    simulation = _Simulation(machine)
    return [
        simulation.run(job, jobs[number + 1] if number + 1 < len(jobs) else None)
        for number, job in enumerate(jobs)
    ]


class _Simulation:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.array: Ticking = ticking(machine)
        self.dram = Dram(machine.memory)
        self.port = Mover(machine.port.activations)
        self.decoder = Mover(machine.decoder or 1)
        self.cycle = 0
        self.weights_are_there = False

    def run(self, job: Job, following: Job | None) -> int:
        """Fill, all steps, drain; the last step loads the first weights of ``following``."""
        steps = list(_steps(job))
        loads = Loads()
        self._bring_inputs(steps[0], loads)
        if not self.weights_are_there:
            self._bring_weights(steps[0], loads, first=True)
        self._until_done(None, loads)
        self.weights_are_there = False
        for number, step in enumerate(steps):
            loads = Loads()
            if number:
                self._take_result(steps[number - 1], loads)
            if number + 1 < len(steps):
                coming = steps[number + 1]
                if coming.inputs != step.inputs:
                    self._bring_inputs(coming, loads)
                if coming.weights != step.weights:
                    self._bring_weights(coming, loads)
            elif following is not None and following.product.constant:
                self._bring_weights(next(_steps(following)), loads, first=True)
                self.weights_are_there = True
            self._until_done(step, loads)
        loads = Loads()
        self._take_result(steps[-1], loads)
        self._until_done(None, loads)
        return self.cycle

    def _until_done(self, step: Step | None, loads: Loads) -> None:
        """Tick until both sides are done, then swap the halves of the buffers."""
        loads.close(self.machine.memory.burst)
        self.dram.ask(loads.bursts)
        self.port.left, self.decoder.left = loads.on_chip, loads.decoded
        if step is not None:
            sizes = len(step.rows), len(step.depth), len(step.columns)
            self.array.start(step.job.product, *sizes, step.outliers, step.job.tiling.split)
        while self.array.busy or self.dram.busy or self.port.left or self.decoder.left:
            self.cycle += 1
            if self.array.busy:
                self.array.tick()
            self.dram.tick()
            self.port.tick()
            self.decoder.tick()

    def _bring_inputs(self, step: Step, loads: Loads) -> None:
        if step.job.kept.inputs:
            return
        product = step.job.product
        width = {"int8": 1, "int16": 2}.get(product.format, 4)
        run = [len(step.depth) * width for _ in step.rows]
        loads.runs += [sum(run)] if len(step.depth) == product.k else run

    def _bring_weights(self, step: Step, loads: Loads, first: bool = False) -> None:
        product = step.job.product
        if first:
            loads.runs.append(product.table_bytes)
        if not product.constant:
            width = {"int8": 1, "int16": 2}.get(product.format, 4)
            run = [len(step.columns) * width for _ in step.depth]
            if step.job.kept.weights:
                loads.on_chip += sum(run)
            else:
                loads.runs += [sum(run)] if len(step.columns) == product.n else run
            return
        decodes = self.machine.decoder is not None and product.format == "codebook"
        if decodes:
            loads.decoded += len(step.columns) * len(step.depth)
        as_codebook = product.format == "codebook" and isinstance(self.machine.array, Gobo)
        loads.runs.append(_codebook_bytes(step) if as_codebook or decodes else _plain_bytes(step))

    def _take_result(self, step: Step, loads: Loads) -> None:
        if not step.finishes:
            return
        run = [len(step.columns) * step.job.product.output_bytes for _ in step.rows]
        if step.job.kept.outputs:
            loads.on_chip += sum(run)
        else:
            loads.runs += [sum(run)] if len(step.columns) == step.job.product.n else run


def _steps(job: Job) -> Iterator[Step]:
    """The loops over tiles."""
    product, tiling = job.product, job.tiling
    for matrix in range(product.count):
        if tiling.outer == "columns":
            pairs = [
                (rows, columns)
                for columns in _tiles(product.n, tiling.columns)
                for rows in _tiles(product.m, tiling.rows)
            ]
        else:
            pairs = [
                (rows, columns)
                for rows in _tiles(product.m, tiling.rows)
                for columns in _tiles(product.n, tiling.columns)
            ]
        for rows, columns in pairs:
            for depth in _tiles(product.k, tiling.depth):
                yield Step(job, matrix, rows, columns, depth)


def _tiles(extent: int, size: int) -> list[range]:
    return [range(start, min(start + size, extent)) for start in range(0, extent, size)]


def _plain_bytes(step: Step) -> int:
    """Weights of a tile, bit by bit one after the other."""
    product = step.job.product
    each = 32 if product.format == "codebook" else product.bits
    bits = sum(each for _ in step.columns for _ in step.depth)
    return len(range(0, bits, 8))


def _codebook_bytes(step: Step) -> int:
    """Sub-matrices of 16 x 16 of a tile: a count, 256 indices; outliers, spread evenly along K."""
    product = step.job.product
    total = 0
    for _ in step.columns[::16]:
        for _ in step.depth[::16]:
            total += 1 + 16 * 16 * product.bits // 8
    here = Fraction(sum(step.outliers) * len(step.depth), product.k)
    while here > 0:
        total += 1 + 4
        here -= 1
    return total
