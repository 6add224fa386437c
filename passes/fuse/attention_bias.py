"""All that is added to the scores of attention, as the one tensor that onnxruntime's op takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.scores import Bias, Fill
from sardonyx.passes.origin import maker, scalar
from sardonyx.passes.rewrite import Draft
from sardonyx.passes.sizes import Dim, Shape, Sizes
from sardonyx.passes.sizes.shape_rules import broadcast

FLOOR = -1e37
"""Any score drowns in it, and it is far from the lowest float."""

_SHAPE_OF_SOME_AXES = 15
"""The first opset whose Shape has a start and an end."""


@dataclass(frozen=True)
class Length:
    """Of a sequence: the size of a tensor along an axis. ``known``: what is known of it."""

    known: Dim
    tensor: gs.Tensor
    axis: int


@dataclass
class AttentionBias:
    """Makes tensors [B or 1, N or 1, S, T] of biases, each once for all layers that add the same.

    A layer's own nodes read them, so they belong before the first one.
    """

    sizes: Sizes
    _made: dict[tuple[object, ...], gs.Tensor] = field(default_factory=dict)
    _shapes: dict[int, Shape | None] = field(default_factory=dict)
    _read: list[gs.Tensor] = field(default_factory=list)

    def make(
        self, draft: Draft, biases: Sequence[Bias], queries: Length, keys: Length
    ) -> gs.Tensor | None:
        """The sum of ``biases`` for so many queries and keys; None where there are none."""
        if not biases:
            return None
        total = self._with(draft, None, biases[0])
        for bias in biases[1:]:
            total = self._with(draft, total, bias)
        shape, lengths = self._shape(total), (queries.known, keys.known)
        if shape is not None and len(shape) == 4 and shape[2:] == lengths:
            return total
        key = ("Expand", id(total), *lengths)
        return self._once(key, [total], None, lambda: self._expand(draft, total, queries, keys))

    def _expand(self, draft: Draft, total: gs.Tensor, queries: Length, keys: Length) -> gs.Tensor:
        """Every query and key gets a place of its own in the last two axes."""
        shape = self._shape(total) or ()
        one = draft.constant("One", [1], np.int64)
        parts = [one] * (2 if len(shape) < 4 else 0)
        for axis, part, length in ((-2, "Queries", queries), (-1, "Keys", keys)):
            full = len(shape) == 4 and shape[axis] == length.known
            parts.append(one if full else _length(draft, part, length, self.sizes.opset))
        target = draft.add("Concat", "Shape", parts, dtype=np.int64, axis=0)
        return draft.add("Expand", "Expand", [total, target])

    def above_lowest(self, draft: Draft, bias: Bias) -> Bias:
        """A bias of which no element is the lowest float; -inf stays."""
        if isinstance(bias, Fill):
            value = float(bias.value.values)
            finite = np.array(value if np.isinf(value) else max(value, FLOOR), np.float32)
            return replace(bias, value=gs.Constant(bias.value.name, finite))
        key = ("Raise", id(bias))
        return self._once(key, [bias], self._shape(bias), lambda: _raise(draft, bias))

    def _with(self, draft: Draft, total: gs.Tensor | None, bias: Bias) -> gs.Tensor:
        """A sum so far, if there is one, and one more bias."""
        if isinstance(bias, Fill):
            return self._filled(draft, total, bias)
        if total is None:
            return bias
        shape = broadcast(self.sizes, self._shape(total), self._shape(bias))
        key = ("Add", id(total), id(bias))
        return self._once(
            key, [total, bias], shape, lambda: draft.add("Add", "Bias", [total, bias])
        )

    def _filled(self, draft: Draft, total: gs.Tensor | None, fill: Fill) -> gs.Tensor:
        """``total``, or 0, with a value in its place where scores do not count."""
        known = () if total is None else self._shape(total)
        shape = broadcast(self.sizes, known, self._shape(fill.condition))
        key = ("Where", id(fill.condition), float(fill.value.values), fill.when, id(total))
        reads = [fill.condition] if total is None else [fill.condition, total]
        return self._once(key, reads, shape, lambda: _where(draft, total, fill))

    def _once(
        self,
        key: tuple[object, ...],
        reads: list[gs.Tensor],
        shape: Shape | None,
        make: Callable[[], gs.Tensor],
    ) -> gs.Tensor:
        if key not in self._made:
            self._read += reads  # alive, so that no other tensor gets their ids
            made = self._made[key] = make()
            self._shapes[id(made)] = shape
        return self._made[key]

    def _shape(self, tensor: gs.Tensor) -> Shape | None:
        made = id(tensor) in self._shapes
        return self._shapes[id(tensor)] if made else self.sizes.shape(tensor)


def may_be_infinite(biases: Sequence[Bias]) -> bool:
    """Whether the sum of biases may be -inf, so that a row of scores may hold nothing else."""
    if len(biases) != 1:
        return bool(biases)  # two that are finite may have a sum that is not
    (bias,) = biases
    if isinstance(bias, Fill):
        return bool(np.isinf(float(bias.value.values)))
    node = maker(bias)
    if node is None or node.op != "Where":
        return True
    values = [scalar(tensor) for tensor in node.inputs[1:]]
    return any(value is None or np.isinf(value) for value in values)


def _where(draft: Draft, total: gs.Tensor | None, fill: Fill) -> gs.Tensor:
    rest = draft.constant("Zero", 0, np.float32) if total is None else total
    pair = [fill.value, rest] if fill.when else [rest, fill.value]
    return draft.add("Where", "Mask", [fill.condition, *pair])


def _raise(draft: Draft, bias: gs.Tensor) -> gs.Tensor:
    floor = draft.constant("Floor", FLOOR, np.float32)
    valid = _valid(bias)
    if valid is not None:
        one = draft.constant("One", 1, np.float32)
        hidden = draft.add("Sub", "Hidden", [one, draft.cast("Valid", valid, np.float32)])
        return draft.add("Mul", "Raise", [hidden, floor])
    raised = draft.add("Max", "Raise", [bias, floor])
    if not may_be_infinite([bias]):
        return raised
    never = draft.add("IsInf", "Never", [bias], dtype=np.bool_)
    return draft.add("Where", "Keep", [never, bias, raised])


def _valid(bias: gs.Tensor) -> gs.Tensor | None:
    """The whole numbers, 1 where a key counts, that a mask is made of: 1 less them, times the
    lowest float or another below `FLOOR`."""
    product = maker(bias)
    if product is None or product.op != "Mul":
        return None
    for hidden, number in (product.inputs, product.inputs[::-1]):
        lowest = scalar(number)
        if lowest is not None and np.isfinite(lowest) and lowest < FLOOR:
            return _taken_from_one(hidden)
    return None


def _taken_from_one(hidden: gs.Tensor) -> gs.Tensor | None:
    difference = maker(hidden)
    if difference is None or difference.op != "Sub" or scalar(difference.inputs[0]) != 1:
        return None
    cast = maker(difference.inputs[1])
    if cast is None or cast.op != "Cast":
        return None
    (valid,) = cast.inputs
    return valid if valid.dtype is not None and np.dtype(valid.dtype).kind in "biu" else None


def _length(draft: Draft, part: str, length: Length, opset: int) -> gs.Tensor:
    """A length at run time, int64 [1]."""
    if opset >= _SHAPE_OF_SOME_AXES:
        start, end, tensor = length.axis, length.axis + 1, length.tensor
        return draft.add("Shape", part, [tensor], dtype=np.int64, start=start, end=end)
    shape = draft.add("Shape", f"{part}/Shape", [length.tensor], dtype=np.int64)
    axis = draft.constant(f"{part}/Axis", [length.axis], np.int64)
    return draft.add("Gather", part, [shape, axis], dtype=np.int64)
