"""Calibration: seconds to find ranges, ours of sentences as they are and onnxruntime's of padded
ones.

*Ours*: the compile's calibration and the passes that it measured for, which search the thresholds
and round the weights, too. *onnxruntime*: its entropy calibrator of products, from its making to
its ranges, on the same sentences padded to the longest: all at once, as quantize_static calls it,
and batch by batch, as its CalibStridedMinMax does, which then also runs on sentences as they are.
It measures inputs and outputs of products, ours what the recipe asks for. *Speed* is a time / ours.
Each in a process of its own.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import SUBJECTS, Target, console, interleaved, show, workspace
from int8_data import Sentences
from int8_variants import KL_ONLY, Failures, apart, reason, show_failures
from peers import Feed, Reader

from sardonyx.compiler import compile
from sardonyx.compiler.driver import Driver
from sardonyx.models.quiet import quiet

LEAST_SPEED = 5.0
MOST_ROUNDS = 3
PROBED = 32
"""Sentences on which it is seen whether a way runs at all."""

AT_ONCE, BY_BATCHES, AS_THEY_ARE = (
    f"ORT entropy, {how}" for how in ("all at once", "by batches", "one by one, mixed lengths")
)
KL_ALONE = "KL alone, mixed lengths"

FIT_AT_ONCE = ("minilm-l6",)
"""Models of which all values on all sentences fit in memory: 5.4 GB; mpnet's would take 21."""


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all subjects, and the targets."""
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for name in options.models:
        title = SUBJECTS[name].title
        with workspace() as folder:
            results[name] = measure_model(name, folder, options)
        rows = results[name]["ways"]
        print_figures(title, rows, KL_ALONE)
        show_failures(title, results[name]["failures"])
        peer = AT_ONCE if AT_ONCE in rows else BY_BATCHES
        what = f"{title}: {peer} / {KL_ALONE}"
        targets.append(Target(what, speed(rows, peer, KL_ALONE), ">=", LEAST_SPEED))
    return results, targets


def speed(ways: dict[str, Any], peer: str, ours: str) -> float:
    """A peer's seconds / ours; not a number where one of them is missing."""
    missing = {"seconds": math.nan}
    return float(ways.get(peer, missing)["seconds"] / ways.get(ours, missing)["seconds"])


def our_ways(recipe: str) -> dict[str, str | Path]:
    """Recipes by name."""
    return {KL_ALONE: KL_ONLY, f"{recipe}, mixed lengths": recipe}


def measure_model(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Medians of every way, and why others do not run."""
    path = SUBJECTS[name].write(folder)
    sentences = Sentences.of(name, path, options.sentences)
    failures = failing(Sentences.of(name, path, options.sentences, PROBED), path)
    padded = sentences.padded()
    peers = {AT_ONCE: (padded, len(padded))} if name in FIT_AT_ONCE else {}
    peers |= {BY_BATCHES: (padded, 1), AS_THEY_ARE: (sentences.batches(1), 1)}
    jobs = {way: partial(tried, onnxruntime_ranges, path, *data) for way, data in peers.items()} | {
        way: partial(tried, our_ranges, path, sentences, recipe)
        for way, recipe in our_ways(options.recipe).items()
    }
    ways = {}
    for way, runs in interleaved(jobs, min(options.rounds, MOST_ROUNDS)).items():
        why = next((run for run in runs if isinstance(run, str)), "")
        if why:
            failures[way] = why
        else:
            seconds = statistics.median(run["seconds"] for run in runs)
            ways[way] = runs[0] | {"seconds": seconds, "runs": runs}
    return {"sentences": len(sentences.sentences), "ways": ways, "failures": failures}


def failing(few: Sentences, path: Path) -> Failures:
    """Ways that are known not to run."""
    single = few.batches(1)
    ways = {
        "ORT entropy, all at once, mixed lengths": (single, len(single), False),
        "ORT entropy, all ops, one length": (few.padded(), 1, True),
    }
    answers = {way: tried(onnxruntime_ranges, path, *args) for way, args in ways.items()}
    return {way: answer for way, answer in answers.items() if isinstance(answer, str)}


def tried(function: Any, *args: Any) -> dict[str, float] | str:
    """What a function in a process of its own returns, or why it fails."""
    start = time.perf_counter()
    try:
        answer: dict[str, float] = apart(function, *args)
    except Exception as error:  # whatever a package raises, and a process that died
        return reason(error)
    console.log(f"{function.__name__}: {time.perf_counter() - start:.0f} s")
    return answer


def our_ranges(path: Path, sentences: Sentences, recipe: str | Path) -> dict[str, float]:
    """``seconds``; ``tensors`` that were measured; ``samples`` as the report counts them."""
    drivers: list[Driver] = []
    with TemporaryDirectory() as folder:
        text, tokenizer = sentences.written(Path(folder))
        made = compile(
            path,
            recipe,
            text,
            tokenizer=tokenizer,
            verify="off",
            observe=lambda _, driver: drivers.append(driver),
        )
    if made.report.calibration is None:
        raise RuntimeError(f"recipe '{recipe}' measures nothing")
    pairs = zip(drivers[-1].runs, drivers[-1].measured, strict=True)
    passes = sum(run.seconds for run, measured in pairs if measured)
    return {
        "seconds": made.report.calibration.seconds + passes,
        "calibration_seconds": made.report.calibration.seconds,
        "tensors": len({name for measured in drivers[-1].measured for name in measured}),
        "samples": made.report.calibration.samples,
    }


def onnxruntime_ranges(
    path: Path, batches: list[Feed], stride: int, every_op: bool = False
) -> dict[str, float]:
    """The same of onnxruntime's entropy calibrator; ``stride``: batches whose values it holds."""
    with quiet(), TemporaryDirectory() as folder:
        from onnxruntime.quantization import CalibrationMethod  # noqa: PLC0415
        from onnxruntime.quantization.calibrate import create_calibrator  # noqa: PLC0415

        start = time.perf_counter()
        calibrator = create_calibrator(
            path,
            None if every_op else ["MatMul"],
            str(Path(folder) / "augmented.onnx"),
            CalibrationMethod.Entropy,
        )
        reader = Reader(batches)
        for at in range(0, len(batches), stride):
            reader.set_range(at, at + stride)
            calibrator.collect_data(reader)
        ranges = calibrator.compute_data()
        seconds = time.perf_counter() - start
    samples = sum(len(next(iter(batch.values()))) for batch in batches)
    return {"seconds": seconds, "tensors": len(ranges.data), "samples": samples}


def print_figures(title: str, ways: dict[str, Any], ours: str) -> None:
    """A row for each way."""
    rows = [
        (way, f"{row['seconds']:.1f}", f"{speed(ways, way, ours):.2f}")
        + (row["tensors"], row["samples"], f"{1e3 * row['seconds'] / row['tensors']:.0f}")
        for way, row in ways.items()
    ]
    columns = ("way", "seconds", "speed", "tensors", "samples", "ms a tensor")
    show(f"{title}: ranges of activations", columns, rows)
