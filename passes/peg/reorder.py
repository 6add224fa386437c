"""Channels put in another order: in constants, at no cost, and by a Gather where a stream ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from sardonyx.passes.metadata import ORDERED, PREFIX, PROPS, annotate
from sardonyx.passes.peg.channel_rules import Port
from sardonyx.passes.peg.channels import Stream, width_of
from sardonyx.passes.rewrite import (
    Replacements,
    name_apart,
    readers_of,
    redirect,
    replace_nodes,
    reread,
)
from sardonyx.passes.scopes import all_nodes, all_outputs, scopes
from sardonyx.passes.sizes import Sizes
from sardonyx.passes.weights import values_of

Order = NDArray[np.int64]
"""Of each channel, the place that it had before."""

_Version = frozenset[tuple[int, int]]
"""How a tensor is ordered: axes, each with the number of the order; others are as they were."""

_PLAIN: _Version = frozenset()

_NOTE = "channels"
"""On each Gather that does nothing but order channels."""


def cut(graph: gs.Graph, tensors: Iterable[gs.Tensor], sizes: Sizes, by: str) -> None:
    """Part streams: put a Gather that picks all channels in turn behind each of some tensors that
    nodes read, for `Reorder` to let it lead from one order to another.

    ``sizes``: of the graph, to be found anew afterwards. ``by``: the pass that does it. Raises
    Unfit where the number of channels is not known.
    """
    placed = []
    for tensor in {id(tensor): tensor for tensor in tensors if tensor.outputs}.values():
        width = width_of(tensor, sizes)
        beside = _beside(graph, tensor)
        new = gs.Variable(f"{tensor.name}/cut", tensor.dtype, tensor.shape)
        name_apart(graph, [new])
        redirect(tensor, new)
        placed.append((beside, _gather(tensor, np.arange(width), -1, new, by)))
    _insert(graph, placed)


def orderings(graph: gs.Graph) -> int:
    """How many Gathers there are, also in bodies, that do nothing but order channels."""
    return sum(1 for _ in _orderings(graph))


@dataclass
class Reorder:
    """Streams of a graph put in order, all at once. ``by``: the pass that does it."""

    graph: gs.Graph
    by: str
    _orders: list[Order] = field(default_factory=list)
    _versions: dict[tuple[int, bool, int], _Version] = field(default_factory=dict)
    _tensors: dict[int, gs.Tensor] = field(default_factory=dict)
    _choices: list[Port] = field(default_factory=list)

    def permute(self, stream: Stream, order: Order) -> None:
        """Take down that channel j of a stream is to be what is its channel order[j] now.

        Raises ValueError if that is no order of its channels, or a second one for them.
        """
        if not np.array_equal(np.sort(order), np.arange(stream.width)):
            raise ValueError(f"no order of {stream.width} channels")
        number = self._number(order)
        for port in stream.ports:
            version = self._version(port.node, port.made, port.slot)
            if dict(version).get(port.axis, number) != number:
                raise ValueError(f"a second order for '{port.tensor.name}'")
            key = id(port.node), port.made, port.slot
            self._versions[key] = version | {(port.axis, number)}
            self._tensors[id(port.tensor)] = port.tensor
        self._choices += stream.choices

    def apply(self) -> int:
        """Make the changes. Tensors of other values get other names: what was found in the graph
        before is to be found anew. Returns how many Gathers there are for nothing but orders."""
        changes = _Changes(self.graph, self.by)
        for tensor in self._tensors.values():
            if isinstance(tensor, gs.Constant):
                self._copy(tensor, changes)
            else:
                self._follow(tensor, changes)
        self._choose(changes)
        changes.make()
        _drop_identities(self.graph)
        return orderings(self.graph)

    def order_of(self, tensor: gs.Tensor) -> Order | None:
        """The order that the last axis of a tensor is to have; None: that which it has."""
        version: _Version = _PLAIN
        for node in tensor.inputs:
            slot = next(slot for slot, made in enumerate(node.outputs) if made is tensor)
            version = self._version(node, True, slot)
        number = dict(version).get(-1)
        return None if number is None else self._orders[number]

    def _number(self, order: Order) -> int:
        for number, known in enumerate(self._orders):
            if np.array_equal(known, order):
                return number
        self._orders.append(order.astype(np.int64))
        return len(self._orders) - 1

    def _version(self, node: gs.Node, made: bool, slot: int) -> _Version:
        return self._versions.get((id(node), made, slot), _PLAIN)

    def _readers(self, tensor: gs.Tensor) -> Iterator[tuple[gs.Node, int, _Version]]:
        """Who reads a tensor in which slot, and how it is to be ordered there."""
        for node in readers_of(tensor):
            for slot, read in enumerate(node.inputs):
                if read is tensor:
                    yield node, slot, self._version(node, False, slot)

    def _copy(self, old: gs.Constant, changes: _Changes) -> None:
        """A constant for each way in which it is read."""
        copies = {_PLAIN: old}
        for node, slot, version in self._readers(old):
            if version not in copies:
                values = values_of(old)
                for axis, number in version:
                    values = np.take(values, self._orders[number], axis)
                copies[version] = gs.Constant(f"{old.name}{ORDERED}", values)
            changes.read(node, slot, copies[version])

    def _follow(self, old: gs.Tensor, changes: _Changes) -> None:
        """A tensor as it is made now, and Gathers to each other way in which it is read."""
        made, new = _PLAIN, old
        for node in old.inputs:
            slot = next(slot for slot, tensor in enumerate(node.outputs) if tensor is old)
            made = self._version(node, True, slot)
            if made:
                new = changes.like(old)
                changes.makes.append((node, slot, new))
        known = {made: new}
        wanted = [(version, old) for _, _, version in self._readers(old)]
        wanted += [(_PLAIN, old)] if id(old) in changes.outputs else []
        for version, _ in wanted:
            if version not in known:
                known[version] = self._gathered(old, new, made, version, changes)
        for node, slot, version in self._readers(old):
            changes.read(node, slot, known[version])

    def _gathered(
        self, old: gs.Tensor, new: gs.Tensor, made: _Version, version: _Version, changes: _Changes
    ) -> gs.Tensor:
        """The tensor in another order than it is made in: a Gather for each axis that differs."""
        axes = sorted({axis for axis, _ in made ^ version})
        for axis in axes:
            last = axis == axes[-1]
            result = old if last and version == _PLAIN else changes.like(old)
            places = self._between(dict(made).get(axis), dict(version).get(axis))
            changes.gathers.append((old, new, places, axis, result))
            new = result
        return new

    def _between(self, one: int | None, other: int | None) -> Order:
        """The places, in one order, of channels in another; None: the order of old."""
        wanted = None if other is None else self._orders[other]
        if one is None:
            assert wanted is not None
            return wanted
        places = np.argsort(self._orders[one])
        return places if wanted is None else places[wanted]

    def _choose(self, changes: _Changes) -> None:
        """Let Gathers that pick channels find them where they are now, and put them in order."""
        for port in {id(port.node): port for port in self._choices}.values():
            node, old = port.node, port.node.inputs[1]
            places = values_of(old).astype(np.int64)
            made = dict(self._version(node, True, 0)).get(port.axis)
            read = dict(self._version(node, False, 0)).get(port.axis)
            places = places if made is None else places[self._orders[made]]
            places = places if read is None else np.argsort(self._orders[read])[places]
            changes.read(node, 1, gs.Constant(f"{old.name}{ORDERED}", places))


@dataclass
class _Changes:
    """Changes to a graph that are taken down before any is made. ``reads``, ``makes``: nodes, slots
    and what is to stand there. ``gathers``: a tensor, and a Gather to come behind its maker: what
    it reads, the places, the axis, what it makes."""

    graph: gs.Graph
    by: str
    reads: list[tuple[gs.Node, int, gs.Tensor]] = field(default_factory=list)
    makes: list[tuple[gs.Node, int, gs.Tensor]] = field(default_factory=list)
    gathers: list[tuple[gs.Tensor, gs.Tensor, Order, int, gs.Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.outputs = all_outputs(self.graph)

    def like(self, old: gs.Tensor) -> gs.Variable:
        """A tensor for the same values in another order."""
        return gs.Variable(f"{old.name}{ORDERED}", old.dtype, old.shape)

    def read(self, node: gs.Node, slot: int, tensor: gs.Tensor) -> None:
        """Let a node read a tensor."""
        if node.inputs[slot] is not tensor:
            self.reads.append((node, slot, tensor))

    def make(self) -> None:
        """Make them."""
        name_apart(self.graph, [tensor for _, _, tensor in (*self.reads, *self.makes)])
        beside = [_beside(self.graph, old) for old, *_ in self.gathers]
        for node, slot, tensor in self.reads:
            reread(node, slot, tensor)
        for node, slot, tensor in self.makes:
            node.outputs[slot] = tensor
        gathers = [_gather(x, places, axis, y, self.by) for _, x, places, axis, y in self.gathers]
        _insert(self.graph, list(zip(beside, gathers, strict=True)))


_Beside = tuple[gs.Node, bool]
"""A node, and whether what is new stands behind it or in front of it."""


def _beside(graph: gs.Graph, tensor: gs.Tensor) -> _Beside:
    """Where a node can stand that reads a tensor, ahead of all that do."""
    if tensor.inputs:
        return tensor.inputs[0], True
    owner = next(s for s in scopes(graph) if any(held is tensor for held in s.inputs))
    return owner.nodes[0], False


def _gather(source: gs.Tensor, places: Order, axis: int, result: gs.Tensor, by: str) -> gs.Node:
    """A node that orders channels."""
    name = f"{result.name}/Order"
    listed = gs.Constant(f"{name}/places", places)
    node = gs.Node("Gather", name, {"axis": axis}, [source, listed], [result])
    annotate(node, **{"pass": by, _NOTE: len(places)})
    return node


def _insert(graph: gs.Graph, placed: Iterable[tuple[_Beside, gs.Node]]) -> None:
    replaced: Replacements = defaultdict(list)
    ahead: Replacements = defaultdict(list)
    for (node, behind), new in placed:
        replaced[id(node)] = replaced[id(node)] or [node]
        (replaced if behind else ahead)[id(node)].append(new)
    replace_nodes(graph, {key: [*ahead[key], *nodes] for key, nodes in replaced.items()})


def _orderings(graph: gs.Graph) -> Iterator[gs.Node]:
    noted = f"{PREFIX}{_NOTE}"
    return (n for n in all_nodes(graph) if n.op == "Gather" and noted in n.attrs.get(PROPS, {}))


def _drop_identities(graph: gs.Graph) -> None:
    """Take Gathers away that leave all channels where they are."""
    outputs, gone = all_outputs(graph), Replacements()
    for node in _orderings(graph):
        places = values_of(node.inputs[1])
        if id(node.outputs[0]) not in outputs and np.array_equal(places, np.arange(len(places))):
            redirect(node.outputs[0], node.inputs[0])
            gone[id(node)] = []
    replace_nodes(graph, gone)
