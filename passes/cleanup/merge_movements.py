"""merge-movements: what several ops in a row move, one op moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.cleanup.lossless_cast import passes_through
from sardonyx.passes.cleanup.reshape_targets import constant_target
from sardonyx.passes.fused import is_standard
from sardonyx.passes.journal import Journal
from sardonyx.passes.origin import label, maker
from sardonyx.passes.rewrite import Replacements, release, replace_nodes, successor
from sardonyx.passes.scopes import all_nodes, scopes
from sardonyx.passes.sizes import Shape, Sizes
from sardonyx.passes.sizes.shape_rules import SHAPE_RULES
from sardonyx.passes.sizes.value_rules import axes_of
from sardonyx.passes.weights import values_of

_AXES_ARE_INPUTS = 13
"""The first operator set in which Squeeze and Unsqueeze read their axes."""


@dataclass(frozen=True)
class MergeMovements(Pass):
    """``B(A(x))``  ->  ``C(x)``; ``Identity(x)`` where A and B undo each other.

    A and B are

    1. Reshape, Flatten, Squeeze, Unsqueeze, B a Reshape whose constant target means for x what it
       means for A(x): C is B,
    2. Squeeze and Unsqueeze, with one of them for C,
    3. any of these four, with a Reshape to a constant for C: the sizes of x and B(A(x)) agree but
       for numbers, or one size,
    4. two Transposes, with one for C,
    5. two Casts, the first to a type that holds all values of x: C is the second,
    6. two Concats along one axis, A(x) read by nothing else: C joins all at once,
    7. a Split and a Concat of all its parts, in their order and along its axis: Identity.

    A stays where others read what it makes. Does not fire where

    1. A is outside of the graph that B is in,
    2. the sizes (2, 3) or the type (5) of x, or the axes (2), are not known,
    3. more than one size would have to be computed.
    """

    name: ClassVar[str] = "merge-movements"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Merge from the first node to the last, so that chains of any length become one op."""
        if not any(node.op in _MERGES for node in all_nodes(graph)):
            return 0
        work = _Work(journal.sizes(graph))
        for scope in scopes(graph):
            work.merge(scope)
        replacements = work.replacements()
        replace_nodes(graph, replacements)
        return work.done


@dataclass(frozen=True)
class _Form:
    """What takes the place of B."""

    op: str
    inputs: Sequence[gs.Tensor]
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Work:
    """What was merged: by id of a node that stood in the graph, it and what stands there now."""

    sizes: Sizes
    done: int = 0
    stands: dict[int, tuple[gs.Node, gs.Node]] = field(default_factory=dict)
    origin: dict[int, int] = field(default_factory=dict)
    left: list[gs.Node] = field(default_factory=list)
    ends: set[int] = field(default_factory=set)

    def merge(self, scope: gs.Graph) -> None:
        """Merge every node of a graph with those before it, as far as it goes."""
        here = set(map(id, scope.nodes))
        self.ends |= set(map(id, scope.outputs))
        for node in scope.nodes:
            last: gs.Node | None = node
            while last is not None:
                last = self._merged(node, last, here)

    def _merged(self, node: gs.Node, last: gs.Node, here: Set[int]) -> gs.Node | None:
        """What takes the place of ``last``, which stands where ``node`` stood."""
        merge = _MERGES.get(last.op) if is_standard(last) else None
        made = map(maker, last.inputs) if merge else ()
        inner = [first if first and self._stood(first) in here else None for first in made]
        try:
            form = merge(self, last, inner) if merge and any(inner) else None
        except (ArithmeticError, LookupError, TypeError, ValueError):  # it cannot run
            return None
        if form is None:
            return None
        new = successor(last, form.op, form.inputs, form.attrs, MergeMovements.name)
        self.stands[id(node)] = node, new
        self.origin[id(new)] = id(node)
        self.left += filter(None, inner)
        self.done += 1
        return new

    def _stood(self, node: gs.Node) -> int:
        """The id of the node in whose place a node is."""
        return self.origin.get(id(node), id(node))

    def replacements(self) -> Replacements:
        """What stands where; nothing where only a merged node read what was made there."""
        found = {key: [new] for key, (_, new) in self.stands.items()}
        for node in self.left:
            if not any(t.outputs or id(t) in self.ends for t in node.outputs):
                release(node)
                found[self._stood(node)] = []
        return found


_Merge = Callable[[_Work, gs.Node, list[gs.Node | None]], _Form | None]
"""From a node B and, by input, the node A that makes it, what takes the place of B."""


def _view(work: _Work, node: gs.Node, inner: list[gs.Node | None]) -> _Form | None:
    first = inner[0]
    if first is None or first.op not in _VIEWS:
        return None
    x, sizes = first.inputs[0], work.sizes
    source, between = sizes.shape(x), sizes.shape(node.inputs[0])
    if node.op == "Reshape" and _keeps_target(node, source, between):
        return _Form("Reshape", [x, node.inputs[1]], node.attrs)
    wanted = _shape_made(sizes, node)
    if source is None or wanted is None:
        return None
    if source == wanted:
        return _Form("Identity", [x])
    form = _axes_form(work, x, first, node)
    target = constant_target(source, wanted, _inferred(node))
    if form is None and target is not None:
        form = _Form("Reshape", [x, _constant(node, "shape", target)])
    return form


def _keeps_target(node: gs.Node, source: Shape | None, between: Shape | None) -> bool:
    """Whether the target of a Reshape is constant and keeps the same sizes of ``source`` as of
    ``between``."""
    if not isinstance(node.inputs[1], gs.Constant):
        return False
    zeros = np.flatnonzero(values_of(node.inputs[1]) == 0).tolist()
    if not zeros or node.attrs.get("allowzero", 0):
        return True
    if source is None or between is None or zeros[-1] >= min(len(source), len(between)):
        return False
    return all(source[place] == between[place] for place in zeros)


def _shape_made(sizes: Sizes, node: gs.Node) -> Shape | None:
    """The sizes of what a node makes, by its operands alone."""
    return SHAPE_RULES[node.op](sizes, node)[0]


def _inferred(node: gs.Node) -> int | None:
    """The axis whose size a Reshape to a constant computes."""
    constant = node.op == "Reshape" and isinstance(node.inputs[1], gs.Constant)
    target = values_of(node.inputs[1]).tolist() if constant else []
    return target.index(-1) if -1 in target else None


def _axes_form(work: _Work, x: gs.Tensor, *steps: gs.Node) -> _Form | None:
    """One Squeeze or Unsqueeze for several."""
    source = work.sizes.shape(x)
    if source is None or any(step.op not in ("Squeeze", "Unsqueeze") for step in steps):
        return None
    axes: list[int | None] | None = list(range(len(source)))
    for step in steps:
        axes = None if axes is None else _moved(axes, step.op, axes_of(work.sizes, step))
    if axes is None:
        return None
    added = [place for place, axis in enumerate(axes) if axis is None]
    gone = [axis for axis in range(len(source)) if axis not in axes]
    if added and gone:
        return None
    op, chosen = ("Unsqueeze", added) if added else ("Squeeze", gone)
    if work.sizes.opset < _AXES_ARE_INPUTS:
        return _Form(op, [x], {"axes": chosen})
    return _Form(op, [x, _constant(steps[-1], "axes", chosen)])


def _moved(axes: list[int | None], op: str, chosen: list[int] | None) -> list[int | None] | None:
    """Axes, by number or None for a new one, after a Squeeze or Unsqueeze; None if not known."""
    if not chosen:
        return None
    count = len(axes) + (len(chosen) if op == "Unsqueeze" else 0)
    places = sorted(axis % count for axis in chosen)
    if op == "Squeeze":
        return [axis for place, axis in enumerate(axes) if place not in places]
    moved = list(axes)
    for place in places:
        moved.insert(place, None)
    return moved


def _transpose(_: _Work, node: gs.Node, inner: list[gs.Node | None]) -> _Form | None:
    first = inner[0]
    if first is None or first.op != "Transpose":
        return None
    orders = [step.attrs.get("perm") for step in (first, node)]
    rank = next((len(order) for order in orders if order is not None), 0)
    one, other = (list(range(rank))[::-1] if order is None else order for order in orders)
    order = [one[axis] for axis in other]
    if order == sorted(order):  # two that name no order undo each other whatever the rank
        return _Form("Identity", [first.inputs[0]])
    return _Form("Transpose", [first.inputs[0]], {"perm": order})


def _cast(_: _Work, node: gs.Node, inner: list[gs.Node | None]) -> _Form | None:
    first = inner[0]
    if first is None or first.op != "Cast" or first.inputs[0].dtype is None:
        return None
    between, to = (onnx.helper.tensor_dtype_to_np_dtype(step.attrs["to"]) for step in (first, node))
    if not passes_through(first.inputs[0].dtype, between, to):
        return None
    return _Form("Cast", [first.inputs[0]], node.attrs)


def _concat(work: _Work, node: gs.Node, inner: list[gs.Node | None]) -> _Form | None:
    first = inner[0]
    if first is not None and _is_rejoined(work, first, node):
        return _Form("Identity", [first.inputs[0]])
    joined = [
        made is not None and made.op == "Concat" and _is_part(work, node, made) for made in inner
    ]
    if not any(joined):
        return None
    pairs = zip(node.inputs, inner, joined, strict=True)
    parts = chain.from_iterable(made.inputs if j and made else [t] for t, made, j in pairs)
    return _Form("Concat", list(parts), node.attrs)


def _is_rejoined(work: _Work, split: gs.Node, node: gs.Node) -> bool:
    """Whether a Concat joins what a Split made, all of it as it was."""
    if split.op != "Split" or list(map(id, split.outputs)) != list(map(id, node.inputs)):
        return False
    axes, shape = [split.attrs.get("axis", 0), node.attrs["axis"]], work.sizes.shape(node.inputs[0])
    if shape is not None:
        axes = [axis % len(shape) for axis in axes]
    return bool(axes[0] == axes[1])


def _is_part(work: _Work, node: gs.Node, made: gs.Node) -> bool:
    """Whether a Concat is read by another alone and joins along the same axis."""
    (output,) = made.outputs
    axes, shape = [step.attrs["axis"] for step in (made, node)], work.sizes.shape(output)
    if shape is not None:
        axes = [axis % len(shape) for axis in axes]
    return len(output.outputs) == 1 and id(output) not in work.ends and axes[0] == axes[1]


def _constant(node: gs.Node, part: str, values: list[int]) -> gs.Constant:
    return gs.Constant(f"{label(node)}/{part}", np.array(values, np.int64))


_VIEWS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
"""Ops that leave the elements and their order."""

_MERGES: dict[str, _Merge] = {
    **dict.fromkeys(_VIEWS, _view),
    "Cast": _cast,
    "Concat": _concat,
    "Transpose": _transpose,
}
"""By op of B."""
