"""Groups: cosine of embeddings to FP32 by the number K of groups, their sizes, the order of
channels and the tensors that are grouped.

With K = 1 nothing is grouped; with K = d every channel has its own scale (`peg_channels`). In both
sizes and order mean nothing.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import embeddings, sampled
from common import SUBJECTS, Target, console, show, workspace
from int8_data import Sentences
from int8_variants import Failures, Make, attempt, show_failures
from numpy.typing import NDArray
from peg_channels import by_channel
from peg_picture import draw
from peg_variants import PER_TENSOR, compiled

from sardonyx import models

CALIBRATION, SNIPPETS = 64, 256
SETS = ("x,h,y", "x,h,y,g")
WAYS = tuple(product(("none", "global", "layer"), ("equal", "optimal")))
"""Order and sizes."""

Figures = dict[str, dict[str, dict[str, float]]]
"""Cosines by the set of tensors, order and sizes, and K."""


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all subjects."""
    count = min(SNIPPETS, options.sentences or SNIPPETS)
    test = sampled(models.held_out_snippets(), count)[0]
    results: dict[str, Any] = {}
    for name in options.models:
        with workspace() as folder:
            results[name] = measure_model(name, folder, test, options)
        title = f"{SUBJECTS[name].title}, cosine to FP32, {len(test)} snippets"
        for tensors, rows in results[name]["cosines"].items():
            columns = list(next(iter(rows.values())))
            table = [(way, *(f"{row[k]:.4f}" for k in columns)) for way, row in rows.items()]
            show(f"{title}: {{{tensors}}} grouped", ("order, sizes", *columns), table)
        show_failures(title, results[name]["failures"])
        if options.plot:
            draw({SUBJECTS[n].title: r["cosines"] for n, r in results.items()}, options.plot)
    return results, []


def measure_model(
    name: str, folder: Path, test: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """Figures of one subject."""
    path, output = SUBJECTS[name].write(folder), folder / "variant.onnx"
    sentences = Sentences.of(name, path, options.sentences, CALIBRATION)
    plain = embeddings(path, sentences.tokenizer, test)
    failures: Failures = {}

    def cosine(label: str, make: Make) -> float:
        if why := attempt(make, path, output):
            failures[label] = why
            found = math.nan
        else:
            found = mean_cosine(plain, embeddings(output, sentences.tokenizer, test))
        output.unlink(missing_ok=True)
        console.log(f"{SUBJECTS[name].title}, {label}: {why or format(found, '.4f')}")
        return found

    whole = cosine("K=1", compiled(sentences, PER_TENSOR))
    cosines: Figures = {}
    for tensors in SETS:
        channels = partial(by_channel, sentences=sentences, kinds=tensors.split(","))
        single = cosine(f"{{{tensors}}}, K=d", channels)
        cosines[tensors] = {}
        for order, sizes in WAYS:
            row = {"K=1": whole}
            for k in options.groups:
                arguments = {"tensors": tensors, "k": k, "groups": sizes, "order": order}
                settings = [f"peg.{key}={value}" for key, value in arguments.items()]
                label = f"{{{tensors}}}, {order}, {sizes}, K={k}"
                row[f"K={k}"] = cosine(label, compiled(sentences, *settings))
            cosines[tensors][f"{order}, {sizes}"] = row | {"K=d": single}
    measured = {"calibration": len(sentences.sentences), "snippets": len(test)}
    return measured | {"cosines": cosines, "failures": failures}


def mean_cosine(plain: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """Of embeddings of length 1."""
    return float(np.mean(np.sum(plain.astype(float) * got, axis=1)))
