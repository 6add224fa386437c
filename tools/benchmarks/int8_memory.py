"""Memory: peak (VmHWM) of the compile command, by how many sentences it is given.

Every set holds the longest sentence, whose values take what the largest sample takes. Nothing is
verified, so that nothing hides what calibration takes.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from common import SUBJECTS, Cost, Target, cost_of, interleaved, show, workspace
from compile_cost import COMMAND
from int8_data import Sentences

COUNTS = (32, 128, 1024)
MOST_GROWTH = 1.05
MOST_ROUNDS = 3


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all subjects, and the targets."""
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for name in options.models:
        title = SUBJECTS[name].title
        with workspace() as folder:
            results[name] = measure_model(name, folder, options)
        rows = [
            (count, f"{row['peak_rss'] / 1e6:,.0f}", f"{row['seconds']:.1f}")
            for count, row in results[name].items()
        ]
        show(f"{title}: the command", ("sentences", "peak, MB", "seconds"), rows)
        peaks = [row["peak_rss"] for row in results[name].values()]
        what = f"{title}: largest / smallest peak"
        targets.append(Target(what, max(peaks) / min(peaks), "<=", MOST_GROWTH))
    return results, targets


def measure_model(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Medians by the number of sentences."""
    path = SUBJECTS[name].write(folder)
    sentences = longest_first(Sentences.of(name, path, options.sentences, max(COUNTS)))
    counts = sorted({min(count, len(sentences.sentences)) for count in COUNTS})
    jobs = {}
    for count in counts:
        place = folder / str(count)
        place.mkdir()
        part = replace(sentences, sentences=sentences.sentences[:count])
        jobs[str(count)] = partial(command, path, options.recipe, place, *part.written(place))
    return {
        count: {
            "peak_rss": statistics.median(run.peak_rss for run in runs),
            "seconds": statistics.median(run.seconds for run in runs),
        }
        for count, runs in interleaved(jobs, min(options.rounds, MOST_ROUNDS)).items()
    }


def longest_first(sentences: Sentences) -> Sentences:
    """The sentence of most tokens, then the others in their order."""
    rows = [feed["input_ids"].shape[1] for feed in sentences.batches(1)]
    order = sorted(range(len(rows)), key=lambda at: (rows[at] < max(rows), at))
    return replace(sentences, sentences=tuple(sentences.sentences[at] for at in order))


def command(path: Path, recipe: str, folder: Path, text: Path, tokenizer: Path) -> Cost:
    """One compile."""
    data: tuple[str | Path, ...] = ("--calibration", text, "--tokenizer", tokenizer)
    output = ("--verify", "off", "-o", folder / "out.onnx")
    return cost_of([*COMMAND, path, "--recipe", recipe, *data, *output])
