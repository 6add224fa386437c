"""Integers: what of a file runs in integer kernels of onnxruntime, and what groups cost.

Products are counted in the graph that onnxruntime runs, on a sentence of 128 tokens; *memory* is
the peak that a process gains by a session and a run of it. *Extra parameters*: elements of all
constants beyond those of the file with a scale a tensor. *Orders*: Gathers that do nothing but
order channels.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import SUBJECTS, Target, interleaved, medians, probe, show
from fusion_variants import padded
from int8_coverage import LENGTH, share
from int8_products import products
from int8_variants import show_failures
from native_models import PROBES
from peg_variants import BESIDE, FP32, files

from sardonyx import models
from sardonyx.compiler.load import load
from sardonyx.passes.peg.reorder import orderings

MOST_EXTRA = 0.0004


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all subjects, and the targets."""
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for name in options.models:
        title = SUBJECTS[name].title
        with files(name, options) as (made, failures):
            rows = measure_model(name, made)
        print_figures(title, rows)
        show_failures(title, failures)
        results[name] = {"variants": rows, "failures": failures}
        for variant in BESIDE:
            extra = rows[variant]["extra_share"] if variant in rows else math.nan
            targets.append(Target(f"{title}, {variant}: extra parameters", extra, "<=", MOST_EXTRA))
    return results, targets


def measure_model(name: str, made: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Figures of every file."""
    feed = padded(name, models.held_out_snippets()[0], 1, LENGTH)
    saved = made[FP32].with_name("feed.npz")
    np.savez(saved, **feed)
    jobs = {variant: partial(probe, "create_session", p, "", saved) for variant, p in made.items()}
    memory = {variant: medians(rows) for variant, rows in interleaved(jobs, PROBES).items()}
    rows: dict[str, dict[str, Any]] = {}
    for variant, path in made.items():
        found = products(path, feed)
        integers = [product for product in found if product.integer]
        rows[variant] = {
            "products": len(found),
            "integer_products": len(integers),
            "integer_products_by_weights": sum(product.by_weight for product in integers),
            "share": share(found),
            "share_by_weights": share([product for product in found if product.by_weight]),
            "orderings": orderings(load(path)[1]),
            "peak_after_run": memory[variant]["peak_after_run"],
            "bytes": path.stat().st_size,
            "elements": elements(path),
        }
    for variant in BESIDE.keys() & rows.keys():
        plain = rows.get(BESIDE[variant], {}).get("elements", math.nan)
        rows[variant]["extra"] = rows[variant]["elements"] - plain
        rows[variant]["extra_share"] = rows[variant]["extra"] / plain
    return rows


def elements(path: Path) -> int:
    """Of all constants of a file."""
    return sum(math.prod(tensor.dims) for tensor in onnx.load(path).graph.initializer)


def print_figures(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """A row for each file."""
    table = []
    for variant, row in rows.items():
        integers = f"{row['integer_products']} of {row['products']}"
        extra = f"{row['extra']:,.0f} = {row['extra_share']:.4%}" if "extra" in row else ""
        sizes = (f"{row[key] / 1e6:.1f}" for key in ("bytes", "peak_after_run"))
        shares = (f"{row[key]:.1%}" for key in ("share", "share_by_weights"))
        table.append((variant, integers, *shares, row["orderings"], *sizes, extra))
    columns = ("variant", "integer products", "MACs", "by weights", "orders")
    costs = ("file, MB", "memory, MB", "extra parameters")
    show(f"{title}, 1x{LENGTH}: in integer kernels, and the cost", (*columns, *costs), table)
