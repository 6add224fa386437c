"""Lookups of a table's rows in order, from any to any: they take a Slice of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.fused import operand
from sardonyx.passes.origin import constant, maker
from sardonyx.passes.rewrite import Draft
from sardonyx.passes.weights import values_of


@dataclass(frozen=True)
class RowsInOrder:
    """``Gather(W, Slice([0, 1, ..., V - 1]))`` of a W with V rows, which is ``Slice(W)``: what a
    Slice makes of any bounds, below 0 or beyond the end too, hangs on the length of the axis alone.

    ``cut``: the Slice of row numbers, [V] or [1, V]. ``axis``: that which it cuts, the last.
    """

    cut: gs.Node
    axis: int

    @classmethod
    def of(cls, ids: gs.Tensor, rows: int) -> RowsInOrder | None:
        """What ids number, in a table of so many rows, if that is rows in order."""
        cut = maker(ids)
        if cut is None or cut.op != "Slice":
            return None
        numbers, axes = constant(operand(cut, 0)), constant(operand(cut, 3))
        if numbers is None or axes is None or list(numbers.shape) not in ([rows], [1, rows]):
            return None
        last = len(numbers.shape) - 1
        if [axis % (last + 1) for axis in values_of(axes).tolist()] != [last]:
            return None
        in_order = np.array_equal(values_of(numbers).reshape(-1), np.arange(rows))
        return cls(cut, last) if in_order else None

    def sliced(
        self, draft: Draft, part: str, table: gs.Constant, *, flat: bool = False
    ) -> gs.Variable:
        """These rows of a table [V, ...], shaped as a lookup shapes them; ``flat``: whatever the
        rank of the row numbers is, as one axis."""
        values, axis = values_of(table), 0 if flat else self.axis
        if axis:
            table = gs.Constant(table.name, values[None])
        _, starts, ends, axes, *steps = self.cut.inputs
        along = draft.constant(f"{part}/Axes", [axis], axes.dtype)
        return draft.add("Slice", part, [table, starts, ends, along, *steps], dtype=values.dtype)
