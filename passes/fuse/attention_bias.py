"""All that is added to the scores of attention, as the one tensor that onnxruntime's op takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.scores import Bias, Fill
from sardonyx.passes.match import maker, scalar
from sardonyx.passes.rewrite import Draft
from sardonyx.passes.sizes import Dim, Shape, Sizes
from sardonyx.passes.sizes.shape_rules import broadcast


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
    _made: dict[tuple[object, ...], tuple[gs.Tensor, Shape | None]] = field(default_factory=dict)
    _read: list[gs.Tensor] = field(default_factory=list)

    def make(
        self, draft: Draft, biases: Sequence[Bias], queries: Length, keys: Length
    ) -> gs.Tensor | None:
        """The sum of ``biases`` for so many queries and keys; None where there are none."""
        if not biases:
            return None
        total, shape = self._term(draft, biases[0])
        for bias in biases[1:]:
            total, shape = self._sum(draft, (total, shape), self._term(draft, bias))
        lengths = (queries.known, keys.known)
        if shape is not None and len(shape) == 4 and shape[2:] == lengths:
            return total
        key = ("Expand", id(total), *lengths)
        return self._once(key, [total], None, lambda: _expand(draft, total, queries, keys))[0]

    def _term(self, draft: Draft, bias: Bias) -> tuple[gs.Tensor, Shape | None]:
        if not isinstance(bias, Fill):
            return bias, self.sizes.shape(bias)
        condition, value = bias.condition, bias.value
        key = ("Where", id(condition), float(value.values), bias.when)
        return self._once(
            key, [condition], self.sizes.shape(condition), lambda: _penalty(draft, bias)
        )

    def _sum(
        self,
        draft: Draft,
        a: tuple[gs.Tensor, Shape | None],
        b: tuple[gs.Tensor, Shape | None],
    ) -> tuple[gs.Tensor, Shape | None]:
        shape = broadcast(self.sizes, a[1], b[1])
        key = ("Add", id(a[0]), id(b[0]))
        return self._once(key, [a[0], b[0]], shape, lambda: draft.add("Add", "Bias", [a[0], b[0]]))

    def _once(
        self,
        key: tuple[object, ...],
        reads: list[gs.Tensor],
        shape: Shape | None,
        make: Callable[[], gs.Tensor],
    ) -> tuple[gs.Tensor, Shape | None]:
        if key not in self._made:
            self._read += reads  # alive, so that no other tensor gets their ids
            self._made[key] = make(), shape
        return self._made[key]


def may_be_infinite(bias: Bias) -> bool:
    """Whether a bias may hold -inf, so that a row of scores may hold nothing else."""
    if isinstance(bias, Fill):
        return bool(np.isinf(float(bias.value.values)))
    node = maker(bias)
    if node is None or node.op != "Where":
        return True
    values = [scalar(tensor) for tensor in node.inputs[1:]]
    return any(value is None or np.isinf(value) for value in values)


def _penalty(draft: Draft, fill: Fill) -> gs.Tensor:
    zero = draft.constant("Zero", 0, np.float32)
    pair = [fill.value, zero] if fill.when else [zero, fill.value]
    return draft.add("Where", "Mask", [fill.condition, *pair])


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
