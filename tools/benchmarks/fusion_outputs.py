"""Outputs of a fused graph beside those of the file it was made from, on real padded sentences."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from common import SUBJECTS, Target, show, workspace
from exactness import batches, difference, onnxruntime_run, outputs, reference_run
from fusion_variants import SHAPES, build

from sardonyx import models

BATCH = 32
FEW = 3
BOUND = 1e-5
"""Relative to the largest value: float32 sums in another order, layer by layer."""

FUSED = {
    "float": "plain",
    "float, SkipLayerNormalization": "plain",
    "float, MultiHeadAttention": "plain",
    "gobo": "gobo, portable",
}
"""What is held to the bound, and against what."""

PAIRS = {"optimizer": "plain", **FUSED}


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all subjects, and the targets."""
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for name in (name for name in options.models if name in SHAPES):
        title = SUBJECTS[name].title
        with workspace() as folder:
            results[name] = measure_model(name, folder, options.sentences)
        print_figures(title, results[name])
        targets += [
            Target(f"{title}: {label}", row["relative_difference"], "<=", BOUND)
            for label, row in results[name].items()
            if not label.startswith("optimizer")
        ]
    return results, targets


def measure_model(name: str, folder: Path, count: int) -> dict[str, Any]:
    """Every pair compared, then both executors of our file and of gobo's."""
    files, sentences = build(name, folder), models.held_out_snippets()[0]
    feeds, few = batches(name, sentences[:count], BATCH), batches(name, sentences[:FEW], BATCH)
    compared = {}
    for variant, other in PAIRS.items():
        runs = [outputs(onnxruntime_run(files[file]), feeds) for file in (variant, other)]
        compared[f"{variant} - {other}"] = relative(difference(*runs)) | {"sentences": count}
    for variant in ("float", "gobo"):
        path = files[variant]
        runs = [outputs(run(path), few) for run in (reference_run, onnxruntime_run)]
        row = relative(difference(*runs)) | {"sentences": FEW}
        compared[f"{variant}: reference executor - onnxruntime"] = row
    return compared


def relative(row: dict[str, Any]) -> dict[str, Any]:
    """With the largest difference as a share of the largest value."""
    return row | {"relative_difference": row["largest_difference"] / row["magnitude"]}


def print_figures(title: str, results: dict[str, Any]) -> None:
    """A row for each pair."""
    rows = [
        (label, row["sentences"], f"{row['values']:,}", f"{row['relative_difference']:.2g}")
        for label, row in results.items()
    ]
    columns = ("compared", "sentences", "values", "largest difference / largest value")
    show(f"{title}: outputs", columns, rows)
