"""notes: what a compile says in the file about itself, and how `explain` and `diff` read it back.

On the model: the recipe, and every constant that was left alone, by reason. On each rewritten node:
the weight's name, its format, what it cost and what it lost. All are ``metadata_props`` whose keys
begin with ``sardonyx.``, so that Netron shows them.
"""

import json
from collections import defaultdict
from collections.abc import Iterable

import onnx
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import PREFIX

_DIM = "[1-9][0-9]{0,17}"
_ORIGINAL = rf"\w+ \[({_DIM}(, {_DIM}){{0,7}})?\]"
"""Element type and shape. Patterns bound all numbers: another hand may have been at the notes."""

_RECIPE, _LEFT_ALONE = f"{PREFIX}recipe", f"{PREFIX}left_alone"

_REASONS = TypeAdapter(dict[str, list[str]])
"""Names by reason."""


class WeightNotes(BaseModel):
    """What a pass noted on a node whose weight it encoded."""

    model_config = ConfigDict(frozen=True)

    by: str = Field(alias="pass", description="the pass")
    replaces: str = Field(description="op of the node that was here")
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

    @property
    def nbytes(self) -> tuple[int, int]:
        """Bytes before and after."""
        before, _, after = self.bytes.partition(" -> ")
        return int(before), int(after)

    @property
    def originals(self) -> dict[str, tuple[str, list[int]]]:
        """Element types and shapes of all constants that held the weight, by name."""
        lines = [f"{self.weight}: {self.original}", *filter(None, self.tied.split("\n"))]
        parts = [line.rpartition(": ") for line in lines]
        kinds = {name: kind.partition(" ") for name, _, kind in parts}
        return {name: (dtype, json.loads(shape)) for name, (dtype, _, shape) in kinds.items()}


def write_notes(model: onnx.ModelProto, recipe: str, journal: Journal) -> None:
    """Put the notes of a compile that changed it on the model, in place of earlier ones."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for skip in journal.skipped:
        reasons[skip.reason].append(skip.name)
    props = {prop.key: prop.value for prop in model.metadata_props}
    props[_RECIPE] = recipe
    props[_LEFT_ALONE] = json.dumps(reasons, indent=0, ensure_ascii=False)
    onnx.helper.set_model_props(model, props)


def recipe_of(model: onnx.ModelProto) -> str:
    """Name of the recipe the model was compiled with; empty if it was not."""
    return _notes(model.metadata_props).get("recipe", "")


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


def weight_notes(node: onnx.NodeProto) -> WeightNotes | None:
    """The notes on a node that took the place of another; None where there are none of ours."""
    try:
        return WeightNotes.model_validate(_notes(node.metadata_props))
    except ValidationError:
        return None


def _notes(props: Iterable[onnx.StringStringEntryProto]) -> dict[str, str]:
    noted = (prop for prop in props if prop.key.startswith(PREFIX))
    return {prop.key.removeprefix(PREFIX): prop.value for prop in noted}
