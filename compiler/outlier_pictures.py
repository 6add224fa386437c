"""outlier pictures: the range of every channel, layer by layer, the outlying ones marked."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sardonyx.compiler.outliers import DEVIATIONS, Outliers, TensorOutliers
from sardonyx.models.optional import optional
from sardonyx.passes.ffn_blocks import BLOCK_KINDS
from sardonyx.runtime_ops.errors import InputError

_COLUMNS = 3
"""Layers side by side."""

_WIDE = 3.0
"""Times the median channel's range above which one with outliers is marked. Of an activation
function nearly all channels hold some, and only few of these widen the range of the tensor."""

_NAMED = 3
"""Channels of a layer that bear their number: the widest of the marked ones."""

_ROOM = 0.2
"""Of the height of all ranges, above and below them: numbers stand there."""

_RANGE, _OUTLYING = "#4477aa", "#cc3311"


@dataclass(frozen=True)
class Pictures:
    """Where pictures go. Raises InputError where that is no folder, or matplotlib, which draws
    them, is missing."""

    folder: Path
    _figures: Any = field(init=False)

    def __post_init__(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"'{self.folder}' is a file: --plot names a folder for the pictures")
        try:
            figures = optional("matplotlib.figure")
        except ImportError as error:
            raise InputError(
                "matplotlib, which draws the pictures, is missing: pip install 'sardonyx[plots]'"
            ) from error
        object.__setattr__(self, "_figures", figures)

    def draw(self, found: Outliers) -> list[Path]:
        """A picture of each kind of tensor: ``outliers-x.png`` and so on, over older ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        drawn = []
        for kind in BLOCK_KINDS:
            layers = [one for one in found.tensors if one.kind == kind and one.width]
            if layers:
                drawn.append(self.folder / f"outliers-{kind}.png")
                self._figure(kind, layers).savefig(drawn[-1], dpi=120)
        return drawn

    def _figure(self, kind: str, layers: list[TensorOutliers]) -> Any:
        columns = min(_COLUMNS, len(layers))
        rows = -(-len(layers) // columns)
        size = (4.2 * columns, 1.9 * rows + 0.8)
        figure = self._figures.Figure(figsize=size, layout="constrained")
        figure.suptitle(
            f"{kind}: least and largest value of each channel; red: with values beyond "
            f"{DEVIATIONS:g} σ of the tensor, and over {_WIDE:g} times as wide as the median"
        )
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, one in zip(grid.flat, layers, strict=False):
            _draw_layer(axes, one)
        for axes in grid.flat[len(layers) :]:
            axes.set_axis_off()
        figure.supxlabel("channel")
        figure.supylabel("value")
        return figure


def _draw_layer(axes: Any, one: TensorOutliers) -> None:
    channels, low, high = np.arange(one.width), one.range.low, one.range.high
    marked = _marked(one)
    axes.axhline(0, color=_RANGE, linewidth=0.8)  # ranges less than a dot high are not drawn
    for which, color in ((~marked, _RANGE), (marked, _OUTLYING)):
        axes.vlines(channels[which], low[which], high[which], color=color, linewidth=0.8)
    widest = np.argsort(np.where(marked, low - high, 0.0), kind="stable")
    for channel in widest[: min(_NAMED, np.count_nonzero(marked))]:
        up = high[channel] > -low[channel]
        axes.annotate(
            str(channel),
            (channel, high[channel] if up else low[channel]),
            color=_OUTLYING,
            fontsize=7,
            ha="left" if channel < one.width / 2 else "right",
            va="bottom" if up else "top",
        )
    axes.margins(y=_ROOM)
    axes.set_title(f"layer {one.layer}", fontsize=9)
    axes.set_xlim(-1, one.width)
    axes.tick_params(labelsize=7)


def _marked(one: TensorOutliers) -> NDArray[np.bool_]:
    """Which channels hold outliers, and are wide."""
    spread = one.range.high - one.range.low
    return np.asarray((one.channels.beyond > 0) & (spread > _WIDE * np.median(spread)))
