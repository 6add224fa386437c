"""Limits: what share of the machine single products of ours reach, and what bounds them.

The limits are the best of all rounds, on the same threads as the products:

- *reading*: the larger of what numpy's maximum of 256 MB of int32 reads, which does little else,
  and of what FP32 MatMul reads at M = 1;
- *arithmetic*: multiplications and additions of onnxruntime's MatMul and MatMulInteger (uint8 by
  int8), 512 x 512 x 512, which stay in the cache.

A product's *floor* is the longer of what its packed bytes and its arithmetic take at these rates.
One that takes less than 1.5 floors is bound by that; any other by the instructions that decode.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from common import SEED, Target, console, show
from native_kernels import FP32, INT8, SHAPES, THREADS, name
from native_kinds import available
from native_timing import Run, Timing, time_shape
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pool import pooled

ROWS = (1, 128)
READ = 256_000_000
SIDE = 512
MATMUL = "FP32 MatMul"
ARITHMETIC = {MATMUL: "float32", FP32: "float32", INT8: "int8", "DynamicQuantizeMatMul": "int8"}
"""What each kind multiplies."""

FREE = 1.5


@dataclass(frozen=True)
class Limits:
    """``reading``: bytes a second. ``arithmetic``: operations a second, by type."""

    reading: float
    arithmetic: dict[str, float]


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all shapes; there is no target."""
    native = available()
    kinds = tuple(kind for kind in ARITHMETIC if native or kind not in (FP32, INT8))
    results: dict[str, Any] = {"native": native}
    for threads in THREADS:
        timings = {}
        for shape in SHAPES:
            timings[shape] = time_shape(shape, threads, kinds, ROWS, options.rounds, probes)
            console.log(f"limits, {name(shape)}, {threads} thread(s)")
        limits = limits_of(timings)
        rows = [figures(timings, limits, m, kind) for m in ROWS for kind in kinds]
        print_figures(threads, limits, rows)
        results[str(threads)] = asdict(limits) | {"products": rows}
    return results, []


def probes(threads: int) -> dict[str, Run]:
    """Jobs that give the seconds of a byte read, and of an operation of each type."""
    side = (SIDE, SIDE)
    floats = np.random.default_rng(SEED).standard_normal(side, np.float32)
    integers = np.random.default_rng(SEED).integers(0, 100, side)
    jobs = {
        "float32": gemm("MatMul", floats, floats),
        "int8": gemm("MatMulInteger", integers.astype(np.uint8), integers.astype(np.int8)),
    }
    parts = [np.ones(READ // 4 // threads, np.int32) for _ in range(threads)]
    readers = ThreadPoolExecutor(threads)
    count = 2 * SIDE**3
    return {
        "reading": timed(lambda: list(readers.map(np.max, parts)), READ),
        **{name: timed(job, count) for name, job in jobs.items()},
    }


def timed(job: Callable[[], object], units: int) -> Run:
    """Seconds of a unit of a job."""

    def run() -> float:
        start = time.perf_counter()
        job()
        return (time.perf_counter() - start) / units

    return run


def gemm(op: str, a: NDArray[Any], b: NDArray[Any]) -> Callable[[], object]:
    """A product in onnxruntime, of a constant right side."""
    kinds = {np.dtype(np.float32): TensorProto.FLOAT}
    made = helper.make_tensor_value_info("A", kinds.get(a.dtype, TensorProto.UINT8), a.shape)
    output = kinds.get(a.dtype, TensorProto.INT32)
    graph = helper.make_graph(
        [helper.make_node(op, ["A", "B"], ["Y"])],
        "product",
        [made],
        [helper.make_tensor_value_info("Y", output, None)],
        [numpy_helper.from_array(b, "B")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(
        model.SerializeToString(), pooled(), providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"A": a})


def limits_of(timings: dict[tuple[int, int], Timing]) -> Limits:
    """The best that was seen."""

    def best(probe: str) -> float:
        rounds = (t.seconds[m][probe] for t in timings.values() for m in ROWS)
        return 1 / min(map(min, rounds))

    plain = max(t.nbytes[MATMUL] / min(t.seconds[1][MATMUL]) for t in timings.values())
    types = sorted(set(ARITHMETIC.values()))
    return Limits(max(best("reading"), plain), {name: best(name) for name in types})


def figures(
    timings: dict[tuple[int, int], Timing], limits: Limits, m: int, kind: str
) -> dict[str, Any]:
    """Rates of a kind and their shares of the limits: geometric means over the shapes."""

    def mean(rate: Callable[[tuple[int, int], Timing], float]) -> float:
        return statistics.geometric_mean(rate(*item) for item in timings.items())

    reading = mean(lambda _, timing: timing.nbytes[kind] / timing.median(m, kind))
    arithmetic = mean(lambda s, timing: 2 * m * s[0] * s[1] / timing.median(m, kind))
    shares = {
        "memory": reading / limits.reading,
        "arithmetic": arithmetic / limits.arithmetic[ARITHMETIC[kind]],
    }
    nearest = max(shares, key=lambda share: shares[share])
    bound = nearest if shares[nearest] * FREE > 1 else "other instructions"
    row = {"rows": m, "kind": kind, "reading": reading, "operations": arithmetic}
    return row | {"shares": shares, "bound": bound}


def print_figures(threads: int, limits: Limits, rows: list[dict[str, Any]]) -> None:
    """A row for each kind."""
    cells = [
        (f"M = {row['rows']}, {row['kind']}",)
        + (f"{row['reading'] / 1e9:.1f}", f"{row['shares']['memory']:.0%}")
        + (f"{row['operations'] / 1e9:.0f}", f"{row['shares']['arithmetic']:.0%}", row["bound"])
        for row in rows
    ]
    rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in limits.arithmetic.items())
    show(
        f"{threads} thread(s); limits: {limits.reading / 1e9:.1f} GB/s; 1e9 operations/s: {rates}",
        ("product", "GB/s", "of limit", "1e9 operations/s", "of limit", "bound by"),
        cells,
    )
