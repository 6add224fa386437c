"""GOBO's chip beside tensorcore-like at equal area, over area and DRAM bandwidth."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from accelerator_chips import (
    BANDWIDTHS,
    SCOPES,
    Point,
    compared,
    gobo_chips,
    run,
    scaled,
    with_fields,
)
from accelerator_models import workloads
from accelerator_sweep import KINDS, Grid, draw, summary, table
from common import Target, console, show

from sardonyx.compiler.simulate import Workload
from sardonyx.runtime_ops.accelerator.area import area_of
from sardonyx.runtime_ops.accelerator.chip import Chip
from sardonyx.runtime_ops.accelerator.chip_file import load_chip

GOALS = {"speed": 7.0, "energy": 3.0}
"""Recalled from the paper."""

FACTORS = (0.25, 1, 4, 16, 64)
"""Sizes, in tensorcore-like chips."""

LANES = (1, 4, 16)


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """The sweep of each model at each length."""
    results: dict[str, Any] = {}
    targets: list[Target] = []
    grids: dict[str, Grid] = {}
    with workloads(options) as found:
        for name, work in found.items():
            for tokens in options.tokens:
                label = f"{name}, {tokens} tokens"
                title = f"{label}: gobo beside tensorcore-like"
                console.print(title)
                points = [p for factor in FACTORS for p in sweep(work, tokens, factor)]
                own = next(p for p in points if p.bandwidth == 25.6 and "8 units" in p.chips[0])
                grids[label] = Grid(points, own, GOALS)
                targets += table(title, grids[label])
                grown = lanes(work, tokens, title)
                results[label] = asdict(grids[label]) | {"lanes": [asdict(p) for p in grown]}
    title = "gobo beside tensorcore-like at equal area: speed and energy, times as good"
    summary(title, grids)
    if options.plots:
        draw(options.plots / "design.png", title, grids)
    return results, targets


def sweep(work: Workload, tokens: int, factor: float) -> list[Point]:
    """The points of one area."""
    plain = scaled(load_chip("tensorcore-like"), factor)
    chip = fastest(work, tokens, area_of(plain).total, factor)
    points = []
    for rate in BANDWIDTHS:
        first, second = (run(work, tokens, at(each, rate)) for each in (plain, chip))
        points.append(compared(first, second))
    return points


def at(chip: Chip, bandwidth: float) -> Chip:
    """A chip with another bandwidth."""
    return with_fields(chip, {"dram.bandwidth": bandwidth})


def fastest(work: Workload, tokens: int, area: float, factor: float, grown: int = 1) -> Chip:
    """The number of tiles that serves the model best at the chip's own bandwidth."""
    chips = gobo_chips(area, factor, grown)
    return min(chips, key=lambda chip: run(work, tokens, chip)[SCOPES[1]].seconds.total())


def lanes(work: Workload, tokens: int, title: str) -> list[Point]:
    """GOBO's vector unit grown at the expense of tiles, as attention runs there."""
    plain = load_chip("tensorcore-like")
    points = []
    for rate in (BANDWIDTHS[0], plain.dram.bandwidth.value):
        first = run(work, tokens, at(plain, rate))
        for grown in LANES:
            chip = fastest(work, tokens, area_of(plain).total, 1, grown)
            points.append(compared(first, run(work, tokens, at(chip, rate))))
    rows = [
        (p.chips[1], f"{p.bandwidth:g}", *(f"{p.ratios[kind]:.2f}" for kind in KINDS))
        for p in points
    ]
    show(f"{title}, vector units grown at equal area", ("chip", "GB/s", *KINDS), rows)
    return points
