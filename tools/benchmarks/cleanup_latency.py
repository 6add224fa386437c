"""Latency of what each makes of a file, on two threads, all in the same rounds.

A figure is the median over the rounds of the ratio to the original's time in the same round, with
quartiles (fusion_latency.py says how a round goes).
"""

from __future__ import annotations

import argparse
import math
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from cleanup_models import SIZES, feed, files
from cleanup_peers import MAKERS, ORIGINAL, OURS
from common import Target, show, workspace
from fusion_latency import Maker, load_average, quartiles, session, time_rounds
from int8_variants import build, show_failures

from sardonyx.compiler.quiet_session import quiet_session

MOST = 1.02
"""Of the original's time: what is not slower differs so much from run to run."""


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all files, and the targets."""
    results: dict[str, Any] = {"load_before": load_average()}
    targets: list[Target] = []
    with files(options) as found:
        for name, path in found.items():
            with workspace() as folder:
                made, failures = build(MAKERS, path, folder)
                rows = measure_file({ORIGINAL: path} | made, options.rounds)
            show_file(name, rows)
            show_failures(name, failures)
            results[name] = {"files": rows, "failures": failures}
            ratio = rows[OURS]["to_original"][1] if OURS in rows else math.nan
            targets.append(Target(f"{name}: ours / original", ratio, "<=", MOST))
    return results | {"load_after": load_average()}, targets


def measure_file(variants: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Milliseconds and the ratio to the original of every variant."""
    given = feed(quiet_session(variants[ORIGINAL], optimize=False), SIZES[0])
    makers: dict[str, Maker] = {by: partial(session, path) for by, path in variants.items()}
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        seconds = process.submit(time_rounds, makers, given, rounds).result()
    return {
        by: {
            "milliseconds": 1e3 * float(np.median(row)),
            "to_original": quartiles(row / seconds[ORIGINAL]),
        }
        for by, row in seconds.items()
    }


def show_file(name: str, rows: dict[str, Any]) -> None:
    """A row for each variant."""
    table = []
    for by, row in rows.items():
        low, middle, high = row["to_original"]
        table.append((by, f"{row['milliseconds']:.2f}", f"{middle:.3f} ({low:.3f} to {high:.3f})"))
    show(name, ("by", "ms", "to the original (quartiles)"), table)
