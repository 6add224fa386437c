"""quantized: the encoded weights and rounded activations of a model, in every form they take."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

from sardonyx.compiler.contents import Contents, PlacedNode, Stored, join
from sardonyx.compiler.notes import (
    ActivationNotes,
    WeightNotes,
    activation_notes,
    all_weight_notes,
)
from sardonyx.compiler.stored import StoredValues
from sardonyx.passes.fused import MICROSOFT
from sardonyx.runtime_ops.ops import DOMAIN, INPUTS

_INTEGER = ("codes", "scale", "zero_point")
"""What holds a weight of integers."""

_SLOTS = {
    (MICROSOFT, "MatMulIntegerToFloat"): (1, 3, 5),
    (MICROSOFT, "DynamicQuantizeMatMul"): (1, 2, 3),
}
"""Inputs that are these, of products that scale their own sums."""

_LOOKUPS = ("Gather", "Slice")
"""Ops that take rows of a table."""


@dataclass(frozen=True)
class Quantized:
    """A weight that a pass encoded. ``uses``: who reads it, and what is noted there; ``parts``:
    what replaced it, by the names of the op's inputs. Weights whose products were merged share
    their parts: each has the columns that its notes say."""

    uses: tuple[tuple[WeightNotes, PlacedNode], ...]
    parts: dict[str, Stored]

    @property
    def notes(self) -> WeightNotes:
        """Those on the first node."""
        return self.uses[0][0]

    @property
    def nodes(self) -> tuple[PlacedNode, ...]:
        """Who reads it."""
        return tuple(node for _, node in self.uses)

    @property
    def path(self) -> str:
        """What the name of the weight began with if it was in the one body that reads it."""
        paths = {node.path for node in self.nodes}
        return join(paths.pop(), "") if len(paths) == 1 else ""

    @property
    def size(self) -> int:
        """Weights in it."""
        (_, shape), *_ = self.notes.originals.values()
        return math.prod(shape)

    @property
    def scales(self) -> int:
        """Scales of integers, or tables of centroids."""
        if "centroids" in self.parts:
            return self.parts["centroids"].shape[0]
        span = self.notes.span
        return span[1] - span[0] if span else math.prod(self.parts["scale"].shape)

    @property
    def outliers(self) -> int:
        """Weights kept in floating point."""
        return self.parts["values"].shape[0] if "values" in self.parts else 0

    @property
    def nbytes(self) -> int:
        """Bytes of the parts, or of its columns of them."""
        span = self.notes.span
        if span is None:
            return sum(part.nbytes for part in self.parts.values())
        width = span[1] - span[0]
        return sum(part.nbytes // part.shape[-1] * width for part in self.parts.values())

    @property
    def digest(self) -> str:
        """A hash of the parts; as good as that of an equal weight whose product is not merged."""
        span = self.notes.span
        if span is None:
            return " ".join(part.digest for part in self.parts.values())
        return " ".join(_digest(part, slice(*span)) for part in self.parts.values())


@dataclass(frozen=True)
class Rounded:
    """An activation that a pass rounded, and the node that does it."""

    notes: ActivationNotes
    node: PlacedNode

    @property
    def names(self) -> set[str]:
        """Its names, when it was measured and now."""
        return {self.notes.activation, self.node.inputs[0]}


def rounded_activations(held: Contents) -> list[Rounded]:
    """All that have our notes."""
    noted = ((activation_notes(placed.node), placed) for placed in held.nodes)
    return [Rounded(notes, placed) for notes, placed in noted if notes and placed.inputs]


def quantized_weights(held: Contents) -> dict[str, Quantized]:
    """All that have our notes and whose parts are constants, by their name; a second one of a name,
    in another body, has the body's in front."""
    groups: dict[tuple[str, str], Quantized] = {}
    for placed in held.nodes:
        for notes in all_weight_notes(placed.node):
            parts = _parts(placed, held, notes) if notes else {}
            if notes and parts:
                key = next(iter(parts.values())).name, notes.columns
                others = groups.get(key, Quantized((), {}))
                uses = (*others.uses, (notes, placed))
                groups[key] = Quantized(uses, others.parts | parts)
    found: dict[str, Quantized] = {}
    for weight in groups.values():
        name = weight.notes.weight
        found[f"{weight.path}{name}" if name in found else name] = weight
    return found


def _parts(placed: PlacedNode, held: Contents, notes: WeightNotes) -> dict[str, Stored]:
    """The constants that hold a weight; empty where one is missing or has not the shape it must."""
    gobo = placed.node.domain == DOMAIN
    names = dict(zip(INPUTS, placed.inputs[1:], strict=False)) if gobo else _integers(placed, held)
    parts = {role: held.tensors[name] for role, name in names.items() if name in held.tensors}
    if gobo:
        fits = len(parts) == len(INPUTS) and all(part.shape for part in parts.values())
    else:
        fits = {"codes", "scale"} <= parts.keys()
    if notes.span:
        first, end = notes.span
        widths = [part.shape[-1] if part.shape else 0 for part in parts.values()]
        fits = fits and first < end and all(end <= width for width in widths)
    return parts if fits else {}


def _integers(placed: PlacedNode, held: Contents) -> dict[str, str]:
    """Names of the constants that hold codes, scale and zero point, by which is which."""
    slots = _SLOTS.get((placed.node.domain, placed.node.op_type))
    reads = [_untransposed(name, held) for name in placed.inputs]
    if slots:
        found = [reads[slot] for slot in slots if slot < len(reads)]
        return dict(zip(_INTEGER, found, strict=False))
    if placed.op == "MatMul" and len(reads) > 1:
        weight = held.makers.get(reads[1])
        found = list(weight.inputs) if weight and weight.op == "DequantizeLinear" else []
        return dict(zip(_INTEGER, [_untransposed(name, held) for name in found], strict=False))
    if placed.op == "MatMulInteger" and len(reads) > 1:
        return {"codes": reads[1], **dict(_scale_behind(placed, held))} | (
            {"zero_point": reads[3]} if len(reads) > 3 else {}
        )
    if placed.op in _LOOKUPS and reads:
        return {"codes": reads[0], **dict(_scale_behind(placed, held))}
    return {}


def _untransposed(name: str, held: Contents) -> str:
    maker = held.makers.get(name)
    return maker.inputs[0] if maker and maker.op == "Transpose" and maker.inputs else name


def _table(name: str, held: Contents) -> str:
    maker = held.makers.get(name)
    return maker.inputs[0] if maker and maker.op in _LOOKUPS and maker.inputs else name


def _scale_behind(placed: PlacedNode, held: Contents) -> Iterator[tuple[str, str]]:
    """What the result of an op on codes is scaled by: in a DequantizeLinear by a constant or rows
    of one, or in a Cast and a Mul by a constant, by rows looked up in one, or by a product with
    one."""
    for made in placed.outputs[:1]:
        for reader in held.readers.get(made, []):
            if reader.op == "DequantizeLinear":
                found = [_table(name, held) for name in reader.inputs[1:]]
                yield from zip(_INTEGER[1:], found, strict=False)
            elif reader.op == "Cast" and placed.op != "Cast":
                yield from _scale_behind(reader, held)
            elif reader.op == "Mul":
                yield from _factors([name for name in reader.inputs if name != made], held)


def _factors(names: list[str], held: Contents) -> Iterator[tuple[str, str]]:
    for name in names:
        maker = held.makers.get(name)
        if maker and maker.op == "Unsqueeze" and maker.inputs:
            maker = held.makers.get(maker.inputs[0])
        if name in held.tensors:
            yield "scale", name
        elif maker and maker.op == "Gather" and maker.inputs:
            yield "scale", maker.inputs[0]
        elif maker and maker.op == "Mul":
            yield from (("scale", other) for other in maker.inputs if other in held.tensors)


def _digest(part: Stored, columns: slice) -> str:
    values = StoredValues(part.tensor).load()[..., columns]
    return hashlib.blake2b(values.tobytes(), digest_size=16).hexdigest()
