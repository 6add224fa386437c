"""Recovery: how much of what a scale for each channel gains in SQNR, groups of channels gain.

Of x, g, h and y of every layer, on the values that their ranges were measured on:
(dB in K groups - dB a tensor) / (dB a channel - dB a tensor). Orders: *own* of each tensor, with
groups of its own; of each *layer*, for its x, h and y, which share their groups (as with
peg.order=layer); one *global* order (as with peg.order=global), groups layer by layer; *none* as
they stand. The order of g is its own in all but the last.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import SUBJECTS, Target, console, show, workspace
from int8_data import Sentences
from numpy.typing import NDArray
from peg_channels import groupings, spanning, tensors_of
from peg_groups import CALIBRATION

from sardonyx.compiler.quiet_session import quiet_session
from sardonyx.passes.peg.groups import Range, Rule
from sardonyx.passes.peg.reorder import Order
from sardonyx.runtime_ops.uniform import sqnr_db

LEAST_SHARE, TARGET_K = 0.94, 6
RULES: tuple[Rule, ...] = ("equal", "optimal")

Values = NDArray[np.float32]


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all subjects, and the targets."""
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for name in options.models:
        with workspace() as folder:
            path = SUBJECTS[name].write(folder)
            sentences = Sentences.of(name, path, options.sentences, CALIBRATION)
            results[name] = measure_model(path, sentences, folder, options.groups)
        print_figures(
            f"{SUBJECTS[name].title}, {len(sentences.sentences)} sentences", results[name]
        )
        targets += targets_of(SUBJECTS[name].title, results[name])
    return results, targets


def measure_model(
    path: Path, sentences: Sentences, folder: Path, numbers: Sequence[int]
) -> list[dict[str, Any]]:
    """Of every tensor: SQNR in dB a tensor and a channel, and in each kind of groups."""
    tensors = tensors_of(path, sentences, folder)
    grouped = {
        (order, rule, k): groups
        for rule in RULES
        for k in numbers
        for order, groups in groupings(tensors, k, rule).items()
    }
    console.log(f"{sentences.subject}: groups found")
    values = values_of(path, [tensor.name for tensor in tensors], sentences)
    rows = []
    for tensor, seen in zip(tensors, values, strict=True):
        ranges = tensor.range.low, tensor.range.high
        decibels = partial(rounded_db, seen, ranges)
        every = np.arange(tensor.width)
        row: dict[str, Any] = {"layer": tensor.layer, "kind": tensor.kind, "name": tensor.name}
        row |= {"tensor_db": decibels([every]), "channel_db": decibels(list(every[:, None]))}
        row["groups"] = [
            {"order": order, "sizes": rule, "k": k, "db": decibels(groups[tensor.name])}
            for (order, rule, k), groups in grouped.items()
        ]
        rows.append(row)
    return rows


def values_of(path: Path, names: Sequence[str], sentences: Sentences) -> Iterator[Values]:
    """The values [tokens, channels] of each tensor of an FP32 file, on all sentences."""
    model = onnx.load(path)
    outputs = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in outputs)
    session = quiet_session(model)
    runs = [session.run(list(names), feed) for feed in sentences.batches(1)]
    for place in range(len(names)):
        yield np.concatenate([run[place].reshape(-1, run[place].shape[-1]) for run in runs])


def rounded_db(values: Values, ranges: Range, groups: Sequence[Order]) -> float:
    """SQNR of values [tokens, channels] with a scale for each group of channels."""
    low, high = ranges
    rounded = np.empty_like(values)
    for group in groups:
        rounded[:, group] = spanning(low[group].min(), high[group].max()).rounded(values[:, group])
    return sqnr_db(values, rounded)


def grouped_db(row: dict[str, Any], order: str, rule: str, k: int) -> list[float]:
    """SQNR of a tensor in groups of a kind; nothing where such groups were not made."""
    kind = (order, rule, k)
    return [g["db"] for g in row["groups"] if (g["order"], g["sizes"], g["k"]) == kind]


def shares(
    rows: Sequence[dict[str, Any]], kind: str, order: str, rule: str, k: int
) -> NDArray[np.float64]:
    """Shares recovered, layer by layer."""
    found = [
        (db - row["tensor_db"]) / (row["channel_db"] - row["tensor_db"])
        for row in rows
        if row["kind"] == kind
        for db in grouped_db(row, order, rule, k)
    ]
    return np.array(found)


def print_figures(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Shares by kind of groups, and dB of every tensor."""
    kinds = ("x", "h", "y", "g")
    table = []
    for order, rule, k in dict.fromkeys(
        (each["order"], each["sizes"], each["k"]) for each in rows[0]["groups"]
    ):
        found = [shares(rows, kind, order, rule, k) for kind in kinds]
        cells = (f"{np.median(one):.1%} ({one.min():.1%} to {one.max():.1%})" for one in found)
        table.append((f"{order}, {rule}, K={k}", *cells))
    columns = ("order, sizes", *kinds)
    show(f"{title}: share recovered, median over layers (and all)", columns, table)
    numbers = sorted({each["k"] for each in rows[0]["groups"]})
    at = TARGET_K if TARGET_K in numbers else numbers[-1]
    table = []
    for row in rows:
        found = [row["tensor_db"], *grouped_db(row, "layer", "optimal", at), row["channel_db"]]
        table.append((f"{row['kind']} of layer {row['layer']}", *(f"{db:.1f}" for db in found)))
    grouped = f"K={at}, optimal, layer"
    show(f"{title}: SQNR, dB", ("values", "a tensor", grouped, "a channel"), table)


def targets_of(title: str, rows: Sequence[dict[str, Any]]) -> list[Target]:
    """Six groups are nearly as good as a scale a channel: in the layer where they are worst."""
    targets = []
    for kind in ("h", "y"):
        found = shares(rows, kind, "layer", "optimal", TARGET_K)
        if found.size:
            what = f"{title}, {kind}, K={TARGET_K}, optimal, order a layer: least share recovered"
            targets.append(Target(what, float(found.min()), ">=", LEAST_SHARE))
    return targets
