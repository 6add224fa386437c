"""lift-constants: Constant nodes become initializers."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import LazyValues

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS, NUMERIC, liftable
from sardonyx.passes.journal import Journal


@dataclass(frozen=True)
class LiftConstants(Pass):
    """``y = Constant <value = c>``  ->  an initializer y = c.

    Does not fire where

    1. the constant is a string given as an attribute (``value_string``, ``value_strings``),
    2. y is an output of the graph, which an initializer may not be in every runtime.
    """

    name: ClassVar[str] = "lift-constants"
    establishes: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Lift every constant that the cases allow."""
        outputs = {tensor.name for tensor in graph.outputs}
        lifted = set()
        for node in graph.nodes:
            if liftable(node) and node.outputs[0].name not in outputs:
                output = node.outputs[0]
                node.outputs.clear()
                output.to_constant(_value(node))
                lifted.add(id(node))
        graph.nodes = [node for node in graph.nodes if id(node) not in lifted]
        return len(lifted)


def _value(node: gs.Node) -> np.ndarray | LazyValues:
    if "value" in node.attrs:
        values: np.ndarray | LazyValues = node.attrs["value"]._values
        return values
    key = next(key for key in NUMERIC if key in node.attrs)
    return np.array(node.attrs[key], NUMERIC[key])
