"""remove-no-ops: nodes that give back what they read go."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.fused import is_standard, operand
from sardonyx.passes.journal import Journal
from sardonyx.passes.origin import scalar
from sardonyx.passes.rewrite import redirect, release
from sardonyx.passes.scopes import all_nodes, scopes
from sardonyx.passes.sizes import Shape, Sizes
from sardonyx.passes.sizes.dim import is_natural, minus
from sardonyx.passes.sizes.shape_rules import END, SHAPE_RULES, broadcast, reshaped
from sardonyx.passes.sizes.value_rules import bounds_of
from sardonyx.passes.weights import values_of
from sardonyx.passes.within import Within


@dataclass(frozen=True)
class RemoveNoOps(Pass):
    """``y = Op(x, ...)`` that is x  ->  x, read in place of y.

    1. Identity.
    2. Dropout that does not train, its mask unread.
    3. Cast and CastLike to the type that x has.
    4. Reshape and Flatten to the sizes, and Expand within the sizes, that x has: whatever the
       symbols in them are.
    5. Transpose that leaves the order of axes.
    6. Slice of all of every axis, Pad by nothing, Tile by ones, Split into one.
    7. Concat, Max, Mean, Min and Sum of one.
    8. ``x * 1``, ``x / 1``, ``x + 0``, ``x - 0``, ``x and true``, ``x or false`` with a constant of
       one element. A zero keeps its sign, where a sum by 0 makes -0.0 to 0.0; onnxruntime leaves
       such sums out too.

    Where y is an output of its graph, what makes x makes y instead. Does not fire where

    1. y is an output of its graph, and x one too, or an input, or from outside,
    2. a graph inside reads y, or x where y is an output: only the readers around it read x then,
    3. sizes or the type of x are not known, or the constant would give it more axes,
    4. x is a constant: what reads it straight may compute in another order. See fold-constants.
    """

    name: ClassVar[str] = "remove-no-ops"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Remove from the first node to the last, so that whole chains go."""
        if not any(node.op in _RULES for node in all_nodes(graph)):
            return 0
        sizes = journal.sizes(graph)
        return sum(_Scope(scope, sizes).clean() for scope in scopes(graph))


class _Scope:
    """A graph that is cleaned."""

    def __init__(self, graph: gs.Graph, sizes: Sizes) -> None:
        self.graph, self.sizes, self.within = graph, sizes, Within.of(graph)

    def clean(self) -> int:
        done, kept = 0, []
        for node in self.graph.nodes:
            x = self._passed_on(node)
            done += x is not None and self._bypass(node, x)
            if node.outputs:
                kept.append(node)
        self.graph.nodes = kept
        return done

    def _passed_on(self, node: gs.Node) -> gs.Tensor | None:
        """What a node gives back."""
        rule = _RULES.get(node.op) if is_standard(node) else None
        if rule is None or any(map(self.within.needs, node.outputs[1:])):
            return None
        try:
            slot = rule(self.sizes, node)
        except (ArithmeticError, LookupError, TypeError, ValueError):  # it cannot run
            return None
        x = None if slot is None else node.inputs[slot]
        return None if isinstance(x, gs.Constant) else x

    def _bypass(self, node: gs.Node, x: gs.Tensor) -> bool:
        """Let readers of a node's output read ``x``; release the node if none is left."""
        y = node.outputs[0]
        if id(y) in self.within.outputs:
            return self._rename(node, x, y)
        moved = redirect(y, x, self.within.nodes)
        if y.outputs:
            return moved > 0
        release(node)
        return True

    def _rename(self, node: gs.Node, x: gs.Tensor, y: gs.Tensor) -> bool:
        """Let what makes ``x`` make ``y``."""
        maker = x.inputs[0] if x.inputs else None
        if maker is None or id(maker) not in self.within.nodes or not self.within.owns(x):
            return False
        release(node)
        redirect(x, y, self.within.nodes)
        slot = next(slot for slot, made in enumerate(maker.outputs) if made is x)
        list.__setitem__(maker.outputs, slot, y)
        list.clear(x.inputs)
        list.append(y.inputs, maker)
        y.shape = _dims_of_either(x.shape, y.shape)
        return True


def _dims_of_either(inferred: _Dims, declared: _Dims) -> _Dims:
    """What is known of the dimensions of one value, a number before a name."""
    if inferred is None or declared is None or len(inferred) != len(declared):
        return declared if inferred is None else inferred
    pairs = zip(inferred, declared, strict=True)
    return [own if isinstance(own, int) or dim is None else dim for dim, own in pairs]


_Dims: TypeAlias = Sequence[int | str | None] | None

_Rule = Callable[[Sizes, gs.Node], int | None]


def _first(holds: Callable[[Sizes, gs.Node], bool]) -> _Rule:
    """The rule of an op that gives back its first input where something holds."""
    return lambda sizes, node: 0 if holds(sizes, node) else None


def _always(_: Sizes, __: gs.Node) -> bool:
    return True


def _alone(_: Sizes, node: gs.Node) -> bool:
    return len(node.inputs) == 1


def _dropout(sizes: Sizes, node: gs.Node) -> bool:
    training = operand(node, 2)
    if training is None:
        return sizes.opset >= _DROPOUT_INFERS
    return isinstance(training, gs.Constant) and not np.any(values_of(training))


_DROPOUT_INFERS = 7
"""The first operator set in which a Dropout does not train unless it is told to."""


def _cast(_: Sizes, node: gs.Node) -> bool:
    dtype = node.inputs[0].dtype
    return dtype is not None and _kind(dtype) == node.attrs["to"]


def _cast_like(_: Sizes, node: gs.Node) -> bool:
    dtype, like = (tensor.dtype for tensor in node.inputs)
    return None not in (dtype, like) and _kind(dtype) == _kind(like)


def _kind(dtype: Any) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _known(sizes: Sizes, node: gs.Node) -> Shape:
    """The sizes of a node's first input; raises LookupError where they are not known."""
    shape = sizes.shape(node.inputs[0])
    if shape is None:
        raise LookupError(node.inputs[0].name)
    return shape


def _reshape(sizes: Sizes, node: gs.Node) -> bool:
    shape = _known(sizes, node)
    return reshaped(sizes, node, shape) == shape


def _flatten(sizes: Sizes, node: gs.Node) -> bool:
    return SHAPE_RULES["Flatten"](sizes, node) == [_known(sizes, node)]


def _expand(sizes: Sizes, node: gs.Node) -> bool:
    shape, target = _known(sizes, node), sizes.values(node.inputs[1])
    return target is not None and broadcast(sizes, shape, sizes.lengths(target.tolist())) == shape


def _transpose(sizes: Sizes, node: gs.Node) -> bool:
    order = node.attrs.get("perm")
    return len(_known(sizes, node)) < 2 if order is None else list(order) == sorted(order)


def _slice(sizes: Sizes, node: gs.Node) -> bool:
    shape, bounds = _known(sizes, node), bounds_of(sizes, node)
    return bounds is not None and all(
        start == 0 and step == 1 and _reaches(end, shape[axis]) for start, end, axis, step in bounds
    )


def _reaches(end: Any, size: Any) -> bool:
    """Whether a slice that ends there holds the end of an axis."""
    if end is None:
        return False
    return (isinstance(end, int) and end >= END) or is_natural(minus(end, size))


def _split(_: Sizes, node: gs.Node) -> bool:
    return len(node.outputs) == 1


def _pad(sizes: Sizes, node: gs.Node) -> bool:
    given = operand(node, 1)
    pads = node.attrs.get("pads") if given is None else sizes.values(given)
    return pads is not None and all(pad == 0 for pad in pads)


def _tile(sizes: Sizes, node: gs.Node) -> bool:
    repeats = sizes.values(node.inputs[1])
    return repeats is not None and all(repeat == 1 for repeat in repeats)


def _neutral(number: float, slots: Set[int]) -> _Rule:
    """The rule of an elementwise op for which a number in one of some slots changes nothing."""

    def rule(sizes: Sizes, node: gs.Node) -> int | None:
        for slot in slots:
            held, x = node.inputs[slot], node.inputs[1 - slot]
            if not isinstance(held, gs.Constant) or scalar(held) != number:
                continue
            shape = sizes.shape(x)
            if not held.shape or (shape is not None and len(held.shape) <= len(shape)):
                return 1 - slot
        return None

    return rule


_RULES: dict[str, _Rule] = {
    "Add": _neutral(0, {0, 1}),
    "And": _neutral(True, {0, 1}),
    "Cast": _first(_cast),
    "CastLike": _first(_cast_like),
    "Concat": _first(_alone),
    "Div": _neutral(1, {1}),
    "Dropout": _first(_dropout),
    "Expand": _first(_expand),
    "Flatten": _first(_flatten),
    "Identity": _first(_always),
    "Max": _first(_alone),
    "Mean": _first(_alone),
    "Min": _first(_alone),
    "Mul": _neutral(1, {0, 1}),
    "Or": _neutral(False, {0, 1}),
    "Pad": _first(_pad),
    "Reshape": _first(_reshape),
    "Slice": _first(_slice),
    "Split": _first(_split),
    "Sub": _neutral(0, {1}),
    "Sum": _first(_alone),
    "Tile": _first(_tile),
    "Transpose": _first(_transpose),
}
"""By op, which input it gives back."""
