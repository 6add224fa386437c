"""Latency of a fused graph beside that of its peers, every variant in the same rounds.

In a round each variant, in an order that changes, runs once unmeasured and then for about
`SLICE` seconds; its figure is the median of these runs, and what is compared is the ratio of two
variants' figures in one round: a slow minute hits both. All sessions share one pool of two threads.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from common import SEED, SUBJECTS, Target, console, interleaved, show, workspace
from fusion_variants import PEERS, SHAPES, Feed, build, padded
from numpy.typing import NDArray
from pool import pooled, share_pool

from sardonyx import models

THREADS = 2
POINTS = ((1, 16), (1, 128), (8, 32))
"""Sentences a batch, tokens a sentence."""

SLICE = 0.08
"""Seconds a variant runs in a round."""

Maker = Callable[[], ort.InferenceSession]
Seconds = dict[str, NDArray[np.float64]]


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all subjects, and the targets."""
    results: dict[str, Any] = {"load_before": load_average()}
    targets: list[Target] = []
    for name in (name for name in options.models if name in SHAPES):
        with workspace() as folder:
            results[name] = measure_model(name, folder, options.rounds)
        print_figures(SUBJECTS[name].title, results[name])
        targets += targets_of(SUBJECTS[name].title, results[name])
    return results | {"load_after": load_average()}, targets


def load_average() -> str:
    """How busy the machine is."""
    return Path("/proc/loadavg").read_text().strip()


def measure_model(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Figures of every point, of every variant of a model."""
    files, sentences = build(name, folder), models.held_out_snippets()[0]
    makers = {variant: partial(session, path) for variant, path in files.items()}
    results = {}
    for batch, length in POINTS:
        feed = padded(name, sentences, batch, length)
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            seconds = process.submit(time_rounds, makers, feed, rounds).result()
        results[f"{batch}x{length}"] = figures(seconds)
        console.log(f"{SUBJECTS[name].title}, {batch}x{length}: load {load_average()}")
    return results


def time_rounds(makers: Mapping[str, Maker], feed: Feed, rounds: int) -> Seconds:
    """Seconds of a run: by variant, one for each round. The first variant says how many runs a
    slice of time holds.

    In a process of its own, in which every session must use the pool.
    """
    share_pool(THREADS)
    sessions = {name: make() for name, make in makers.items()}
    feeds = {n: {i.name: feed[i.name] for i in s.get_inputs()} for n, s in sessions.items()}
    taken = [seconds_of(made, feeds[name], 3) for name, made in sessions.items()]
    runs = max(2, round(SLICE / taken[0]))
    jobs = {name: partial(seconds_of, made, feeds[name], runs) for name, made in sessions.items()}
    return {name: np.array(row) for name, row in interleaved(jobs, rounds, SEED).items()}


def session(path: Path) -> ort.InferenceSession:
    """A session that uses the pool all share."""
    return ort.InferenceSession(path, pooled(), providers=["CPUExecutionProvider"])


def seconds_of(made: ort.InferenceSession, feed: Feed, runs: int) -> float:
    """Median of some runs, after one that is not measured."""
    made.run(None, feed)
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        made.run(None, feed)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def figures(seconds: Seconds) -> dict[str, Any]:
    """Medians, and quartiles of ratios within rounds: to plain, to what must not be faster."""
    peer = min(PEERS, key=lambda name: float(np.median(seconds[name] / seconds["plain"])))
    rows = {
        name: {
            "milliseconds": 1e3 * float(np.median(row)),
            "to_plain": quartiles(row / seconds["plain"]),
            "to_faster_peer": quartiles(row / seconds[peer]),
        }
        for name, row in seconds.items()
    }
    to_portable = quartiles(seconds["gobo"] / seconds["gobo, portable"])
    return {"faster_peer": peer, "variants": rows, "gobo_to_portable": to_portable}


def quartiles(ratios: NDArray[np.float64]) -> list[float]:
    """First quartile, median, third."""
    return [float(value) for value in np.quantile(ratios, [0.25, 0.5, 0.75])]


def print_figures(title: str, results: dict[str, Any]) -> None:
    """A row for each variant: milliseconds, then the ratio to the faster peer."""
    points = list(results)
    rows = [
        (variant, *(cell(results[point]["variants"][variant]) for point in points))
        for variant in results[points[0]]["variants"]
    ]
    show(
        f"{title}, {THREADS} threads: ms; ratio to plain; ratio to the faster peer (quartiles)",
        ("variant", *(f"{p} (peer: {results[p]['faster_peer']})" for p in points)),
        rows,
    )


def cell(row: dict[str, Any]) -> str:
    """A variant at a point."""
    low, middle, high = row["to_faster_peer"]
    ratios = f"{row['to_plain'][1]:.3f}; {middle:.3f} ({low:.3f} to {high:.3f})"
    return f"{row['milliseconds']:.2f}; {ratios}"


def targets_of(title: str, results: dict[str, Any]) -> list[Target]:
    """Ours is no slower than the faster peer, and gobo no slower than without the target."""
    targets = []
    for point, row in results.items():
        ratio = row["variants"]["float"]["to_faster_peer"][1]
        targets.append(Target(f"{title}, {point}: float / {row['faster_peer']}", ratio, "<=", 1.0))
        ratio = row["gobo_to_portable"][1]
        targets.append(Target(f"{title}, {point}: gobo / gobo, portable", ratio, "<=", 1.0))
    return targets
