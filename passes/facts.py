"""Named predicates on a graph: what passes require and establish, and the driver checks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

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


def liftable(node: gs.Node) -> bool:
    """Whether a node is a Constant whose value an initializer can hold."""
    return node.op == "Constant" and (
        "value" in node.attrs or not NUMERIC.keys().isdisjoint(node.attrs)
    )


def _no_constant_is_read(graph: gs.Graph) -> bool:
    outputs = {tensor.name for tensor in graph.outputs}
    return not any(liftable(node) and node.outputs[0].name not in outputs for node in graph.nodes)


CONSTANTS_ARE_INITIALIZERS = Fact(
    "every numeric constant that is not an output of the graph is an initializer",
    _no_constant_is_read,
)
