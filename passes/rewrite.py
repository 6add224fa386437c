"""Small moves that every pass makes."""

from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import DTypeLike

from sardonyx.passes.scopes import scopes

Replacements = dict[int, list[gs.Node]]
"""By ``id`` of an old node, the nodes that take its place."""


@dataclass
class Draft:
    """New nodes in the place of one. ``name``: of that node, with which theirs begin. ``dtype``: of
    the tensors between them, where a call names no other."""

    name: str
    dtype: DTypeLike
    nodes: list[gs.Node] = field(default_factory=list)

    def add(
        self,
        op: str,
        part: str,
        operands: list[gs.Tensor],
        *,
        domain: str | None = None,
        dtype: DTypeLike | None = None,
        **attrs: object,
    ) -> gs.Variable:
        """A node named ``NAME/PART`` after the others; its first output."""
        name = f"{self.name}/{part}"
        while any(node.name == name for node in self.nodes):
            name += "_"
        output = gs.Variable(f"{name}:0", dtype or self.dtype)
        self.nodes.append(gs.Node(op, name, attrs, operands, [output], domain=domain))
        return output

    def constant(self, part: str, values: object, dtype: DTypeLike) -> gs.Constant:
        """A constant named ``NAME/PART``."""
        return gs.Constant(f"{self.name}/{part}", np.array(values, dtype))


def take_outputs(node: gs.Node) -> list[gs.Tensor]:
    """Free a node from its inputs and outputs, so that another can produce its outputs."""
    outputs = list(node.outputs)
    node.inputs.clear()
    node.outputs.clear()
    return outputs


def replace_nodes(graph: gs.Graph, replacements: Replacements) -> None:
    """Put new nodes where the old ones stood, in the graph and in those inside it; new tensors
    whose names are taken get others."""
    old = [t for scope in scopes(graph) for t in scope.tensors().values()]
    owners, known = {t.name: t for t in old}, set(map(id, old))
    for new in (node for nodes in replacements.values() for node in nodes):
        for tensor in (t for t in (*new.inputs, *new.outputs) if id(t) not in known):
            while owners.setdefault(tensor.name, tensor) is not tensor and tensor.name:
                tensor.name += "_"
    for scope in scopes(graph):
        scope.nodes = [new for old in scope.nodes for new in replacements.get(id(old), [old])]
