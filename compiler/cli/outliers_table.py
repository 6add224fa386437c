"""The screen of explain --outliers."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sardonyx.compiler.outliers import DEVIATIONS, Outliers, TensorOutliers
from sardonyx.passes.ffn_blocks import BLOCK_KINDS, OUTER

_MOST_CHANNELS = 3
"""Channels of a tensor that are named: those with the most outliers."""

_TITLES: dict[str, str] = {
    "x": "x, what the FFN reads",
    "g": "g, what its activation function makes",
    "h": "h, what the FFN makes",
    "y": "y, the residual sum",
}

_NO_ATTENTION = "No attention was measured: no Softmax of the model makes its probabilities."


def print_outliers(path: Path, found: Outliers, console: Console) -> None:
    """Where outliers are, layer by layer; attention; how many quantizers there would be."""
    console.print(
        f"[bold]{escape(str(path))}[/], measured on {found.samples} samples: a value more than "
        f"{DEVIATIONS:g} standard deviations (σ) from the mean of its tensor is an outlier."
    )
    for kind in BLOCK_KINDS:
        console.print(_table(_TITLES[kind], [one for one in found.tensors if one.kind == kind]))
    console.print(_attention_table(found) if found.attention else _NO_ATTENTION)
    console.print(_sites(found))


def _table(title: str, layers: list[TensorOutliers]) -> Table:
    widths = sorted({one.width for one in layers} - {0})
    channels = f": {' or '.join(map(str, widths))} channels" if widths else ""
    table = Table(title=f"{title}{channels}", title_justify="left")
    for name in ("layer", "outlying", "share of the outliers", "largest", "range"):
        table.add_column(name, justify="left" if name.startswith("share") else "right")
    for one in layers:
        table.add_row(str(one.layer), *_row(one))
    return table


def _row(one: TensorOutliers) -> list[str]:
    if not one.width:
        return ["", "calibration never reached it", "", ""]
    named = list(one.shares.items())[:_MOST_CHANNELS]
    shares = ", ".join(f"{channel}: {share:.0%}" for channel, share in named)
    return [
        str(len(one.shares)),
        shares,
        f"{one.channels.largest:.0f} σ",
        f"{one.range.low.min():.3g} to {one.range.high.max():.3g}",
    ]


def _attention_table(found: Outliers) -> Table:
    table = Table(title="Attention, mean of all heads (the most of one)", title_justify="left")
    table.add_column("layer", justify="right")
    table.add_column("on the first position ([CLS])", justify="right")
    table.add_column("on the last position ([SEP])", justify="right")
    for layer, ends in sorted(found.attention.items()):
        cells = (f"{share.mean():.1%} ({share.max():.0%})" for share in ends.shares)
        table.add_row(str(layer), *cells)
    return table


def _sites(found: Outliers) -> str:
    """How many quantizers there would be, in two sentences."""
    roles = ", ".join(f"{n} {role.replace('_', ' ')}" for role, n in found.roles.most_common())
    total, residual = len(found.sites), sum(found.kinds[kind] for kind in OUTER)
    return (
        f"A chip that computes in integers quantizes {total} activations: {roles}. "
        f"x, h and y are {residual} of them, {residual / total:.1%}."
    )
