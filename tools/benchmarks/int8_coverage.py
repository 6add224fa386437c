"""Coverage: share of multiplications that run in integer kernels, in the graph that onnxruntime
makes of a file.

A sentence of 128 tokens runs through that graph; the shapes at its products say how many
multiplications each does. *All* counts products by weights and those of two activations, also
inside attention ops; *by weights* only the former.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from common import SUBJECTS, Target, show, workspace
from fusion_variants import padded
from int8_data import Sentences
from int8_products import Product, products
from int8_variants import (
    DYNAMIC_PEERS,
    STATIC_TARGETS,
    build,
    dynamic_ours,
    machine_target,
    show_failures,
    static_ours,
)

from sardonyx import models

LENGTH = 128
LEAST_SHARE = 0.8


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Shares of all subjects, and the targets."""
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for name in options.models:
        title = SUBJECTS[name].title
        with workspace() as folder:
            plain = SUBJECTS[name].write(folder)
            sentences = Sentences.of(name, plain, options.sentences)
            dynamic = dynamic_ours(sentences, machine_target())
            makers = static_ours(sentences, options.recipe) | dynamic | DYNAMIC_PEERS
            files, failures = build(makers, plain, folder)
            rows = {variant: shares(name, path) for variant, path in files.items()}
        print_figures(title, rows)
        show_failures(title, failures)
        results[name] = {"variants": rows, "failures": failures}
        for variant in (f"{options.recipe}, {target}" for target in STATIC_TARGETS[1:]):
            share = rows[variant]["share"] if variant in rows else math.nan
            what = f"{title}, {variant}: share of all multiplications"
            targets.append(Target(what, share, ">=", LEAST_SHARE))
    return results, targets


def shares(name: str, path: Path) -> dict[str, Any]:
    """Shares, and multiplications by op."""
    found = products(path, padded(name, models.held_out_snippets()[0], 1, LENGTH))
    ops: dict[str, int] = {}
    for product in found:
        ops[product.op] = ops.get(product.op, 0) + product.macs
    return {
        "share": share(found),
        "share_by_weights": share([product for product in found if product.by_weight]),
        "macs": sum(ops.values()),
        "ops": ops,
    }


def share(found: list[Product]) -> float:
    """Of multiplications in integer kernels; 0 of none."""
    integers = sum(product.macs for product in found if product.integer)
    return integers / max(sum(product.macs for product in found), 1)


def print_figures(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """A row for each variant."""
    table = []
    for variant, row in rows.items():
        ops = ", ".join(f"{op} {macs / row['macs']:.1%}" for op, macs in row["ops"].items())
        by_weights = f"{row['share_by_weights']:.1%}"
        table.append((variant, f"{row['share']:.1%}", by_weights, f"{row['macs'] / 1e6:,.0f}", ops))
    columns = ("variant", "all", "by weights", "millions", "where they are")
    show(f"{title}, 1x{LENGTH}: multiplications in integer kernels", columns, table)
