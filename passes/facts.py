"""Named predicates on a graph: what passes require and establish, and the driver checks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.scopes import scopes

NUMERIC = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}
"""The numeric attributes of a Constant node, besides ``value``, and their dtypes."""


@dataclass(frozen=True)
class Fact:
    """A predicate with the sentence that holds when it is true."""

    sentence: str
    holds: Callable[[gs.Graph], bool]


def _liftable(node: gs.Node) -> bool:
    """Whether a node is a Constant whose value an initializer can hold."""
    return node.op == "Constant" and (
        "value" in node.attrs or not NUMERIC.keys().isdisjoint(node.attrs)
    )


def liftable_nodes(graph: gs.Graph) -> list[gs.Node]:
    """Constant nodes directly in a graph that initializers can replace: an output needs a node."""
    outputs = {tensor.name for tensor in graph.outputs}
    return [n for n in graph.nodes if _liftable(n) and n.outputs[0].name not in outputs]


def _no_constant_is_read(graph: gs.Graph) -> bool:
    return not any(liftable_nodes(scope) for scope in scopes(graph))


CONSTANTS_ARE_INITIALIZERS = Fact(
    "every numeric constant that is not an output of its graph is an initializer",
    _no_constant_is_read,
)
