"""Seconds of a compile by recipe cleanup of graphs of 1,000 to 10,000 nodes.

Each graph is an encoder whose every layer holds what the passes remove (cleanup_graph.py). With the
default verification and without any; medians of runs that take turns, each in a process of its own
so that none pays for what another left behind. *Growth* is the exponent of the seconds in the
nodes, from the smallest graph to the largest: 1 is linear.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections import Counter
from functools import partial
from typing import Any

from cleanup_graph import redundant_encoder
from common import Target, interleaved, show
from int8_variants import apart

from sardonyx.compiler import compile

NODES = (1000, 2000, 5000, 10000)
LEVELS = ("default", "off")
MOST_SECONDS = 10.0
MOST_GROWTH = 1.15
REST = "load, checks, emit"


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Seconds of all sizes, and the targets."""
    jobs = {
        f"{level}, {nodes}": partial(apart, seconds_of, nodes, level)
        for level in LEVELS
        for nodes in NODES
    }
    runs = interleaved(jobs, min(options.rounds, 3))
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for level in LEVELS:
        row = {nodes: median(runs[f"{level}, {nodes}"]) for nodes in NODES}
        results[level] = row
        show_level(level, row)
        few, many = row[NODES[0]]["total"], row[NODES[-1]]["total"]
        growth = math.log(many / few) / math.log(NODES[-1] / NODES[0])
        targets.append(Target(f"{level}: growth", growth, "<=", MOST_GROWTH))
        what = f"{level}: seconds of {NODES[-1]:,} nodes"
        targets.append(Target(what, many, "<=", MOST_SECONDS))
    return results, targets


def seconds_of(nodes: int, level: Any) -> dict[str, float]:
    """Seconds of the whole and of each pass, all its runs together."""
    model = redundant_encoder(nodes)
    start = time.perf_counter()
    report = compile(model, "cleanup", verify=level).report
    total = time.perf_counter() - start
    passes: Counter[str] = Counter()
    for run in report.passes:
        passes[run.name] += run.seconds
    return {"total": total, REST: total - passes.total()} | passes


def median(runs: list[dict[str, float]]) -> dict[str, float]:
    """Of each figure."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def show_level(level: str, row: dict[int, dict[str, float]]) -> None:
    """A column for each size."""
    table = [(key, *(f"{row[nodes][key]:.2f}" for nodes in NODES)) for key in row[NODES[0]]]
    columns = ("seconds", *(f"{nodes:,} nodes" for nodes in NODES))
    show(f"Recipe cleanup, verification: {level}", columns, table)
