"""A picture of the table of groups: cosine over K, a panel for each model and set of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sardonyx.models.optional import optional

COLORS = {"none": "tab:gray", "global": "tab:blue", "layer": "tab:orange"}
STYLES = {"equal": "--", "optimal": "-"}


def figures() -> Any:
    """The module that draws. Raises ImportError where it is missing."""
    return optional("matplotlib.figure")


def draw(
    models: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]], output: Path
) -> None:
    """Cosines by model, set of tensors, order and sizes, and K."""
    sets = list(next(iter(models.values())))
    size = (5.5 * len(sets), 3.6 * len(models))
    figure = figures().Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(models), len(sets), squeeze=False, sharey="row")
    for row, (title, found) in zip(axes, models.items(), strict=True):
        for panel, (tensors, ways) in zip(row, found.items(), strict=True):
            for way, cosines in ways.items():
                order, sizes = way.split(", ")
                style = {"color": COLORS[order], "linestyle": STYLES[sizes], "marker": "."}
                panel.plot(list(cosines), list(cosines.values()), label=way, **style)
            panel.set_title(f"{title}, {{{tensors}}} in K groups", fontsize=10)
            panel.grid(alpha=0.3)
        row[0].set_ylabel("mean cosine to FP32")
    axes[0][-1].legend(title="order, sizes", fontsize=8)
    figure.savefig(output, dpi=120)
