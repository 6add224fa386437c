"""notes: what a compile says in the file about itself, and how `explain` and `diff` read it back.

On the model: the recipe, what was decided by its outputs, and every constant that was left alone,
by reason. On each rewritten node:
the weight's name, its format, what it cost and what it lost. On each node that rounds an
activation: its name, its range and how that was found. All are ``metadata_props`` whose keys begin
with ``sardonyx.``, so that Netron shows them.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar

import onnx
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import PREFIX

_T = TypeVar("_T", bound=BaseModel)

_DIM = "[1-9][0-9]{0,17}"
_ORIGINAL = rf"\w+ \[({_DIM}(, {_DIM}){{0,7}})?\]"
"""Element type and shape. Patterns bound all numbers: another hand may have been at the notes."""

_NUMBER = r"-?[0-9]{1,20}(\.[0-9]{1,20})?(e[+-][0-9]{1,3})?"

_PLACE = "[0-9]{1,9}"

_RECIPE, _LEFT_ALONE = f"{PREFIX}recipe", f"{PREFIX}left_alone"
_DECIDED = f"{PREFIX}decided"

_REASONS = TypeAdapter(dict[str, list[str]])
"""Names by reason."""


class WeightNotes(BaseModel):
    """What a pass noted on a node whose weight it encoded."""

    model_config = ConfigDict(frozen=True)

    by: str = Field(alias="pass", description="the pass")
    replaces: str = Field(description="op of the node that was here")
    replaced_node: str = Field(default="", description="name of the node that was here")
    weight: str = Field(description="name of the constant that held the weight")
    original: str = Field(pattern=f"^{_ORIGINAL}$", description="its element type and shape")
    tied: str = Field(
        default="",
        pattern=rf"^(.*: {_ORIGINAL}\n?)*$",
        description="NAME: ORIGINAL of others with the same contents, one a line",
    )
    role: str = Field(
        pattern=r"^\w+(, layer [0-9]{1,18})?$",
        description="what the weight is for, and in which layer",
    )
    format: str = Field(description="number format, as codebook3/tensor")
    bits: int = Field(ge=1, le=32)
    outlier_share: str
    sqnr_db: float = Field(description="inf: nothing was lost")
    compute: str = Field(default="fp32", description="precision of activations in its products")
    bytes: str = Field(pattern=r"^[0-9]{1,18} -> [1-9][0-9]{0,17}$", description="before and after")
    smooth_into: str = Field(default="nothing", description="what its activation is divided in")
    smooth_db: str = Field(default="", description="of its products, by which that was decided")
    smooth_alpha: str = Field(default="", description="how much of the range it took over")
    bias: str = Field(default="", description="name of a constant that is rounded with it")
    cut_from: str = Field(default="", alias="from", description="constant it was a part of")
    slice_of: str = Field(default="", description="matrix that it is some rows or columns of")
    slice: str = Field(default="", description="which, as rows 0:34")
    columns: str = Field(
        default="",
        pattern=r"^([0-9]{1,9} to [0-9]{1,9})?$",
        description="of the constants that hold it, where products were merged",
    )

    @property
    def nbytes(self) -> tuple[int, int]:
        """Bytes before and after."""
        before, _, after = self.bytes.partition(" -> ")
        return int(before), int(after)

    @property
    def span(self) -> tuple[int, int] | None:
        """The columns that it has of the constants that hold it; None: all."""
        first, _, end = self.columns.partition(" to ")
        return (int(first), int(end)) if end else None

    @property
    def originals(self) -> dict[str, tuple[str, list[int]]]:
        """Element types and shapes of all constants that held the weight, by name."""
        lines = [f"{self.weight}: {self.original}", *filter(None, self.tied.split("\n"))]
        parts = [line.rpartition(": ") for line in lines]
        kinds = {name: kind.partition(" ") for name, _, kind in parts}
        return {name: (dtype, json.loads(shape)) for name, (dtype, _, shape) in kinds.items()}


class ActivationNotes(BaseModel):
    """What a pass noted on a node that rounds its first input."""

    model_config = ConfigDict(frozen=True)

    activation: str = Field(description="its name when it was measured")
    activation_format: str = Field(pattern="^u?int(8|16)/tensor$", description="as uint8/tensor")
    activation_method: str = Field(description="how its range was found, as kl-symmetric")
    activation_range: str = Field(
        default="",
        pattern=f"^({_NUMBER} to {_NUMBER})?$",
        description="what does not saturate; empty: found at run time",
    )
    activation_class: str = Field(default="", description="of its histogram, and why")
    activation_sqnr_db: float | None = None
    product_sqnr_db: float | None = Field(default=None, description="of products that read it")
    activation_place: str = Field(
        default="",
        pattern=rf"^(\w+(, [xghyr])?(, layer {_PLACE})?(, group {_PLACE})?)?$",
        description="what makes it, as sum, y, layer 3, group 2; empty: not rounded there",
    )
    activation_wide: str = Field(default="", description="why it has more than 8 bits")

    @property
    def bits(self) -> int:
        """Of a code."""
        return int(self.activation_format.partition("/")[0].lstrip("uint"))

    @property
    def place(self) -> tuple[str, str, int | None, int | None]:
        """Role, kind, layer and group of what makes it."""
        role, *rest = self.activation_place.split(", ")
        kind = next((part for part in rest if len(part) == 1), "")
        numbers = {name: int(place) for name, _, place in (p.partition(" ") for p in rest) if place}
        return role, kind, numbers.get("layer"), numbers.get("group")

    @property
    def range(self) -> tuple[float, float] | None:
        """What does not saturate; None: found at run time."""
        low, _, high = self.activation_range.partition(" to ")
        return (float(low), float(high)) if high else None


def write_notes(model: onnx.ModelProto, recipe: str, journal: Journal) -> None:
    """Put the notes of a compile that changed it on the model, in place of earlier ones."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for skip in journal.skipped:
        reasons[skip.reason].append(skip.name)
    props = {prop.key: prop.value for prop in model.metadata_props}
    props[_RECIPE] = recipe
    props[_LEFT_ALONE] = json.dumps(reasons, indent=0, ensure_ascii=False)
    props.pop(_DECIDED, None)
    if journal.decided:
        lines = (f"{one.by} chose {one.what}: {one.reason}" for one in journal.decided)
        props[_DECIDED] = "\n".join(lines)
    onnx.helper.set_model_props(model, props)


def recipe_of(model: onnx.ModelProto) -> str:
    """Name of the recipe the model was compiled with; empty if it was not."""
    return _notes(model.metadata_props).get("recipe", "")


def decided(model: onnx.ModelProto) -> list[str]:
    """What passes chose by the model's outputs, in a sentence each."""
    written = _notes(model.metadata_props).get("decided", "")
    return written.split("\n") if written else []


def left_alone(model: onnx.ModelProto) -> dict[str, str]:
    """Why each constant was left alone, by its name."""
    written = _notes(model.metadata_props).get("left_alone", "{}")
    try:
        reasons = _REASONS.validate_json(written)
    except ValidationError:  # another hand was at it
        return {}
    return {name: reason for reason, names in reasons.items() for name in names}


def pass_of(node: onnx.NodeProto) -> str:
    """The pass that made a node; empty if it was there."""
    return _notes(node.metadata_props).get("pass", "")


def packed_in(node: onnx.NodeProto) -> str:
    """The constant that the node's weight was cut from; empty if it was one by itself."""
    return _notes(node.metadata_props).get("from", "")


def merged_nodes(node: onnx.NodeProto) -> list[str]:
    """Names of the nodes that a node was merged from; none of most."""
    merged = _notes(node.metadata_props).get("merged", "")
    return merged.split("\n") if merged else []


def weight_notes(node: onnx.NodeProto) -> WeightNotes | None:
    """The notes on a node that took the place of another; None where there are none of ours."""
    return _valid(WeightNotes, _notes(node.metadata_props))


def all_weight_notes(node: onnx.NodeProto) -> list[WeightNotes | None]:
    """The notes on a node's weight; if it was merged from several, on that of each."""
    noted = _notes(node.metadata_props)
    parts = [
        {key.removeprefix(start): note for key, note in noted.items() if key.startswith(start)}
        for start in (f"part{number}." for number in range(1, len(merged_nodes(node)) + 1))
    ]
    return [_valid(WeightNotes, part) for part in parts or [noted]]


def activation_notes(node: onnx.NodeProto) -> ActivationNotes | None:
    """The notes on a node that rounds an activation; None on others."""
    return _valid(ActivationNotes, _notes(node.metadata_props))


def _valid(kind: type[_T], noted: dict[str, str]) -> _T | None:
    try:
        return kind.model_validate(noted)
    except ValidationError:
        return None


def _notes(props: Iterable[onnx.StringStringEntryProto]) -> dict[str, str]:
    noted = (prop for prop in props if prop.key.startswith(PREFIX))
    return {prop.key.removeprefix(PREFIX): prop.value for prop in noted}
