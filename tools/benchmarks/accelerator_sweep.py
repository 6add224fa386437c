"""What the two sweeps over area and bandwidth share: tables, targets, plots of their points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from accelerator_chips import FIGURES, SCOPES, Point
from common import Target, show

KINDS = tuple(f"{scope}, {figure}" for scope in SCOPES for figure in FIGURES)


_COLOURS = 64
"""Of a picture: enough for its maps, and a third of the bytes."""


@dataclass(frozen=True)
class Grid:
    """Points over area and bandwidth, ``own``: of the chips as their files have them (GOBO's with
    as many tiles as the other's area holds), and the paper's ratio of each figure."""

    points: Sequence[Point]
    own: Point
    goals: Mapping[str, float]

    def goal(self, kind: str) -> float:
        """The paper's ratio."""
        return self.goals[kind.rpartition(", ")[2]]

    def short(self, kind: str) -> Counter[str]:
        """Points that fall short of it, by what takes most there."""
        goal = self.goal(kind)
        return Counter(p.causes[kind] for p in self.points if p.ratios[kind] < goal)

    def holds(self, kind: str) -> str:
        """How many points come to it."""
        count = len(self.points)
        return f"{count - self.short(kind).total()} of {count}"


def table(title: str, grid: Grid) -> list[Target]:
    """Print where the points come to the paper's ratios, and what stops those that do not.

    The targets are those ratios on the chips as their files have them: the best of many points says
    that a ratio can be had somewhere, not that it is what a chip gives.
    """
    rows, targets = [], []
    for kind in KINDS:
        goal, own = grid.goal(kind), grid.own.ratios[kind]
        best = max(grid.points, key=lambda point: point.ratios[kind])
        causes = grid.short(kind).most_common(3)
        rows.append(
            (
                kind,
                f"{goal:g}",
                f"{own:.2f}",
                grid.own.reasons[kind],
                grid.holds(kind),
                f"{best.ratios[kind]:.2f}: {best.area:.1f} mm2, {best.bandwidth:g} GB/s",
                ", ".join(f"{cause} ({count})" for cause, count in causes),
            )
        )
        what = f"{title}: {kind}, as their files have them ({grid.holds(kind)} points hold)"
        targets.append(Target(what, own, ">=", goal))
    columns = ("figure", "recalled", "as the files", "because", "points that hold")
    show(title, (*columns, "best point", "the others fall short for"), rows)
    return targets


def summary(title: str, grids: Mapping[str, Grid]) -> None:
    """Print a row for each grid: the chips as their files have them, and the points around."""
    rows = []
    for name, grid in grids.items():
        cells = []
        for kind in KINDS:
            ratios = [point.ratios[kind] for point in grid.points]
            around = f"{min(ratios):.2f} to {max(ratios):.2f}; {grid.holds(kind)}"
            cells.append(f"{grid.own.ratios[kind]:.2f} ({around})")
        rows.append((name, " / ".join(f"{goal:g}" for goal in grid.goals.values()), *cells))
    said = "as the files (least to most over area and bandwidth; points that hold)"
    show(f"{title}; {said}", ("", "recalled", *KINDS), rows)


def draw(path: Path, title: str, grids: Mapping[str, Grid]) -> None:
    """A picture: a row of maps for each grid, over area and bandwidth; stars where the paper's
    ratios hold."""
    from matplotlib.figure import Figure  # noqa: PLC0415  without --plots it need not be installed
    from PIL import Image  # noqa: PLC0415  comes with it

    figure = Figure(figsize=(3.2 * len(KINDS), 2.3 * len(grids) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(grids), len(KINDS), squeeze=False)
    for row, (name, grid) in zip(axes, grids.items(), strict=True):
        for place, kind in zip(row, KINDS, strict=True):
            _map(place, grid.points, kind, grid.goal(kind))
            place.set_title(f"{name}\n{kind}; ★: {grid.goal(kind):g} or more", fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=85)
    Image.open(drawn).quantize(_COLOURS).save(path, optimize=True)


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
        axes.text(column, row, f"{ratio:.3g}{star}", ha="center", va="center", fontsize=6, c=colour)
    axes.imshow(grid, origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=goal)
    axes.set_xticks(
        range(len(areas)), [f"{area:.{0 if area > 99 else 1}f}" for area in areas], fontsize=6
    )
    axes.set_yticks(range(len(rates)), [f"{rate:g}" for rate in rates], fontsize=6)
    axes.set_xlabel("chip area, mm²", fontsize=6)
    axes.set_ylabel("DRAM, GB/s", fontsize=6)
