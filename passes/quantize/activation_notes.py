"""The record of a rounded activation, and what Netron shows on the node that rounds it."""

from dataclasses import replace

import onnx_graphsurgeon as gs

from sardonyx.passes.activation_sites import Site
from sardonyx.passes.journal import Activation
from sardonyx.passes.quantize.grids import Measured


def activation_entry(node: gs.Node, x: gs.Tensor, found: Measured | None) -> Activation:
    """The record of an activation that ``node`` reads rounded, on the grid that was found for it;
    None: one that is found as the model runs."""
    if found is None:
        return Activation(x.name, node.name, "uint8/tensor", None, "dynamic")
    kind = found.tensor_class
    return Activation(
        x.name,
        node.name,
        f"{found.grid.dtype}/tensor",
        (found.range.low, found.range.high),
        found.range.method,
        found.range.curve,
        kind.name,
        kind.reason,
        found.sqnr_db,
        found.product_sqnr_db,
    )


def site_entry(node: gs.Node, site: Site, found: Measured, why_wide: str) -> Activation:
    """The record of an activation that is rounded where it is made, whatever reads it."""
    return replace(
        activation_entry(node, site.tensor, found),
        product_sqnr_db=None,
        role=site.role,
        kind=site.kind,
        layer=site.layer,
        group=site.group,
        why_wide=why_wide,
    )


def activation_notes(entry: Activation) -> dict[str, object]:
    """Notes beside those of a weight, as one op may round its activation itself."""
    optional = {
        "activation_class": ": ".join(filter(None, (entry.tensor_class, entry.class_reason))),
        "activation_sqnr_db": _decibels(entry.sqnr_db),
        "product_sqnr_db": _decibels(entry.product_sqnr_db),
        "activation_place": _place(entry),
        "activation_wide": entry.why_wide,
    }
    measured = {} if entry.range is None else {"activation_range": _range(*entry.range), **optional}
    return {
        "activation": entry.name,
        "activation_format": entry.format,
        "activation_method": entry.method,
        **{key: note for key, note in measured.items() if note},
    }


def _place(entry: Activation) -> str:
    """As "sum, y, layer 3, group 2"."""
    numbers = {"layer": entry.layer, "group": entry.group}
    parts = [f"{name} {number}" for name, number in numbers.items() if number is not None]
    return ", ".join(filter(None, (entry.role, entry.kind, *parts)))


def _range(low: float, high: float) -> str:
    return f"{low:.6g} to {high:.6g}"


def _decibels(db: float | None) -> str:
    return "" if db is None else f"{db:.2f}"
