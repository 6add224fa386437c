"""Kernels: single products beside onnxruntime's own, on one thread and on two."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from common import Target, console, show
from native_kinds import OURS, PEERS, SWEEP, available
from native_timing import Timing, time_shape

SHAPES = ((768, 768), (768, 3072), (3072, 768), (1024, 4096))
ROWS = (1, 8, 128)
THREADS = (1, 2)
WORST = 0.85
"""Of a target: what every shape must reach by itself."""

SCALING = 0.95
"""Speed-up by a second thread, as a share of that of FP32 MatMul."""

NBITS = ("MatMulNBits, accuracy 4", "MatMulNBits, accuracy 4, symmetric")
TO: dict[str, tuple[str, ...]] = {
    "FP32 MatMul": ("FP32 MatMul",),
    "MatMulNBits, accuracy 4": NBITS,
    "MatMulNBits, accuracy 0": ("MatMulNBits, accuracy 0",),
    "DynamicQuantizeMatMul": ("DynamicQuantizeMatMul",),
}
"""What ours is held against: the faster of some kinds."""

FP32, INT8 = "3 bits, fp32", "3 bits, int8"


@dataclass(frozen=True)
class Bound:
    """Least ratio, on one thread."""

    rows: int
    peer: str
    kind: str
    ratio: float


BOUNDS = (
    Bound(1, "FP32 MatMul", FP32, 3.0),
    Bound(1, "MatMulNBits, accuracy 4", INT8, 1.3),
    Bound(1, "DynamicQuantizeMatMul", INT8, 1.6),
    Bound(8, "FP32 MatMul", FP32, 1.35),
    Bound(8, "MatMulNBits, accuracy 4", INT8, 1.2),
    Bound(8, "DynamicQuantizeMatMul", INT8, 0.95),
    Bound(128, "FP32 MatMul", FP32, 1.0),
    Bound(128, "MatMulNBits, accuracy 4", INT8, 1.3),
    Bound(128, "DynamicQuantizeMatMul", INT8, 0.95),
)

Timings = dict[int, dict[tuple[int, int], Timing]]
"""By threads, then shape."""


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all shapes, and the targets."""
    native = available()
    swept = f"each kind sweeps {SWEEP / 1e6:.0f} MB of weights"
    console.print(f"Native kernels: {native or 'none'}; {swept}.")
    kinds = PEERS + (OURS if native else ())
    timings: Timings = {threads: {} for threads in THREADS}
    for shape in SHAPES:
        for threads in THREADS:
            timings[threads][shape] = time_shape(shape, threads, kinds, ROWS, options.rounds)
            console.log(f"kernels, {name(shape)}, {threads} thread(s)")
    for threads in THREADS:
        print_seconds(threads, timings[threads], kinds)
        if native:
            print_ratios(threads, timings[threads])
    results = {
        str(threads): {name(shape): asdict(timing) for shape, timing in row.items()}
        for threads, row in timings.items()
    }
    return {"native": native, "sweep_bytes": SWEEP} | results, targets_of(timings) if native else []


def name(shape: tuple[int, int]) -> str:
    """K x N."""
    return f"{shape[0]}x{shape[1]}"


def print_seconds(
    threads: int, timings: dict[tuple[int, int], Timing], kinds: tuple[str, ...]
) -> None:
    """Microseconds of every kind, and its speed beside FP32 MatMul's."""
    rows = [
        (f"M = {m}, {kind}",)
        + tuple(
            f"{1e6 * timing.median(m, kind):.1f}; {timing.ratio(m, 'FP32 MatMul', kind):.2f}"
            for timing in timings.values()
        )
        for m in ROWS
        for kind in kinds
    ]
    title = f"{threads} thread(s): microseconds; time of FP32 MatMul / its time"
    show(title, ("K x N", *map(name, timings)), rows)


def over_shapes(
    timings: dict[tuple[int, int], Timing], figure: Callable[[Timing], float]
) -> tuple[float, float]:
    """Geometric mean over the shapes, and the worst."""
    figures = [figure(timing) for timing in timings.values()]
    return statistics.geometric_mean(figures), min(figures)


def ratio_to(peer: str, m: int, kind: str) -> Callable[[Timing], float]:
    """Time of a peer, the faster of its forms, by that of one of ours."""
    return lambda timing: timing.ratio(m, timing.faster(m, TO[peer]), kind)


def print_ratios(threads: int, timings: dict[tuple[int, int], Timing]) -> None:
    """Ours beside each peer."""
    rows = []
    for m in ROWS:
        for kind in OURS:
            pairs = (over_shapes(timings, ratio_to(peer, m, kind)) for peer in TO)
            cells = [f"{mean:.2f} ({worst:.2f})" for mean, worst in pairs]
            rows.append((f"M = {m}, {kind}", *cells))
    title = f"{threads} thread(s): their time / ours, geometric mean over the shapes (worst)"
    show(title, ("ours", *TO), rows)


def targets_of(timings: Timings) -> list[Target]:
    """The bounds on one thread, and the gain by a second."""
    targets = []
    for bound in BOUNDS:
        figure = ratio_to(bound.peer, bound.rows, bound.kind)
        mean, worst = over_shapes(timings[1], figure)
        what = f"M = {bound.rows}: {bound.peer} / {bound.kind}"
        targets.append(Target(f"{what}, mean", mean, ">=", bound.ratio))
        targets.append(Target(f"{what}, worst", worst, ">=", WORST * bound.ratio))
    for m in ROWS:
        for kind in (FP32, INT8):
            one, two = (over_shapes(timings[n], ratio_to("FP32 MatMul", m, kind)) for n in THREADS)
            what = f"M = {m}: gain by a second thread, {kind} / FP32 MatMul"
            targets.append(Target(what, two[0] / one[0], ">=", SCALING))
    return targets
