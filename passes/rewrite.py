"""Small moves that every pass makes."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import DTypeLike

from sardonyx.passes.metadata import RESERVED, annotate, inherit
from sardonyx.passes.origin import label
from sardonyx.passes.scopes import all_nodes, scopes

Replacements = dict[int, list[gs.Node]]
"""By ``id`` of an old node, the nodes that take its place."""


@dataclass
class Draft:
    """New nodes in the place of one. ``name``: of that node, with which theirs begin. ``dtype``: of
    the tensors between them, where a call names no other."""

    name: str
    dtype: DTypeLike
    nodes: list[gs.Node] = field(default_factory=list)

    @classmethod
    def of(cls, node: gs.Node, dtype: DTypeLike | None) -> "Draft":
        """A draft in the place of a node, of a type that is known."""
        assert dtype is not None
        return cls(label(node), dtype)

    def add(
        self,
        op: str,
        part: str,
        operands: list[gs.Tensor],
        *,
        domain: str | None = None,
        dtype: DTypeLike | None = None,
        shape: list[int | str | None] | None = None,
        **attrs: object,
    ) -> gs.Variable:
        """A node named ``NAME/PART`` after the others; its first output."""
        name = f"{self.name}/{part}"
        while any(node.name == name for node in self.nodes):
            name += "_"
        output = gs.Variable(f"{name}:0", dtype or self.dtype, shape)
        self.nodes.append(gs.Node(op, name, attrs, operands, [output], domain=domain))
        return output

    def constant(self, part: str, values: object, dtype: DTypeLike) -> gs.Constant:
        """A constant named ``NAME/PART``."""
        return gs.Constant(f"{self.name}/{part}", np.array(values, dtype))

    def scalar(self, part: str, value: float) -> gs.Constant:
        """A constant of one float, at the finite end of the type if it is beyond."""
        ends = ml_dtypes.finfo(self.dtype)  # type: ignore[no-untyped-call]
        return self.constant(part, np.clip(value, float(ends.min), float(ends.max)), self.dtype)

    def cast(self, part: str, tensor: gs.Tensor, dtype: DTypeLike) -> gs.Variable:
        """A Cast to a type."""
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.add("Cast", part, [tensor], dtype=dtype, to=kind)

    def take_place(self, old: gs.Node, made_by: str) -> list[gs.Node]:
        """Let the last node make what an old one made first, and have its notes; note on all nodes
        the pass that made them; return them."""
        inherit(self.nodes[-1], old)
        for node in self.nodes:
            annotate(node, **{"pass": made_by})
        output = take_outputs(old)[0]
        output.dtype = self.dtype
        self.nodes[-1].outputs[0] = output
        return self.nodes


def take_outputs(node: gs.Node) -> list[gs.Tensor]:
    """Free a node from its inputs and outputs, so that another can produce its outputs."""
    outputs = list(node.outputs)
    release(node)
    return outputs


def release(node: gs.Node) -> None:
    """Part a node from all that it reads and makes.

    graphsurgeon's own ways compare nodes by name and content: of two that are alike, as in the
    branches of an If, they may part the other.
    """
    for tensor in node.inputs:
        _forget(tensor.outputs, node)
    for tensor in node.outputs:
        _forget(tensor.inputs, node)
    list.clear(node.inputs)
    list.clear(node.outputs)


def release_all(nodes: list[gs.Node]) -> None:
    """The same for many nodes, which takes no longer where they read one tensor."""
    gone = set(map(id, nodes))
    touched = {id(t): t for node in nodes for t in (*node.inputs, *node.outputs)}
    for tensor in touched.values():
        for held in (tensor.inputs, tensor.outputs):
            list.__setitem__(held, slice(None), [n for n in held if id(n) not in gone])
    for node in nodes:
        list.clear(node.inputs)
        list.clear(node.outputs)


def detach(node: gs.Node) -> None:
    """Part a node from all but the constants that it reads: one may have so many readers that
    parting them one by one takes long, and `replace_nodes` does the rest at once."""
    for slot, tensor in enumerate(node.inputs):
        if not isinstance(tensor, gs.Constant):
            reread(node, slot, gs.Variable.empty())
    for tensor in node.outputs:
        _forget(tensor.inputs, node)
    list.clear(node.outputs)


def reread(node: gs.Node, slot: int, tensor: gs.Tensor) -> None:
    """Let a node read another tensor in a slot."""
    _forget(node.inputs[slot].outputs, node)
    list.__setitem__(node.inputs, slot, tensor)
    list.append(tensor.outputs, node)


def readers_of(tensor: gs.Tensor) -> list[gs.Node]:
    """The nodes that read a tensor, each once."""
    return list({id(node): node for node in tensor.outputs}.values())


def redirect(old: gs.Tensor, new: gs.Tensor, here: Container[int] | None = None) -> int:
    """Let all nodes that read a tensor, or those among ``here`` (by id), read another; how many
    did."""
    readers = [node for node in readers_of(old) if here is None or id(node) in here]
    for reader in readers:
        for slot, tensor in enumerate(reader.inputs):
            if tensor is old:
                reread(reader, slot, new)
    return len(readers)


def successor(
    node: gs.Node,
    op: str,
    inputs: Sequence[gs.Tensor],
    attrs: Mapping[str, object],
    made_by: str,
) -> gs.Node:
    """A standard node that makes what another made, under its name and with its notes."""
    held = {key: value for key, value in attrs.items() if key not in RESERVED}
    new = gs.Node(op, node.name, held, list(inputs))
    inherit(new, node)
    annotate(new, **{"pass": made_by})
    new.outputs.extend(take_outputs(node))
    return new


def _forget(nodes: list[gs.Node], node: gs.Node) -> None:
    list.pop(nodes, next(place for place, held in enumerate(nodes) if held is node))


def replace_nodes(graph: gs.Graph, replacements: Replacements) -> None:
    """Put new nodes where the old ones stood, in the graph and in those inside it, and `release`
    what is gone, with the bodies of an If that is; new tensors and nodes whose names are taken get
    others, so that no name is final before."""
    if not replacements:
        return
    added = [node for nodes in replacements.values() for node in nodes]
    known = [*all_nodes(graph), *added]
    name_apart(graph, [tensor for node in added for tensor in (*node.inputs, *node.outputs)])
    before = {id(scope): scope.nodes for scope in scopes(graph)}
    for scope in scopes(graph):
        scope.nodes = [new for old in scope.nodes for new in replacements.get(id(old), [old])]
    stand = set(map(id, all_nodes(graph)))
    release_all([node for node in known if id(node) not in stand])
    _name_nodes_apart(graph, before)


def _name_nodes_apart(graph: gs.Graph, before: Mapping[int, list[gs.Node]]) -> None:
    """Give new nodes other names where theirs are taken, in the graph or in one inside it.

    ``before``: the nodes that each held. In the place of one that is gone a name is free, also if a
    node of another body has it too: bodies that are alike stay so.
    """
    old = {id(node) for nodes in before.values() for node in nodes}
    taken = {node.name for node in all_nodes(graph) if id(node) in old}
    for scope in scopes(graph):
        staying = {id(node) for node in scope.nodes}
        free = {node.name for node in before.get(id(scope), []) if id(node) not in staying}
        free -= {node.name for node in scope.nodes if id(node) in old}
        for node in (node for node in scope.nodes if node.name and id(node) not in old):
            while node.name in taken and node.name not in free:
                node.name += "_"
            free.discard(node.name)
            taken.add(node.name)


def name_apart(graph: gs.Graph, tensors: Iterable[gs.Tensor]) -> None:
    """Give tensors that nothing in the graph reads or makes yet other names where theirs are taken,
    in the graph or in one inside it."""
    old = [t for scope in scopes(graph) for t in scope.tensors().values()]
    owners, known = {t.name: t for t in old}, set(map(id, old))
    for tensor in (tensor for tensor in tensors if id(tensor) not in known):
        while owners.setdefault(tensor.name, tensor) is not tensor and tensor.name:
            tensor.name += "_"
