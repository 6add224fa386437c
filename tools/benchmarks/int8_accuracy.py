"""Accuracy: embeddings of INT8 files beside FP32 ones, and what the kept head makes of them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from accuracy import Data, Task, print_figures, sampled
from common import SUBJECTS, Target, console, workspace
from int8_data import Sentences
from int8_variants import (
    ANY_LENGTH,
    DYNAMIC_PEERS,
    ONE_LENGTH,
    Make,
    attempt,
    dynamic_ours,
    kl_only,
    show_failures,
    static_names,
    static_ours,
    static_peers,
)

from sardonyx import models

LEAST_COSINE = {"minilm-l6": 0.995, "mpnet": 0.975}

Rows = Mapping[str, Mapping[str, float]]
"""Figures by variant."""


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all subjects, and the targets."""
    return measure_variants(
        options,
        partial(variants, recipe=options.recipe),
        partial(targets_of, recipe=options.recipe),
    )


def measure_variants(
    options: argparse.Namespace,
    variants_of: Callable[[Sentences], Mapping[str, Make]],
    judge: Callable[[str, Rows], list[Target]],
) -> tuple[dict[str, Any], list[Target]]:
    """Figures of some variants of all subjects, and the targets that a subject's figures make."""
    train = sampled(models.movie_review_sentences(), options.sentences)
    test = sampled(models.held_out_snippets(), options.sentences)
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for name in options.models:
        with workspace() as folder:
            results[name] = measure_model(name, folder, options, variants_of, train, test)
        title = f"{SUBJECTS[name].title}, {len(test[0]):,} snippets"
        print_figures(title, results[name]["variants"])
        show_failures(title, results[name]["failures"])
        targets += judge(name, results[name]["variants"])
    return results, targets


def measure_model(
    name: str,
    folder: Path,
    options: argparse.Namespace,
    variants_of: Callable[[Sentences], Mapping[str, Make]],
    train: Data,
    test: Data,
) -> dict[str, Any]:
    """Figures of every variant, and why others have none."""
    path, output = SUBJECTS[name].write(folder), folder / "variant.onnx"
    sentences = Sentences.of(name, path, options.sentences)
    task = Task.of(name, path, train, test)
    rows, failures = {"FP32": task.figures(path)}, {}
    wanted = options.variants or [""]
    for variant, make in variants_of(sentences).items():
        if not any(variant.startswith(start) for start in wanted):
            continue
        if why := attempt(make, path, output):
            failures[variant] = why
        else:
            rows[variant] = task.figures(output)
        output.unlink(missing_ok=True)
        console.log(f"{variant}: {why or format(rows[variant]['cosine'], '.4f')}")
    return {"variants": rows, "failures": failures}


def variants(sentences: Sentences, recipe: str) -> dict[str, Make]:
    """Everything that is measured, ours first."""
    return (
        static_ours(sentences, recipe)
        | kl_only(sentences)
        | dynamic_ours(sentences, "portable")
        | static_peers(sentences)
        | DYNAMIC_PEERS
    )


def targets_of(name: str, rows: Rows, recipe: str) -> list[Target]:
    """Near FP32, and nearer than every static peer; a file that is missing misses."""
    title = SUBJECTS[name].title
    peers = {peer: rows[peer]["cosine"] for peer in (*ANY_LENGTH, *ONE_LENGTH) if peer in rows}
    best = max(peers, key=lambda peer: peers[peer], default="")
    targets = []
    for variant in static_names(recipe):
        cosine = rows[variant]["cosine"] if variant in rows else math.nan
        what = f"{title}, {variant}: cosine"
        targets.append(Target(what, cosine, ">=", LEAST_COSINE[name]))
        if best:
            what += f" - that of {best}"
            targets.append(Target(what, cosine - peers[best], ">=", 0.0))
    return targets
