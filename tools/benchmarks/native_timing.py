"""Seconds that single products take, every kind of kernel in the same rounds.

In a round each kind, in an order that changes, runs its model for about `SLICE` seconds; its figure
is the median of these runs over the number of its weights. Every output goes to one buffer, so that
neither allocation nor its traffic is timed. A process measures one shape on one pool of threads.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import onnxruntime as ort
from common import SEED, interleaved
from native_kinds import KINDS, OURS, Form, model, weights
from numpy.typing import NDArray
from pool import pooled, share_pool

from sardonyx import runtime_ops

SLICE = 0.05
LEAST_RUNS = 3
LARGEST_ERROR = 0.35
"""Of a product, relative: 3 bits leave about 0.2. It shows that nothing was left out."""

Run = Callable[[], float]
Others = Callable[[int], dict[str, Run]]
"""By the number of threads."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Timing:
    """Of one shape [K, N]. ``seconds``: of a product, by rows M, then kind, one for each round.
    ``nbytes``: of the weight, by kind."""

    seconds: dict[int, dict[str, list[float]]]
    nbytes: dict[str, int]

    def median(self, rows: int, kind: str) -> float:
        """Seconds of a product."""
        return statistics.median(self.seconds[rows][kind])

    def ratio(self, rows: int, theirs: str, ours: str) -> float:
        """Median over the rounds of their time by ours."""
        pairs = zip(self.seconds[rows][theirs], self.seconds[rows][ours], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def faster(self, rows: int, kinds: Sequence[str]) -> str:
        """The fastest of some kinds."""
        return min(kinds, key=lambda kind: self.median(rows, kind))


def time_shape(
    shape: tuple[int, int],
    threads: int,
    kinds: Sequence[str],
    rows: Sequence[int],
    rounds: int,
    others: Others | None = None,
) -> Timing:
    """Time some kinds in a process of its own; ``others``: makes jobs that take part."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_time_shape, shape, threads, kinds, rows, rounds, others).result()


def _time_shape(
    shape: tuple[int, int],
    threads: int,
    kinds: Sequence[str],
    rows: Sequence[int],
    rounds: int,
    others: Others | None,
) -> Timing:
    share_pool(threads)
    more = others(threads) if others else {}
    matrix = weights(*shape)
    forms = {kind: KINDS[kind](matrix) for kind in kinds}
    sessions = {kind: session(kind, model(form, *shape)) for kind, form in forms.items()}
    seconds = {}
    for m in rows:
        a = np.random.default_rng(SEED).standard_normal((m, shape[0]), np.float32)
        for kind, made in sessions.items():
            check(kind, made.run(["Y0"], {"A": a})[0], a @ matrix)
        jobs = {kind: product(sessions[kind], form, a) for kind, form in forms.items()}
        seconds[m] = interleaved(rounds_of(jobs | more), rounds, SEED)
    return Timing(seconds, {kind: form.nbytes for kind, form in forms.items()})


def session(kind: str, made: Any) -> ort.InferenceSession:
    """A session on the pool, with the native library for kinds of ours."""
    options, data = pooled(), made.SerializeToString()
    if kind not in OURS:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    opened = runtime_ops.session(data, options)
    if not opened.native.active:
        raise RuntimeError(f"{kind}: not native: {opened.native.detail}")
    return opened


def check(kind: str, got: Array, wanted: Array) -> None:
    """Raise unless a product is about right: a kernel that does nothing would be fast."""
    error = float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))
    if not error < LARGEST_ERROR:
        raise RuntimeError(f"{kind}: the product of {wanted.shape} is off by {error:.2g}")


def product(made: ort.InferenceSession, form: Form, a: Array) -> Run:
    """A run of the model: its seconds by the number of products."""
    binding = made.io_binding()
    width = made.get_outputs()[0].shape[1]
    output = ort.OrtValue.ortvalue_from_numpy(np.empty((len(a), width), np.float32))
    binding.bind_ortvalue_input("A", ort.OrtValue.ortvalue_from_numpy(a))
    for copy in range(form.copies):
        binding.bind_ortvalue_output(f"Y{copy}", output)

    def run() -> float:
        start = time.perf_counter()
        made.run_with_iobinding(binding)
        return (time.perf_counter() - start) / form.copies

    return run


def rounds_of(jobs: Mapping[str, Run]) -> dict[str, Run]:
    """Each job repeated for a slice of time: the median of its figures."""

    def repeated(job: Run, runs: int) -> float:
        return statistics.median(job() for _ in range(runs))

    made = {}
    for name, job in jobs.items():
        start = time.perf_counter()
        job()
        runs = round(SLICE / (time.perf_counter() - start))
        made[name] = partial(repeated, job, max(LEAST_RUNS, runs))
    return made
