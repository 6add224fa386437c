"""explain: what a compile did to a tensor or node and why, from the notes in the compiled file."""

import difflib
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sardonyx.compiler.inventory import (
    Inventory,
    PlacedNode,
    Quantized,
    Stored,
    take_inventory,
)
from sardonyx.compiler.notes import left_alone, packed_in, pass_of, recipe_of, weight_notes
from sardonyx.compiler.report import CompileReport, TensorEntry
from sardonyx.runtime_ops.errors import InputError

_MOST_NAMES = 4
"""Readers or suggestions that are named before the rest is only counted."""

_ROLES = {
    "indices": "the packed indices",
    "centroids": "the table of centroids",
    "positions": "the places of the outliers",
    "values": "the outliers",
}


@dataclass(frozen=True)
class Answer:
    """What became of a tensor or node: a verdict, and facts as (label, value)."""

    verdict: str
    facts: list[tuple[str, str]]


@dataclass(frozen=True)
class Explainer:
    """Answers about one file. ``recipe``: empty if it was not compiled; ``reasons``: why constants
    were left alone, by name."""

    held: Inventory
    recipe: str
    reasons: dict[str, str]

    @property
    def quantized(self) -> list[TensorEntry]:
        """The encoded weights, as a report lists them."""
        return [_entry(weight) for weight in self.held.quantized.values()]

    @property
    def left_alone(self) -> dict[str, list[str]]:
        """Names of the constants that were left alone, by reason."""
        found: dict[str, list[str]] = defaultdict(list)
        for name, reason in self.reasons.items():
            found[reason].append(name)
        return found

    @property
    def others(self) -> list[Stored]:
        """Constants that are neither part of an encoded weight nor left alone for a reason."""
        parts = {p.name for w in self.held.quantized.values() for p in w.parts.values()}
        known = parts | self.reasons.keys()
        return [tensor for name, tensor in self.held.tensors.items() if name not in known]

    def about(self, name: str) -> Answer:
        """The answer for a tensor or node, also for one that is gone.

        Raises InputError, with names like it, where the model neither has nor had it.
        """
        for find in (self._weight, self._constant, self._packed, self._node, self._value):
            answer = find(name)
            if answer:
                return answer
        known = sorted(self._names())
        raise InputError(f"'{self.held.path}' has no tensor or node '{name}'{_like(name, known)}")

    def _names(self) -> set[str]:
        weights = {name for w in self.held.quantized.values() for name in w.notes.originals}
        nodes = {node.name for node in self.held.nodes}
        packed = {packed_in(node.node) for node in self.held.nodes}
        values = self.held.tensors.keys() | self.held.readers.keys()
        return (weights | packed | nodes | values) - {""}

    def _weight(self, name: str) -> Answer | None:
        for weight in self.held.quantized.values():
            if name in weight.notes.originals:
                return _quantized(
                    weight, f"quantized by pass {weight.notes.by} of recipe {self.recipe}"
                )
            for role, part in weight.parts.items():
                if name == part.name:
                    verdict = f"{_ROLES[role]} of weight '{weight.notes.weight}'"
                    return _quantized(weight, verdict)
        return None

    def _constant(self, name: str) -> Answer | None:
        tensor = self.held.tensors.get(name)
        if tensor is None:
            return None
        readers = self.held.readers.get(name, [])
        facts = [("holds", f"{tensor.dtype} {tensor.shape}"), ("bytes", f"{tensor.nbytes:,}")]
        facts += [("read by", _listed(map(_label, readers)))] if readers else []
        return Answer(self._why_not(tensor, readers), facts)

    def _why_not(self, tensor: Stored, readers: list[PlacedNode]) -> str:
        if not self.recipe:
            return "as it came: the model was not compiled by Sardonyx"
        reason = self.reasons.get(tensor.name) or self.reasons.get(tensor.tensor.name)
        if reason:
            return f"left alone: {reason}"
        return f"not touched: it is read by {_label(readers[0]) if readers else 'nothing'}"

    def _packed(self, name: str) -> Answer | None:
        nodes = [node for node in self.held.nodes if name and packed_in(node.node) == name]
        if not nodes:
            return None
        notes = [weight_notes(node.node) for node in nodes]
        parts = [
            note.weight if note else ", ".join(node.inputs[1:])
            for node, note in zip(nodes, notes, strict=True)
        ]
        facts = [("parts", _listed(parts)), ("read by", _listed(map(_label, nodes)))]
        return Answer("taken apart: each part is a weight of its own", facts)

    def _node(self, name: str) -> Answer | None:
        node = next((node for node in self.held.nodes if node.name == name), None)
        if node is None:
            return None
        notes = weight_notes(node.node)
        weights = [weight for weight in self.held.quantized.values() if node in weight.nodes]
        if notes and weights:
            return _quantized(weights[0], f"{notes.replaces} became {node.op}")
        return Answer(self._untouched(node), _wiring(node))

    def _untouched(self, node: PlacedNode) -> str:
        if node.where == "function":
            return f"{node.op}, part of function {node.path}"
        made_by = pass_of(node.node)
        if made_by:
            return f"{node.op}, made by pass {made_by} of recipe {self.recipe}"
        return f"{node.op}, not touched: it has no weight that was quantized"

    def _value(self, name: str) -> Answer | None:
        readers = self.held.readers.get(name, [])
        maker = next((node for node in self.held.nodes if name in node.outputs), None)
        inputs = {value.name for value in self.held.model.graph.input}
        if maker is None and name not in inputs:
            return None
        facts = [("made by", _label(maker))] if maker else []
        facts += [("read by", _listed(map(_label, readers)))] if readers else []
        verdict = "a value computed when the model runs" if maker else "an input of the model"
        return Answer(verdict, facts)


def explainer(path: Path, report: CompileReport | None = None) -> Explainer:
    """An Explainer of a file; ``report``: of the compile that wrote it, if kept.

    Raises InputError where the file is no model or the report is of another one.
    """
    held = take_inventory(path)
    reasons = left_alone(held.model)
    if report:
        noted = {(weight.notes.weight, weight.notes.bits) for weight in held.quantized.values()}
        strange = {(entry.name, entry.bits) for entry in report.tensors} ^ noted
        if strange:
            name, bits = min(strange)
            raise InputError(
                f"the report is not of '{path}': only one of them has '{name}' in {bits} bits"
            )
        reasons |= {skip.name: skip.reason for skip in report.skipped}
    recipe = recipe_of(held.model) or (report.recipe if report else "")
    return Explainer(held, recipe or ("unknown" if held.quantized else ""), reasons)


def _entry(weight: Quantized) -> TensorEntry:
    notes, outliers = weight.notes, weight.parts["values"].shape[0]
    role, _, layer = notes.role.partition(", layer ")
    return TensorEntry(
        name=notes.weight,
        node=weight.nodes[0].name,
        op=notes.replaces,
        role=role,
        layer=int(layer) if layer else None,
        format=notes.format,
        bits=notes.bits,
        groups=weight.parts["centroids"].shape[0],
        outliers=outliers,
        outlier_share=outliers / weight.size,
        sqnr_db=notes.sqnr_db if math.isfinite(notes.sqnr_db) else None,
        bytes_before=notes.nbytes[0],
        bytes_after=notes.nbytes[1],
        compute=notes.compute,
    )


def _quantized(weight: Quantized, verdict: str) -> Answer:
    notes, parts = weight.notes, weight.parts
    outliers, dtype = parts["values"].shape[0], parts["values"].dtype
    lossless = not math.isfinite(notes.sqnr_db)
    facts = [
        ("weight", "\n".join(notes.originals)),
        ("was", f"{notes.original}, read by {notes.replaces}"),
        ("role", notes.role),
        ("is", f"{notes.format}: {notes.bits}-bit indices into {_tables(weight)}"),
        ("outliers", f"{outliers:,} of {weight.size:,} ({notes.outlier_share}), kept in {dtype}"),
        ("SQNR", "exact: nothing was lost" if lossless else f"{notes.sqnr_db:.2f} dB"),
        *([("products", notes.compute)] if notes.compute != "fp32" else []),
        ("bytes", _shrunk(*notes.nbytes)),
        ("read by", _listed(map(_label, weight.nodes))),
        ("stored as", "\n".join(map(_sized, parts.values()))),
    ]
    return Answer(verdict, facts)


def _tables(weight: Quantized) -> str:
    groups, count = weight.parts["centroids"].shape[0], 1 << weight.notes.bits
    if groups == 1:
        return f"{count} centroids"
    return f"{groups} tables of {count} centroids, one for each group of columns"


def _shrunk(before: int, after: int) -> str:
    return f"{before:,} -> {after:,}, {before / after:.1f} times smaller"


def _sized(tensor: Stored) -> str:
    return f"{tensor.name}: {tensor.dtype} {tensor.shape}, {tensor.nbytes:,} bytes"


def _wiring(node: PlacedNode) -> list[tuple[str, str]]:
    reads = [name for name in node.inputs if name]
    facts = [("reads", _listed(reads))] if reads else []
    return [*facts, ("makes", _listed(node.outputs))]


def _label(node: PlacedNode) -> str:
    return f"{node.op} '{node.name}'"


def _listed(names: Iterable[str]) -> str:
    """One a line, the first few."""
    lines = list(names)
    more = [f"and {len(lines) - _MOST_NAMES} more"] if len(lines) > _MOST_NAMES else []
    return "\n".join([*lines[:_MOST_NAMES], *more])


def _like(name: str, known: list[str]) -> str:
    """A question that names what may be meant; else what to do."""
    holding = [other for other in known if name.lower() in other.lower()]
    close = sorted(holding, key=len) or difflib.get_close_matches(name, known, _MOST_NAMES)
    if not close:
        return ": 'sardonyx explain' without a name shows what there is"
    more = f" (and {len(close) - _MOST_NAMES} more)" if len(close) > _MOST_NAMES else ""
    return f": did you mean {' or '.join(map(repr, close[:_MOST_NAMES]))}{more}?"
