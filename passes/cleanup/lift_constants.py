"""lift-constants: Constant nodes become initializers."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import LazyValues

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS, NUMERIC, liftable_nodes
from sardonyx.passes.journal import Journal
from sardonyx.passes.scopes import scopes


@dataclass(frozen=True)
class LiftConstants(Pass):
    """``y = Constant <value = c>``  ->  an initializer y = c.

    Does not fire where

    1. the constant is a string given as an attribute (``value_string``, ``value_strings``),
    2. y is an output of its graph, which an initializer may not be in every runtime.
    """

    name: ClassVar[str] = "lift-constants"
    establishes: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Lift every constant that the cases allow."""
        return sum(_lift(scope) for scope in scopes(graph))


def _lift(graph: gs.Graph) -> int:
    lifted = liftable_nodes(graph)
    for node in lifted:
        (output,) = node.outputs
        node.outputs.clear()
        output.to_constant(_value(node))
    gone = set(map(id, lifted))
    graph.nodes = [node for node in graph.nodes if id(node) not in gone]
    return len(lifted)


def _value(node: gs.Node) -> np.ndarray | LazyValues:
    if "value" in node.attrs:
        values: np.ndarray | LazyValues = node.attrs["value"]._values
        return values
    key = next(key for key in NUMERIC if key in node.attrs)
    return np.array(node.attrs[key], NUMERIC[key])
