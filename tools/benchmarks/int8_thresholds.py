"""Thresholds: the same sentences in batches of 1, 8 and 32 and in another order.

Each time as a folder of .npz files, padded to the longest of a batch; and as text. *Same*: all
ranges in the report, bit for bit, and the bytes of the compiled file.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import SEED, SUBJECTS, Target, console, show, workspace
from int8_data import Sentences

from sardonyx.compiler import Compiled, compile

Way = Callable[[Path], Compiled]


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Digests of all subjects, and the targets."""
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for name in options.models:
        title = SUBJECTS[name].title
        with workspace() as folder:
            path = SUBJECTS[name].write(folder)
            sentences = Sentences.of(name, path, options.sentences)
            results[name] = measure_model(path, folder, sentences, options.recipe)
        rows = [(way, *row.values()) for way, row in results[name].items()]
        show(title, ("samples", "ranges", "SHA-256 of the ranges", "of the file"), rows)
        for what in ("ranges_sha256", "file_sha256"):
            different = len({row[what] for row in results[name].values()})
            targets.append(Target(f"{title}: different {what}", different, "<=", 1))
    return results, targets


def measure_model(
    path: Path, folder: Path, sentences: Sentences, recipe: str
) -> dict[str, dict[str, Any]]:
    """How many ranges there are, and digests, by how the samples came."""
    order = np.random.default_rng(SEED).permutation(len(sentences.sentences))
    shuffled = replace(sentences, sentences=tuple(sentences.sentences[i] for i in order))
    ways: dict[str, Way] = {
        "batches of 1": partial(batched, path, recipe, sentences, 1),
        "batches of 8": partial(batched, path, recipe, sentences, 8),
        "batches of 32": partial(batched, path, recipe, sentences, 32),
        "batches of 8, shuffled": partial(batched, path, recipe, shuffled, 8),
        "text": partial(from_text, path, recipe, sentences),
    }
    results = {}
    for number, (way, make) in enumerate(ways.items()):
        place = folder / str(number)
        place.mkdir()
        results[way] = digests(make(place), place / "out.onnx")
        console.log(f"{sentences.subject}, {way}")
    return results


def batched(path: Path, recipe: str, sentences: Sentences, size: int, folder: Path) -> Compiled:
    """A compile on a folder of batches."""
    data = folder / "data"
    data.mkdir()
    for number, feed in enumerate(sentences.batches(size)):
        np.savez(data / f"{number:04}.npz", **feed)
    return compile(path, recipe, data, verify="off")


def from_text(path: Path, recipe: str, sentences: Sentences, folder: Path) -> Compiled:
    """A compile on a file of sentences."""
    text, tokenizer = sentences.written(folder)
    return compile(path, recipe, text, tokenizer=tokenizer, verify="off")


def digests(made: Compiled, output: Path) -> dict[str, Any]:
    """Of the ranges, floats to the last bit, and of the file."""
    ranges = sorted((entry.name, *map(float.hex, entry.range)) for entry in made.report.activations)
    made.save(output)
    return {
        "ranges": len(ranges),
        "ranges_sha256": hashlib.sha256(repr(ranges).encode()).hexdigest()[:16],
        "file_sha256": hashlib.sha256(output.read_bytes()).hexdigest()[:16],
    }
