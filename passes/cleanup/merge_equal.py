"""merge-equal: what several nodes compute alike is computed once."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.fused import is_standard
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import RESERVED
from sardonyx.passes.rewrite import release, reread
from sardonyx.passes.scopes import scopes
from sardonyx.passes.weights import values_of

_FEW = 64
"""Elements up to which constants are compared by what they hold."""

_NOT_PURE = frozenset(
    ["Bernoulli", "Dropout", "Multinomial"]
    + [f"Random{kind}{like}" for kind in ("Normal", "Uniform") for like in ("", "Like")]
)
"""Ops that may give something else each time."""


@dataclass(frozen=True)
class MergeEqual(Pass):
    """``y = Op(x) ... z = Op(x)``  ->  ``y = Op(x)``, read in place of z.

    Op is a standard one, with equal attributes; small constants are equal that hold the same. Does
    not fire

    1. on ops that draw random numbers, and on those that hold graphs,
    2. where z is an output of its graph or read by a graph inside it, or y and z are other of
       several outputs.
    """

    name: ClassVar[str] = "merge-equal"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Merge in every graph by itself, from the first node to the last."""
        return sum(map(_merge, scopes(graph)))


def _merge(graph: gs.Graph) -> int:
    outputs, here = set(map(id, graph.outputs)), set(map(id, graph.nodes))
    seen: dict[Hashable, gs.Node] = {}
    kept = []
    for node in graph.nodes:
        key = _key(node)
        first = seen.setdefault(key, node) if key else node
        needed = any(id(tensor) in outputs for tensor in node.outputs)
        needed |= any(id(r) not in here for tensor in node.outputs for r in tensor.outputs)
        if first is node or needed:
            kept.append(node)
        else:
            _redirect(node, first)
    merged = len(graph.nodes) - len(kept)
    graph.nodes = kept
    return merged


def _key(node: gs.Node) -> Hashable:
    """Equal for nodes that compute the same; None for one that nothing is known of."""
    if not is_standard(node) or node.op in _NOT_PURE or any(node.subgraphs()):
        return None
    attributes = {key: value for key, value in node.attrs.items() if key not in RESERVED}
    held = tuple((key, _held(value)) for key, value in sorted(attributes.items()))
    made = tuple(tensor.is_empty() for tensor in node.outputs)
    return node.op, held, tuple(map(_identity, node.inputs)), made


def _held(value: object) -> Hashable:
    if isinstance(value, gs.Constant):
        return _identity(value)
    return (str(type(value)), str(value))


def _identity(tensor: gs.Tensor) -> Hashable:
    small = isinstance(tensor, gs.Constant) and int(np.prod(tensor.shape)) <= _FEW
    if small and np.dtype(tensor.dtype).kind != "O":
        return str(tensor.dtype), tuple(tensor.shape), values_of(tensor).tobytes()
    return "" if tensor.is_empty() else id(tensor)


def _redirect(node: gs.Node, first: gs.Node) -> None:
    """Let readers of one node's outputs read another's."""
    for old, new in zip(node.outputs, first.outputs, strict=True):
        for reader in list(old.outputs):
            for slot, tensor in enumerate(reader.inputs):
                if tensor is old:
                    reread(reader, slot, new)
    release(node)
