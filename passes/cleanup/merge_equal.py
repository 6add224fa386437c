"""merge-equal: what several nodes compute alike is computed once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.fused import STANDARD
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import RESERVED
from sardonyx.passes.pure import is_pure
from sardonyx.passes.rewrite import release_all
from sardonyx.passes.scopes import scopes
from sardonyx.passes.weights import values_of
from sardonyx.passes.within import Within

_FEW = 64
"""Elements up to which constants are compared by what they hold."""

_EITHER_WAY = frozenset(
    ["Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal", "Mul", "Or", "Xor"]
)
"""Ops of two operands that give the same, bit for bit, with the operands in the other order."""


@dataclass(frozen=True)
class MergeEqual(Pass):
    """``y = Op(x) ... z = Op(x)``  ->  ``y = Op(x)``, read in place of z.

    Op is a standard one, or one of onnxruntime's own whose meaning is known, with equal attributes.
    Small constants are equal that hold the same (`merge-constants` sees to large ones); sums,
    products and comparisons for equality, and operations on bits, are equal with operands in either
    order; inputs and outputs that are left out count nothing at the end. Where z is an output of
    its graph, or read by a graph inside it, the first node makes z instead, and its readers read
    that. Does not fire

    1. on ops that draw random numbers, on those that hold graphs, and on others of other domains,
    2. where both y and z are an output of the graph or read by a graph inside it: such a graph is
       checked by itself, where nothing says that they are equal,
    3. where y and z are other of several outputs.
    """

    name: ClassVar[str] = "merge-equal"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Merge in every graph by itself, from the first node to the last."""
        return sum(_Merging(scope).run() for scope in scopes(graph))


@dataclass
class _Merging:
    """The nodes of one graph.

    ``fixed``: ids of tensors that must be made under their names. ``first``: by id of a tensor, the
    id of the first that was found to be equal. ``instead``: by id, what to read in its place.
    """

    graph: gs.Graph
    fixed: set[int] = field(default_factory=set)
    first: dict[int, int] = field(default_factory=dict)
    instead: dict[int, gs.Tensor] = field(default_factory=dict)

    def run(self) -> int:
        within = Within.of(self.graph)
        made = [tensor for node in self.graph.nodes for tensor in node.outputs]
        self.fixed |= {id(tensor) for tensor in made if not within.owns(tensor)}
        seen: dict[Hashable, gs.Node] = {}
        gone = []
        for node in self.graph.nodes:
            key = self._key(node)
            first = seen.setdefault(key, node) if key else node
            if first is not node and not self._are_both_fixed(first, node):
                self._let_make(first, node)
                gone.append(node)
        release_all(gone)
        merged = set(map(id, gone))
        self.graph.nodes = [node for node in self.graph.nodes if id(node) not in merged]
        if gone:
            self._reread()
        return len(gone)

    def _key(self, node: gs.Node) -> Hashable:
        """Equal for nodes that compute the same; None for one that nothing is known of."""
        if not is_pure(node):
            return None
        attributes = {key: value for key, value in node.attrs.items() if key not in RESERVED}
        held = tuple((key, self._held(value)) for key, value in sorted(attributes.items()))
        read = tuple(map(self._identity, _given(node.inputs)))
        if node.op in _EITHER_WAY and len(read) == 2:
            read = tuple(sorted(read, key=str))
        made = tuple(tensor.is_empty() for tensor in _given(node.outputs))
        domain = "" if node.domain in STANDARD else node.domain
        return domain, node.op, held, read, made

    def _held(self, value: object) -> Hashable:
        if isinstance(value, gs.Constant):
            return self._identity(value)
        return (str(type(value)), str(value))

    def _identity(self, tensor: gs.Tensor) -> Hashable:
        small = isinstance(tensor, gs.Constant) and int(np.prod(tensor.shape)) <= _FEW
        if small and np.dtype(tensor.dtype).kind != "O":
            return str(tensor.dtype), tuple(tensor.shape), values_of(tensor).tobytes()
        return "" if tensor.is_empty() else self.first.get(id(tensor), id(tensor))

    def _are_both_fixed(self, first: gs.Node, second: gs.Node) -> bool:
        pairs = zip(first.outputs, second.outputs, strict=False)
        return any(self.fixed.issuperset([id(one), id(other)]) for one, other in pairs)

    def _let_make(self, first: gs.Node, second: gs.Node) -> None:
        """Let one node make what must be made of another's outputs, in place of its own."""
        for slot, (old, other) in enumerate(zip(first.outputs, second.outputs, strict=False)):
            self.first[id(other)] = self.first.get(id(old), id(old))
            if id(other) in self.fixed:
                list.__setitem__(first.outputs, slot, other)
                list.__setitem__(other.inputs, slice(None), [first])
                list.clear(old.inputs)
                self.instead[id(old)] = other
            else:
                self.instead[id(other)] = old

    def _reread(self) -> None:
        """Let all nodes read what took the place of what they read."""
        for node in self.graph.nodes:
            for slot, tensor in enumerate(node.inputs):
                new = tensor
                while id(new) in self.instead:
                    new = self.instead[id(new)]
                if new is not tensor:
                    list.__setitem__(node.inputs, slot, new)
                    list.append(new.outputs, node)
                    list.clear(tensor.outputs)


def _given(tensors: list[gs.Tensor]) -> list[gs.Tensor]:
    """Without those that are left out at the end."""
    count = max((place for place, t in enumerate(tensors, 1) if not t.is_empty()), default=0)
    return tensors[:count]
