"""A stream: all tensors that must hold their channels in one order, found from any of them.

Values are followed forward and backward through all ops that keep channels, into constants too.
Where an op does not, the stream ends: the tensor must be put in order there by a Gather.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from functools import cached_property

import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.peg.channel_rules import Port, Ties
from sardonyx.passes.rewrite import readers_of
from sardonyx.passes.scopes import all_outputs, scopes
from sardonyx.passes.sizes import Sizes

Axis = tuple[int, int]
"""``id`` of a tensor, and one of its axes, counted from its end."""


@dataclass(frozen=True, eq=False)
class Stream:
    """Tensors whose channels have one order.

    ``width``: number of channels. ``ports``: where nodes read and make them, those among
    ``choices`` by a Gather that picks channels by constant places. ``exits``: where a node reads or
    makes one of them and needs the order that it has now, and why.
    """

    width: int
    ports: tuple[Port, ...]
    choices: tuple[Port, ...]
    exits: tuple[tuple[Port, str], ...]

    @cached_property
    def tensors(self) -> tuple[gs.Variable, ...]:
        """All that are not constant, in the order they were met."""
        held = {id(port.tensor): port.tensor for port in self.ports}
        return tuple(tensor for tensor in held.values() if isinstance(tensor, gs.Variable))

    def holds(self, tensor: gs.Tensor) -> bool:
        """Whether a tensor is one of them."""
        return any(held is tensor for held in self.tensors)


def width_of(tensor: gs.Tensor, sizes: Sizes) -> int:
    """How many channels the last axis of a tensor holds; raises Unfit where that is not known."""
    shape = sizes.shape(tensor)
    if not shape or not isinstance(shape[-1], int):
        raise Unfit(f"it is not known how many channels '{tensor.name}' has")
    return shape[-1]


def stream_of(graph: gs.Graph, tensor: gs.Tensor, sizes: Sizes) -> Stream:
    """The stream that a tensor belongs to, its last axis being that of the channels.

    A matrix that several nodes read binds them together, so that none is stored twice; of a vector
    each may have its own. Raises Unfit where it is not known how many channels there are.
    """
    ties = Ties(sizes, width_of(tensor, sizes))
    homes, outputs, fixed = _homes(graph), all_outputs(graph), dict[Axis, str]()
    while True:
        trace = _Trace(ties, homes, fixed)
        trace.follow(tensor)
        more = trace.needed(outputs)
        if not more:
            return trace.stream()
        fixed |= more


@dataclass
class _Trace:
    """A search. ``homes``: by ``id`` of a node or tensor, that of the graph it is in. ``fixed``:
    axes of constants that others need in the order they are in, and who."""

    ties: Ties
    homes: dict[int, int]
    fixed: dict[Axis, str]
    ports: dict[tuple[int, bool, int, int], Port] = field(default_factory=dict)
    exits: list[tuple[Port, str]] = field(default_factory=list)

    def follow(self, start: gs.Tensor) -> None:
        """Find all that is tied to the last axis of a tensor."""
        pending, seen = [(start, -1)], {(id(start), -1)}
        while pending:
            for port in self._tied(*pending.pop()):
                self.ports[port.key] = port
                tensor, known = port.tensor, (id(port.tensor), port.axis)
                if known not in seen and not _is_vector(tensor):
                    seen.add(known)
                    pending.append((tensor, port.axis))

    def _tied(self, tensor: gs.Tensor, axis: int) -> list[Port]:
        found: list[Port] = []
        for port in _ports(tensor, axis):
            if port.key in self.ports:
                continue
            try:
                found += self._group(port)
            except Unfit as reason:
                self.exits.append((port, str(reason)))
        return found

    def _group(self, port: Port) -> list[Port]:
        group = self.ties.of(port)
        for each in group:
            home = self.homes.get(id(each.tensor))  # a constant has none
            if home not in (None, self.homes[id(each.node)]):
                raise Unfit(f"'{each.tensor.name}' is made around the body that reads it")
            who = self.fixed.get((id(each.tensor), each.axis))
            if who:
                raise Unfit(f"'{each.tensor.name}' is also read by {who}")
        return group

    def needed(self, outputs: Set[int]) -> dict[Axis, str]:
        """Axes of constants that something else needs as they are, and what."""
        found = {}
        for port in self.ports.values():
            if isinstance(port.tensor, gs.Constant) and id(port.tensor) in outputs:
                found[id(port.tensor), port.axis] = "the graph's caller"
        for port, _ in self.exits:
            if isinstance(port.tensor, gs.Constant):
                found[id(port.tensor), port.axis] = f"{port.node.op} '{port.node.name}'"
        return found

    def stream(self) -> Stream:
        """What was found."""
        ports = tuple(self.ports.values())
        choices = tuple(port for port in ports if self.ties.chooses(port))
        return Stream(self.ties.width, ports, choices, tuple(self.exits))


def _homes(graph: gs.Graph) -> dict[int, int]:
    """By ``id`` of each node and variable, that of the graph, perhaps a body, that it is in."""
    homes: dict[int, int] = {}
    for scope in scopes(graph):
        made = [tensor for node in scope.nodes for tensor in node.outputs]
        homes |= {id(each): id(scope) for each in (*scope.nodes, *scope.inputs, *made)}
    return homes


def _ports(tensor: gs.Tensor, axis: int) -> list[Port]:
    """Where an axis of a tensor is made and read, in the graph and in those inside it."""
    makers = [(node, True, node.outputs) for node in tensor.inputs]
    readers = [(node, False, node.inputs) for node in readers_of(tensor)]
    return [
        Port(node, made, slot, axis)
        for node, made, ends in (*makers, *readers)
        for slot, end in enumerate(ends)
        if end is tensor
    ]


def _is_vector(tensor: gs.Tensor) -> bool:
    """Whether a tensor is a constant of one axis of more than one element at most."""
    return isinstance(tensor, gs.Constant) and sum(size != 1 for size in tensor.shape) <= 1
