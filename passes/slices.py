"""Slices of weights: a product by a part of a matrix says in its notes which part it has."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.metadata import PREFIX, PROPS, annotate
from sardonyx.passes.weights import WeightView

Axis = Literal["rows", "columns"]

_SPAN = re.compile(r"(rows|columns) ([0-9]{1,9}):([0-9]{1,9})")


@dataclass(frozen=True)
class Slice:
    """Rows or columns ``start`` to ``end`` of the matrix W [K, N] that the constant ``of`` held."""

    of: str
    axis: Axis
    start: int
    end: int

    def note(self, node: gs.Node) -> None:
        """Say it on the product."""
        annotate(node, slice_of=self.of, slice=f"{self.axis} {self.start}:{self.end}")


def slice_of(node: gs.Node) -> Slice | None:
    """The part that the weight of a product is, if it is one of several."""
    notes = node.attrs.get(PROPS, {})
    whole = notes.get(f"{PREFIX}slice_of")
    span = _SPAN.fullmatch(notes.get(f"{PREFIX}slice", ""))
    if whole is None or span is None:
        return None
    axis: Axis = "rows" if span[1] == "rows" else "columns"
    return Slice(whole, axis, int(span[2]), int(span[3]))


Piece = tuple[Slice, gs.Constant]
"""A slice, and the constant that holds it."""


def pieces(view: WeightView, axis: Axis, lengths: Sequence[int]) -> list[Piece]:
    """A matrix W [K, N] cut in slices of so many rows or columns each."""
    matrix, name = view.matrix(), str(view.constant.name)
    found = []
    for number, (start, end) in enumerate(pairwise(accumulate(lengths, initial=0))):
        part = matrix[start:end] if axis == "rows" else matrix[:, start:end]
        held = gs.Constant(f"{name}/group{number}", np.ascontiguousarray(part))
        found.append((Slice(name, axis, start, end), held))
    return found
