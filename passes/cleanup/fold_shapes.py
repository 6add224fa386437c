"""fold-shapes: what is known of sizes is no longer computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from sardonyx.passes.base import Pass
from sardonyx.passes.cleanup.input_sizes import InputSizes
from sardonyx.passes.cleanup.reshape_targets import constant_target
from sardonyx.passes.fused import is_standard
from sardonyx.passes.journal import Journal
from sardonyx.passes.origin import label
from sardonyx.passes.rewrite import (
    Replacements,
    redirect,
    replace_nodes,
    successor,
    take_outputs,
)
from sardonyx.passes.scopes import all_nodes, bodies, scopes
from sardonyx.passes.sizes import Size, Sizes
from sardonyx.passes.sizes.shape_rules import reshaped
from sardonyx.passes.within import Within

_Key: TypeAlias = tuple[str, tuple[int, ...], tuple[Any, ...]]
"""Of a tensor of sizes, its type, its shape and the sizes."""


@dataclass(frozen=True)
class FoldShapes(Pass):
    """Computed sizes  ->  the least that still has to be computed.

    1. A tensor of integers or truth values that are all known: a constant.
    2. The computed target of a Reshape: a constant, with 0 for axes that keep their size and -1 for
       one more.
    3. The computed target of an Expand: a constant, with 1 for axes that have their size already.
    4. Tensors of sizes that are always equal: the first of them is read in place of the others.
    5. Sizes that inputs of the graph have: ``Shape(input)``, cut or gathered from.

    As ever with sizes, symbols of one name are one number. In 2, 0 and -1 mean what they should of
    tensors without elements too. Nodes that only what is gone read go as well. Does not fire on

    1. outputs of a graph, which an initializer may not be in every runtime (1), nor on readers
       inside a body of what is around it (4),
    2. targets in which more than one size would have to be computed (2), or any (3),
    3. sizes that more than one input has to be asked for (5).
    """

    name: ClassVar[str] = "fold-shapes"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Fold in every graph by itself."""
        if not any(node.op in ("Shape", "Size") for node in all_nodes(graph)):
            return 0
        sizes = journal.sizes(graph)
        folds = [_Fold(graph, scope, sizes) for scope in scopes(graph)]
        for fold in folds:
            fold.fold()
        replace_nodes(graph, {key: new for fold in folds for key, new in fold.made.items()})
        return sum(fold.done for fold in folds)


@dataclass
class _Fold:
    """One graph, in or the same as ``outer``. ``made``: what takes the place of its nodes;
    ``orphans``: ids of nodes that lost a reader."""

    outer: gs.Graph
    graph: gs.Graph
    sizes: Sizes
    done: int = 0
    made: Replacements = field(default_factory=dict)
    orphans: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.within = Within.of(self.graph)

    def fold(self) -> None:
        """All cases, so that each sees what those before it left."""
        self._numbers()
        keys = {id(node): _key(self.sizes, node) for node in self.graph.nodes}
        self._targets(keys)
        self._sources(keys)

    def _numbers(self) -> None:
        """Case 1."""
        for node in self.graph.nodes:
            values = _numbers(self.sizes, node)
            if values is not None and id(node.outputs[0]) not in self.within.outputs:
                self._dismiss(node)[0].to_constant(values)
                self.done += 1

    def _targets(self, keys: dict[int, _Key | None]) -> None:
        """Cases 2 and 3."""
        for node in self.graph.nodes:
            if keys[id(node)] is None and (target := _target(self.sizes, node)) is not None:
                name = f"{label(node)}/shape"
                constant = gs.Constant(name, np.array(target, np.int64))
                self._replace(node, node.op, [node.inputs[0], constant], {})

    def _sources(self, keys: dict[int, _Key | None]) -> None:
        """Cases 4 and 5, from the last node to the first: what nothing reads then goes."""
        inputs = InputSizes(self.outer, self.graph, self.sizes, FoldShapes.name)
        ahead = set(map(id, inputs.asked.values()))
        nodes = sorted(self.graph.nodes, key=lambda node: id(node) not in ahead)
        first: dict[_Key, gs.Node] = {}
        for node in nodes:
            if (key := keys[id(node)]) is not None:
                first.setdefault(key, node)
        for node in reversed(nodes):
            if (key := keys[id(node)]) is not None and self._is_read(node):
                self._source(node, key, first[key], inputs)
            if id(node) in self.orphans and not self._is_read(node) and _is_simple(node):
                self._dismiss(node)
        if self.done:
            self._put_ahead([node for node in inputs.asked.values() if node.outputs])

    def _put_ahead(self, nodes: list[gs.Node]) -> None:
        """Let nodes stand before all others."""
        self.made |= {id(node): [] for node in nodes}
        for start in self.graph.nodes[:1]:
            self.made[id(start)] = [*nodes, *self.made.get(id(start), [start])]

    def _source(self, node: gs.Node, key: _Key, first: gs.Node, inputs: InputSizes) -> None:
        dtype, shape, held = key
        if first is not node:
            moved = redirect(node.outputs[0], first.outputs[0], self.within.nodes)
            self.orphans |= {id(node)} if moved else set()
            self.done += moved
        elif dtype == "int64" and (source := inputs.source(node, shape, held)) is not None:
            self._replace(node, *inputs.ask(node, source))

    def _replace(
        self, node: gs.Node, op: str, inputs: list[gs.Tensor], attrs: dict[str, int]
    ) -> None:
        """Let a new node make what a node makes."""
        self._orphan(node)
        new = successor(node, op, inputs, attrs, FoldShapes.name)
        self.made[id(node)] = [new]
        self.within.nodes.add(id(new))
        self.done += 1

    def _dismiss(self, node: gs.Node) -> list[gs.Tensor]:
        """Take a node out of the graph; what it made."""
        self._orphan(node)
        self.made[id(node)] = []
        return take_outputs(node)

    def _orphan(self, node: gs.Node) -> None:
        self.orphans |= {id(tensor.inputs[0]) for tensor in node.inputs if tensor.inputs}

    def _is_read(self, node: gs.Node) -> bool:
        """Whether anything needs a node; one that was replaced is nothing to take out."""
        return not node.outputs or any(map(self.within.needs, node.outputs))


def _is_simple(node: gs.Node) -> bool:
    """Whether a node reads no more than its inputs."""
    return is_standard(node) and not bodies(node)


def _numbers(sizes: Sizes, node: gs.Node) -> NDArray[np.generic] | None:
    """The integers or truth values that a node makes, whatever the sizes of the inputs are."""
    known = _whole(sizes, node)
    if known is None:
        return None
    dtype, held = known
    if any(not isinstance(value, int) for value in held.flat):
        return None
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    fits = all(low <= value <= high for value in held.ravel().tolist())
    return held.astype(dtype) if fits else None


def _key(sizes: Sizes, node: gs.Node) -> _Key | None:
    """What tensors of equal sizes have in common; None where a size is not known or all are."""
    known = _whole(sizes, node)
    if known is None:
        return None
    dtype, held = known
    elements = tuple(held.flat)
    if None in elements or not any(isinstance(value, Size) for value in elements):
        return None
    return str(dtype), held.shape, elements


def _whole(sizes: Sizes, node: gs.Node) -> tuple[np.dtype[Any], NDArray[np.object_]] | None:
    """The type and the elements of the integers or truth values that a node makes, if it makes
    nothing else."""
    if not node.outputs or any(tensor.outputs for tensor in node.outputs[1:]):
        return None
    output = node.outputs[0]
    held = sizes.values(output)
    if held is None or output.dtype is None or np.dtype(output.dtype).kind not in "iub":
        return None
    return np.dtype(output.dtype), held


def _target(sizes: Sizes, node: gs.Node) -> list[int] | None:
    """The target of a Reshape or Expand in numbers, where it is computed."""
    rule = _TARGETS.get(node.op) if is_standard(node) and node.outputs else None
    if rule is None or isinstance(node.inputs[1], gs.Constant):
        return None
    try:
        return rule(sizes, node)
    except (ArithmeticError, LookupError, TypeError, ValueError):  # it cannot run
        return None


def _reshape_target(sizes: Sizes, node: gs.Node) -> list[int] | None:
    shape, given = sizes.shape(node.inputs[0]), sizes.values(node.inputs[1])
    wanted = reshaped(sizes, node, shape)
    if given is None or wanted is None:
        return None
    written = given.tolist()
    return constant_target(shape, wanted, written.index(-1) if -1 in written else None)


def _expand_target(sizes: Sizes, node: gs.Node) -> list[int] | None:
    shape, given = sizes.shape(node.inputs[0]), sizes.values(node.inputs[1])
    if shape is None or given is None:
        return None
    own = (1,) * (given.size - len(shape)) + shape[-given.size :]
    pairs = zip(given.tolist(), own, strict=True)
    target = [dim if isinstance(dim, int) else 1 if dim == size else 0 for dim, size in pairs]
    return None if 0 in target else target


_TARGETS = {"Expand": _expand_target, "Reshape": _reshape_target}
"""By op, its target in numbers."""
