"""Groups: cosine of embeddings to FP32 by the number K of groups, their sizes, the order of
channels and the tensors that are grouped.

With K = 1 nothing is grouped; with K = d every channel has its own scale. In both sizes and order
mean nothing. Nothing is split but for one row, to hold against the others (`peg_channels`). Weights
have 7 bits; ranges go from the least to the largest value.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import embeddings, sampled
from common import SUBJECTS, Target, console, show, workspace
from int8_data import Sentences
from numpy.typing import NDArray
from peg_channels import Groups, groupings, regrouped, tensors_of
from peg_picture import draw
from peg_variants import PER_TENSOR, compiled

from sardonyx import models
from sardonyx.passes.peg.groups import Rule

CALIBRATION, SNIPPETS = 64, 256
SETS = ("x,h,y", "x,h,y,g")
RULES: tuple[Rule, ...] = ("equal", "optimal")
WAYS = tuple(product(("none", "global", "layer"), RULES))
"""Order and sizes."""

MIN_MAX = "quantize-values.method=min-max"

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
        console.print(f"The split file of recipe peg, K=6: {results[name]['split']:.4f}")
        if options.plot:
            draw({SUBJECTS[n].title: r["cosines"] for n, r in results.items()}, options.plot)
    return results, []


def measure_model(
    name: str, folder: Path, test: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """Figures of one subject."""
    path, whole, output = SUBJECTS[name].write(folder), folder / "whole.onnx", folder / "out.onnx"
    sentences = Sentences.of(name, path, options.sentences, CALIBRATION)
    plain = embeddings(path, sentences.tokenizer, test)
    tensors = tensors_of(path, sentences, folder)
    compiled(sentences, PER_TENSOR, MIN_MAX)(path, whole)

    def cosine(label: str, file: Path) -> float:
        found = mean_cosine(plain, embeddings(file, sentences.tokenizer, test))
        console.log(f"{SUBJECTS[name].title}, {label}: {found:.4f}")
        return found

    def grouped(kinds: str, groups: Mapping[str, Groups], label: str) -> float:
        chosen = [tensor for tensor in tensors if tensor.kind in kinds.split(",")]
        regrouped(whole, output, chosen, groups)
        return cosine(f"{{{kinds}}}, {label}", output)

    single = {t.name: list(np.arange(t.width)[:, None]) for t in tensors}
    ways = {(k, rule): groupings(tensors, k, rule) for k in options.groups for rule in RULES}
    none, cosines = cosine("K=1", whole), Figures()
    for kinds in SETS:
        last = grouped(kinds, single, "K=d")
        cosines[kinds] = {}
        for order, rule in WAYS:
            row = {
                f"K={k}": grouped(kinds, ways[k, rule][order], f"{order}, {rule}, K={k}")
                for k in options.groups
            }
            cosines[kinds][f"{order}, {rule}"] = {"K=1": none} | row | {"K=d": last}
    compiled(sentences, f"peg.tensors={SETS[-1]}", MIN_MAX)(path, output)
    split = cosine(f"{{{SETS[-1]}}}, global, optimal, K=6, split", output)
    measured = {"calibration": len(sentences.sentences), "snippets": len(test)}
    return measured | {"cosines": cosines, "split": split}


def mean_cosine(plain: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """Of embeddings of length 1."""
    return float(np.mean(np.sum(plain.astype(float) * got, axis=1)))
