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
        return self._once(key, [total], None, lambda: _expand(draft, total, queries, keys))

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
    raised = draft.add("Max", "Raise", [bias, floor])
    if not may_be_infinite([bias]):
        return raised
    never = draft.add("IsInf", "Never", [bias], dtype=np.bool_)
    return draft.add("Where", "Keep", [never, bias, raised])


def _expand(draft: Draft, total: gs.Tensor, queries: Length, keys: Length) -> gs.Tensor:
    """Every query and key gets a place of its own in the last two axes."""
    ones = draft.constant("Ones", [1, 1], np.int64)
    lengths = [_length(draft, part, n) for part, n in (("Queries", queries), ("Keys", keys))]
    shape = draft.add("Concat", "Shape", [ones, *lengths], dtype=np.int64, axis=0)
    return draft.add("Expand", "Expand", [total, shape])


def _length(draft: Draft, part: str, length: Length) -> gs.Tensor:
    """A length at run time, int64 [1]."""
    shape = draft.add("Shape", f"{part}/Shape", [length.tensor], dtype=np.int64)
    axis = draft.constant(f"{part}/Axis", [length.axis], np.int64)
    return draft.add("Gather", part, [shape, axis], dtype=np.int64)
