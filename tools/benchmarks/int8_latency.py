"""Latency: INT8 files of real encoders on two threads, every variant in the same rounds.

onnxruntime's INT8 is of the exported file and of what its transformer optimizer makes of it:
dynamic, 8 bits a tensor or 7 bits a channel, and static with min-max ranges. Target cpu is the one
that is to be fast; of its file also the products alone, which no graph around them can beat.
*Speed* is the time of the fastest of those peers / ours in the same round.
"""

from __future__ import annotations

import argparse
import math
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from common import SUBJECTS, Target, console, show, workspace
from fusion_latency import (
    POINTS,
    THREADS,
    Maker,
    Seconds,
    load_average,
    quartiles,
    session,
    time_rounds,
)
from fusion_variants import SHAPES, padded
from int8_data import Sentences
from int8_floor import products_alone
from int8_peers import nncf
from int8_variants import (
    DYNAMIC_PEERS,
    Failures,
    Make,
    build,
    dynamic_ours,
    machine_target,
    ours,
    show_failures,
)
from native_models import fastest, latency
from native_variants import FP32
from peers import optimizer, static_int8

from sardonyx import models

LEAST_SPEED = 1.15
FLOOR = "products of cpu alone"


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all subjects, and the targets."""
    results: dict[str, Any] = {"load_before": load_average()}
    targets: list[Target] = []
    for name in options.models:
        title = SUBJECTS[name].title
        with workspace() as folder:
            files, peers, failures = variants(name, folder, options)
            results[name] = measure_model(name, files, peers, options.rounds)
        print_figures(title, results[name])
        show_failures(title, failures)
        results[name]["failures"] = failures
        targets += targets_of(title, results[name], f"{options.recipe}, cpu")
    return results | {"load_after": load_average()}, targets


def variants(
    name: str, folder: Path, options: argparse.Namespace
) -> tuple[dict[str, Path], list[str], Failures]:
    """All files, which of them are onnxruntime's INT8, and what could not be made."""
    plain, fused = SUBJECTS[name].write(folder), folder / "optimizer.onnx"
    optimizer(plain, fused, "bert", *SHAPES[name])
    sentences = Sentences.of(name, plain, options.sentences)
    single = sentences.batches(1)
    kinds: dict[str, Make] = DYNAMIC_PEERS | {
        "ORT static, min-max": partial(static_int8, batches=single)
    }
    after = {f"{kind}, optimizer": partial(of, fused, make) for kind, make in kinds.items()}
    recipe = partial(ours, sentences=sentences, recipe=options.recipe)
    targets = ("cpu", "cpu-vnni")
    static = {f"{options.recipe}, {to}": partial(recipe, target=to) for to in targets}
    mine: dict[str, Make] = static | dynamic_ours(sentences, machine_target())
    others: dict[str, Make] = {"NNCF, SmoothQuant": partial(nncf, batches=single)}
    files, failures = build(kinds | after | others | mine, plain, folder)
    peers = [peer for peer in kinds | after if peer in files]
    floor = {}
    if f"{options.recipe}, cpu" in files:
        floor[FLOOR] = folder / "floor.onnx"
        products_alone(files[f"{options.recipe}, cpu"], floor[FLOOR])
    return dict(zip(FP32, (plain, fused), strict=True)) | files | floor, peers, failures


def of(path: Path, make: Make, _: Path, output: Path) -> None:
    """Make a variant of another file than the exported one."""
    make(path, output)


def measure_model(
    name: str, files: dict[str, Path], peers: list[str], rounds: int
) -> dict[str, Any]:
    """Figures of every variant at every point."""
    makers: dict[str, Maker] = {variant: partial(session, path) for variant, path in files.items()}
    sentences = models.held_out_snippets()[0]
    points = {}
    for batch, length in POINTS:
        feed = padded(name, sentences, batch, length)
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            seconds = process.submit(time_rounds, makers, feed, rounds).result()
        points[f"{batch}x{length}"] = figures(seconds, peers)
        console.log(f"{SUBJECTS[name].title}, {batch}x{length}: load {load_average()}")
    return {"bytes": {v: path.stat().st_size for v, path in files.items()}, "points": points}


def figures(seconds: Seconds, peers: list[str]) -> dict[str, Any]:
    """Milliseconds and the ratio to FP32; how many times as fast as the fastest peer."""
    peer = fastest(seconds, peers)
    rows = {
        variant: latency(seconds, variant) | {"speed": quartiles(seconds[peer] / seconds[variant])}
        for variant in seconds
    }
    return {"fastest_peer": peer, "variants": rows}


def print_figures(title: str, results: dict[str, Any]) -> None:
    """A row for each variant."""
    points = results["points"]
    rows = [
        (variant, *(cell(point["variants"][variant]) for point in points.values()))
        for variant in results["bytes"]
    ]
    show(
        f"{title}, {THREADS} threads: ms; ratio to FP32; speed (quartiles)",
        ("variant", *(f"{name} (peer: {p['fastest_peer']})" for name, p in points.items())),
        rows,
    )


def cell(row: dict[str, Any]) -> str:
    """A variant at a point."""
    low, middle, high = row["speed"]
    ratio = f"{row['milliseconds']:.2f}; {row['to_fp32'][1]:.3f}"
    return f"{ratio}; {middle:.3f} ({low:.3f} to {high:.3f})"


def targets_of(title: str, results: dict[str, Any], variant: str) -> list[Target]:
    """Faster than the fastest peer at every point."""
    targets = []
    for name, point in results["points"].items():
        row = point["variants"].get(variant)
        speed = row["speed"][1] if row else math.nan
        what = f"{title}, {name}: {point['fastest_peer']} / {variant}"
        targets.append(Target(what, speed, ">=", LEAST_SPEED))
    return targets
