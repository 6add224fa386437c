"""answer: what is said of a tensor or node: a verdict, and facts in words."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sardonyx.compiler.contents import PlacedNode, Stored
from sardonyx.compiler.inventory import Inventory
from sardonyx.compiler.notes import WeightNotes, all_weight_notes, packed_in
from sardonyx.compiler.quantized import Quantized, Rounded
from sardonyx.compiler.report import ActivationEntry, TensorEntry
from sardonyx.passes.cleanup.movements import MOVEMENTS
from sardonyx.passes.metadata import SMOOTHED

MOST_NAMES = 4
"""Readers or suggestions that are named before the rest is only counted."""

SCALED = "a scale for each channel was multiplied into it"

ROLES = {
    "indices": "the packed indices",
    "centroids": "the table of centroids",
    "positions": "the places of the outliers",
    "values": "the outliers",
    "codes": "the codes",
    "scale": "the scale",
    "zero_point": "the zero point",
}


@dataclass(frozen=True)
class Answer:
    """What became of a tensor or node: a verdict, and facts as (label, value)."""

    verdict: str
    facts: list[tuple[str, str]]


def weight_entry(weight: Quantized) -> TensorEntry:
    """An encoded weight, as a report lists it."""
    notes, outliers = weight.notes, weight.outliers
    role, _, layer = notes.role.partition(", layer ")
    return TensorEntry(
        name=notes.weight,
        node=notes.replaced_node or weight.nodes[0].name,
        op=notes.replaces,
        role=role,
        layer=int(layer) if layer else None,
        format=notes.format,
        bits=notes.bits,
        groups=weight.scales,
        outliers=outliers,
        outlier_share=outliers / weight.size,
        sqnr_db=finite(notes.sqnr_db),
        bytes_before=notes.nbytes[0],
        bytes_after=notes.nbytes[1],
        compute=notes.compute,
        slice_of=notes.slice_of,
    )


def weight_answer(weight: Quantized, verdict: str) -> Answer:
    """All that is known of an encoded weight, behind a verdict."""
    notes, parts = weight.notes, weight.parts
    lossless = not math.isfinite(notes.sqnr_db)
    facts = [
        ("weight", "\n".join(notes.originals)),
        ("was", f"{notes.original}, read by {notes.replaces}"),
        ("role", notes.role),
        ("is", f"{notes.format}: {notes.bits}-bit {_coding(weight)}"),
        *_outliers(weight),
        *_smoothing(notes),
        ("SQNR", "exact: nothing was lost" if lossless else f"{notes.sqnr_db:.2f} dB"),
        *([("products", notes.compute)] if notes.compute != "fp32" else []),
        ("bytes", _shrunk(*notes.nbytes)),
        ("read by", listed(map(label, weight.nodes))),
        ("stored as", "\n".join([*map(sized, parts.values()), *_columns(weight)])),
    ]
    return Answer(verdict, facts)


def _smoothing(notes: WeightNotes) -> list[tuple[str, str]]:
    """What was multiplied into a weight before it was encoded."""
    if notes.smooth_into != "nothing":
        how = f"its rows, alpha {notes.smooth_alpha}: products of {notes.smooth_db} dB"
        return [("smoothed", f"{how}; its activation is divided in {notes.smooth_into}")]
    return [("smoothed", SCALED)] if notes.weight.endswith(SMOOTHED) else []


def _outliers(weight: Quantized) -> list[tuple[str, str]]:
    if "values" not in weight.parts:
        return []
    share, dtype = weight.notes.outlier_share, weight.parts["values"].dtype
    return [("outliers", f"{weight.outliers:,} of {weight.size:,} ({share}), kept in {dtype}")]


def _columns(weight: Quantized) -> list[str]:
    """Where a weight lies in constants that it shares."""
    if weight.notes.span is None:
        return []
    first, end = weight.notes.span
    return [f"of these, columns {first:,} to {end - 1:,}"]


def _coding(weight: Quantized) -> str:
    groups, count = weight.scales, 1 << weight.notes.bits
    if "codes" in weight.parts:
        each = "rows" if weight.notes.replaces == "Gather" else "columns"
        return f"codes, a scale for each of {groups:,} {each}" if groups > 1 else "codes, one scale"
    if groups == 1:
        return f"indices into {count} centroids"
    return f"indices into {groups} tables of {count} centroids, one for each group of columns"


def activation_entry(one: Rounded, held: Inventory) -> ActivationEntry:
    """A rounded activation, as a report lists it."""
    notes = one.notes
    tensor_class, _, reason = notes.activation_class.partition(": ")
    role, kind, layer, group = notes.place
    readers = _readers(one.node, held)
    return ActivationEntry(
        name=notes.activation,
        node=_old_name(readers[0] if readers else one.node),
        format=notes.activation_format,
        bits=notes.bits,
        range=notes.range,
        method=notes.activation_method,
        **{"class": tensor_class},
        class_reason=reason,
        sqnr_db=finite(notes.activation_sqnr_db),
        product_sqnr_db=finite(notes.product_sqnr_db),
        curve=[],
        role=role,
        kind=kind,
        layer=layer,
        group=group,
        why_wide=notes.activation_wide,
    )


def _old_name(product: PlacedNode) -> str:
    """The name of a product before it was one of integers, or merged with others."""
    noted = next(filter(None, all_weight_notes(product.node)), None)
    return noted.replaced_node if noted and noted.replaced_node else product.name


def _readers(rounding: PlacedNode, held: Inventory) -> list[PlacedNode]:
    """Who reads what a node rounds, moved or dequantized or as it is; none if that node does."""
    if "QuantizeLinear" not in rounding.node.op_type:
        return []
    found, pending = [], [*rounding.outputs[:1]]
    while pending:
        for reader in held.readers.get(pending.pop(), []):
            passed_on = reader.op == "DequantizeLinear" or reader.op in MOVEMENTS
            behind = [name for name in reader.outputs if passed_on and name in held.readers]
            pending += behind
            found += [] if behind else [reader]
    return found


def finite(db: float | None) -> float | None:
    """Decibels; None where nothing was lost or measured."""
    return db if db is not None and math.isfinite(db) else None


def how_rounded(one: Rounded) -> str:
    """To what, by which method, over which range."""
    notes, dtype = one.notes, one.notes.activation_format.partition("/")[0]
    if notes.range is None:
        return f"rounded to {dtype}, over the range that it has in each run"
    low, high = notes.range
    return f"rounded to {dtype} by {notes.activation_method}: {low:.4g} to {high:.4g}"


def rounding_facts(one: Rounded) -> list[tuple[str, str]]:
    """What was measured of an activation."""
    notes = one.notes
    facts = [
        ("place", notes.activation_place),
        ("wide", notes.activation_wide),
        ("class", notes.activation_class),
        ("SQNR", _decibels(notes.activation_sqnr_db)),
        ("products", _decibels(notes.product_sqnr_db, "come out with ")),
    ]
    return [fact for fact in facts if fact[1]]


def _decibels(db: float | None, before: str = "") -> str:
    if db is None:
        return ""
    return f"{before}{db:.1f} dB" if math.isfinite(db) else "exact: nothing was lost"


def packed_names(node: PlacedNode) -> list[str]:
    """What a node's weights were cut from."""
    parts = [notes.cut_from for notes in all_weight_notes(node.node) if notes]
    return [name for name in (packed_in(node.node), *parts) if name]


def _shrunk(before: int, after: int) -> str:
    return f"{before:,} -> {after:,}, {before / after:.1f} times smaller"


def sized(tensor: Stored) -> str:
    """A constant's name, type, shape and bytes."""
    return f"{tensor.name}: {tensor.dtype} {tensor.shape}, {tensor.nbytes:,} bytes"


def wiring_facts(node: PlacedNode) -> list[tuple[str, str]]:
    """What a node reads and makes."""
    reads = [name for name in node.inputs if name]
    facts = [("reads", listed(reads))] if reads else []
    return [*facts, ("makes", listed(node.outputs))]


def label(node: PlacedNode) -> str:
    """A node by op and name."""
    return f"{node.op} '{node.name}'"


def listed(names: Iterable[str]) -> str:
    """One a line, the first few."""
    lines = list(names)
    more = [f"and {len(lines) - MOST_NAMES} more"] if len(lines) > MOST_NAMES else []
    return "\n".join([*lines[:MOST_NAMES], *more])
