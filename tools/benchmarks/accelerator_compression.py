"""GOBO's compression in DRAM alone: chips with it against without, over area and bandwidth."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from accelerator_chips import BANDWIDTHS, Point, compared, is_fc, run, scaled
from accelerator_design import at
from accelerator_models import workloads
from accelerator_sweep import Grid, draw, summary, table
from common import Target, console

from sardonyx.compiler.simulate import Workload
from sardonyx.runtime_ops.accelerator.chip_file import GOBO_MEMORY, load_chip
from sardonyx.runtime_ops.accelerator.work import Product

GOALS = {"tpu-like": 10.0, "eyeriss-like": 7.0, "tensorcore-like": 4.0}
"""Recalled from the paper; whether of speed, of energy or of both, is not known here."""

FACTORS = {
    "tpu-like": (1 / 256, 1 / 64, 1 / 16, 1 / 4, 1),
    "eyeriss-like": (1, 4, 16, 64, 256),
    "tensorcore-like": (1 / 4, 1, 4, 16, 64),
}
"""Sizes, in chips as their files have them."""


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """The sweep of each chip for each model at each length."""
    results: dict[str, Any] = {}
    targets: list[Target] = []
    all_grids: dict[str, Grid] = {}
    with workloads(options) as found:
        for name, work in found.items():
            least = shrunk(work)
            console.print(
                f"{name}: its FC weights alone take {least:.2f} times fewer bytes in DRAM"
            )
            for tokens in options.tokens:
                label = f"{name}, {tokens} tokens"
                grids = {}
                for chip in GOALS:
                    title = f"{label}: {chip}{GOBO_MEMORY} beside {chip}"
                    console.print(title)
                    grids[f"{label}, {chip}"] = grid = sweep(work, tokens, chip)
                    targets += table(title, grid)
                results[label] = {title: asdict(grid) for title, grid in grids.items()}
                all_grids |= grids
                if options.plots:
                    path = options.plots / f"compression-{name}-{tokens}.png"
                    draw(path, f"{label}: compression alone", grids)
    summary("compression alone: speed and energy, times as good", all_grids)
    return results, targets


def sweep(work: Workload, tokens: int, name: str) -> Grid:
    """Points of a chip, and the one as its file has it."""

    def point(factor: float, rate: float) -> Point:
        chips = (scaled(load_chip(each), factor) for each in (name, name + GOBO_MEMORY))
        return compared(*(run(work, tokens, at(chip, rate)) for chip in chips))

    points = [point(factor, rate) for factor in FACTORS[name] for rate in BANDWIDTHS]
    own = point(1, load_chip(name).dram.bandwidth.value)
    return Grid(points, own, {"speed": GOALS[name], "energy": GOALS[name]})


def shrunk(work: Workload) -> float:
    """Bytes of the weights as floats over those in containers: no ratio of traffic is larger."""
    layers = work.on(load_chip("gobo"), 1, 1).timeline.layers
    weights = [t.layer.work for t in layers if isinstance(t.layer.work, Product) and is_fc(t)]
    stored = sum(w.container_bytes(w.k, w.blocks(0, w.n)) + w.table_bytes for w in weights)
    return sum(4 * w.k * w.n for w in weights) / stored
