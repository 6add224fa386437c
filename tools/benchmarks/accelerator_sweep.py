"""What the two sweeps over area and bandwidth share: tables, targets, plots of their points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerator_chips import FIGURES, SCOPES, Point
from common import Target, show

KINDS = tuple(f"{scope}, {figure}" for scope in SCOPES for figure in FIGURES)

Goals = Mapping[str, float]
"""The paper's ratio of each figure."""


def table(title: str, points: Sequence[Point], own: Point, goals: Goals) -> list[Target]:
    """Print where the points come to the paper's ratios, and what stops those that do not.

    The targets are those ratios at the best point.
    """
    rows, targets = [], []
    for kind in KINDS:
        goal = goals[kind.rpartition(", ")[2]]
        best = max(points, key=lambda point: point.ratios[kind])
        short = Counter(point.causes[kind] for point in points if point.ratios[kind] < goal)
        rows.append(
            (
                kind,
                f"{goal:g}",
                f"{own.ratios[kind]:.2f}",
                f"{best.ratios[kind]:.2f}: {best.area:.1f} mm2, {best.bandwidth:g} GB/s",
                f"{len(points) - short.total()} of {len(points)}",
                own.reasons[kind],
                ", ".join(f"{cause} ({count})" for cause, count in short.most_common(3)),
            )
        )
        what = f"{title}: best {kind} over area and bandwidth"
        targets.append(Target(what, best.ratios[kind], ">=", goal))
    columns = ("figure", "recalled", "as the files", "best point", "points that hold")
    show(title, (*columns, "as the files, because", "elsewhere it falls short for"), rows)
    return targets


def draw(path: Path, title: str, grids: Mapping[str, Sequence[Point]], goals: Goals) -> None:
    """A picture: a row of maps for each name, over area and bandwidth; stars where the paper's
    ratios hold. ``goals``: by "name figure"."""
    from matplotlib.figure import Figure  # noqa: PLC0415  without --plots it need not be installed

    figure = Figure(figsize=(4.6 * len(KINDS), 3.9 * len(grids) + 0.6), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(len(grids), len(KINDS), squeeze=False)
    for row, (name, points) in zip(axes, grids.items(), strict=True):
        for place, kind in zip(row, KINDS, strict=True):
            goal = goals[f"{name} {kind.rpartition(', ')[2]}"]
            _map(place, points, kind, goal)
            place.set_title(f"{name}\n{kind}; star: at least {goal:g} (recalled)", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _map(axes: Any, points: Sequence[Point], kind: str, goal: float) -> None:
    """One figure over area (across) and bandwidth (up)."""
    areas = sorted({point.area for point in points})
    rates = sorted({point.bandwidth for point in points})
    grid = [[0.0] * len(areas) for _ in rates]
    for point in points:
        column, row = areas.index(point.area), rates.index(point.bandwidth)
        ratio = grid[row][column] = point.ratios[kind]
        star = " ★" if ratio >= goal else ""
        colour = "white" if ratio < goal / 2 else "black"
        axes.text(column, row, f"{ratio:.2g}{star}", ha="center", va="center", fontsize=8, c=colour)
    axes.imshow(grid, origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=goal)
    axes.set_xticks(
        range(len(areas)), [f"{area:.{0 if area > 99 else 1}f}" for area in areas], fontsize=8
    )
    axes.set_yticks(range(len(rates)), [f"{rate:g}" for rate in rates], fontsize=8)
    axes.set_xlabel("chip area, mm²", fontsize=8)
    axes.set_ylabel("DRAM, GB/s", fontsize=8)
