"""What a pass changed: nodes that hang together, as they were and as they are."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.metadata import RESERVED
from sardonyx.passes.scopes import all_nodes, bodies, scopes


@dataclass(frozen=True, eq=False)
class Record:
    """A node as it was at one moment: nodes are edited in place, records are not.

    ``values``: for each input that is a constant, what it held, else None.
    """

    node: gs.Node
    op: str
    domain: str | None
    attrs: dict[str, object]
    inputs: tuple[gs.Tensor, ...]
    outputs: tuple[gs.Tensor, ...]
    values: tuple[Any, ...]

    @property
    def reads(self) -> set[str]:
        """Names of the tensors that the node needs; bodies of If, Loop and Scan read outer ones."""
        inner = [node for body in bodies(self.node) for node in all_nodes(body)]
        tensors = [*self.inputs, *(tensor for node in inner for tensor in node.inputs)]
        return {tensor.name for tensor in tensors}

    def same(self, other: "Record") -> bool:
        """Whether nothing but notes changed between the two moments."""
        return (
            (self.op, self.domain) == (other.op, other.domain)
            and self.attrs == other.attrs
            and list(map(id, self.inputs)) == list(map(id, other.inputs))
            and list(map(id, self.outputs)) == list(map(id, other.outputs))
            and all(map(_equal_values, self.values, other.values))
        )


@dataclass(eq=False)
class Region:
    """Changed nodes that hang together. ``outputs``: names of what the rest of the graph reads."""

    before: list[Record] = field(default_factory=list)
    after: list[Record] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    @property
    def records(self) -> list[Record]:
        """Both sides."""
        return [*self.before, *self.after]

    @property
    def label(self) -> str:
        """Op and name of the first node, and how many more there are."""
        nodes = self.after or self.before
        first = f"{nodes[0].op} '{nodes[0].node.name or nodes[0].outputs[0].name}'"
        return first if len(nodes) == 1 else f"{first} and {len(nodes) - 1} more nodes"

    def signature(self) -> tuple[object, ...]:
        """Equal for regions that differ only in names, values and lengths of vectors."""
        return tuple((r.op, str(r.attrs), tuple(map(_kind, r.inputs))) for r in self.records)

    def constant_elements(self) -> int:
        """Elements of the constants that either side reads."""
        read = {id(t): t for r in self.records for t in r.inputs if isinstance(t, gs.Constant)}
        return sum(int(np.prod(constant.shape)) for constant in read.values())


def record_of(node: gs.Node) -> Record:
    """A record of a node as it is now."""
    attrs = {key: value for key, value in node.attrs.items() if key not in RESERVED}
    values = tuple(t._values if isinstance(t, gs.Constant) else None for t in node.inputs)
    inputs, outputs = tuple(node.inputs), tuple(node.outputs)
    return Record(node, node.op, node.domain, attrs, inputs, outputs, values)


@dataclass(frozen=True, eq=False)
class Scope:
    """A graph, perhaps the body of an If, Loop or Scan, with records of its nodes at one moment."""

    graph: gs.Graph
    records: list[Record]


def record_scopes(graph: gs.Graph) -> list[Scope]:
    """The graph and every graph inside it, as they are now."""
    return [record_scope(scope) for scope in scopes(graph)]


def record_scope(graph: gs.Graph) -> Scope:
    """A graph as it is now, without those inside it."""
    return Scope(graph, [record_of(node) for node in graph.nodes])


def changed_regions(before: Scope, after: Scope) -> list[Region]:
    """The regions in which a graph differs between two moments, in graph order.

    What bodies of If, Loop and Scan hold belongs to scopes of their own.
    """
    old = {id(record.node): record for record in before.records}
    new = {id(record.node): record for record in after.records}
    stable = {key for key in old.keys() & new.keys() if old[key].same(new[key])}
    changed_before = [r for r in before.records if id(r.node) not in stable]
    changed_after = [r for r in after.records if id(r.node) not in stable]
    if not changed_before and not changed_after:
        return []
    needed = {name for r in after.records if id(r.node) in stable for name in r.reads}
    needed |= {t.name for t in after.graph.outputs}
    regions = _components(changed_before, changed_after)
    for region in regions:
        made = dict.fromkeys(t.name for r in region.before for t in r.outputs if t.name)
        region.outputs = [name for name in made if name in needed]
    return regions


def _components(before: list[Record], after: list[Record]) -> list[Region]:
    """Records that share a tensor one of them produces belong together."""
    touching: dict[str, list[Record]] = defaultdict(list)
    produced = {t.name for r in (*before, *after) for t in r.outputs if t.name}
    for record in (*before, *after):
        for tensor in (*record.inputs, *record.outputs):
            if tensor.name in produced:
                touching[tensor.name].append(record)
    home: dict[int, Region] = {}
    regions: dict[int, Region] = {}
    side = {id(record): "before" for record in before} | {id(record): "after" for record in after}
    for first in (*before, *after):
        if id(first) in home:
            continue
        region = Region()
        regions[id(region)] = region
        pending = [first]
        home[id(first)] = region
        while pending:
            record = pending.pop()
            for tensor in (*record.inputs, *record.outputs):
                for other in touching.pop(tensor.name, []):
                    if id(other) not in home:
                        home[id(other)] = region
                        pending.append(other)
    for record in (*before, *after):
        getattr(home[id(record)], side[id(record)]).append(record)
    return list(regions.values())


def _equal_values(a: Any, b: Any) -> bool:
    """Whether a constant holds what it held; reading it may have put an array in place of a file.

    Arrays of a file are read-only, so that a new value is always a new object.
    """
    if a is b or a is None or b is None:  # None: not a constant then; its producer changed
        return True
    one, other = (v if isinstance(v, np.ndarray) else v.load() for v in (a, b))
    alike = (one.dtype, one.shape) == (other.dtype, other.shape)
    return alike and bool(one.tobytes() == other.tobytes())


def _kind(tensor: gs.Tensor) -> str:
    if isinstance(tensor, gs.Constant):
        shape = list(tensor.shape)
        return f"{tensor.dtype}{shape if len(shape) != 1 else 'vector'}"
    return "" if tensor.is_empty() else "variable"
