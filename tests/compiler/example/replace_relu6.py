"""replace-relu6: a pass of one's own, in one file. Compile with ``--recipe`` and its path."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import annotate, inherit
from sardonyx.passes.rewrite import Replacements, replace_nodes, take_outputs


@dataclass(frozen=True)
class ReplaceRelu6(Pass):
    """``Min(Relu(x), limit)``  ->  ``Clip(x, 0, limit)``.

    Does not fire where

    1. the other operand of Min is not a float scalar constant in [0, ``greatest``],
    2. anything else reads the Relu or it is an output of the graph.
    """

    greatest: float = 6.0

    name: ClassVar[str] = "replace-relu6"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Replace each pair; the Clip stands where the Min stood."""
        replacements: Replacements = {}
        for node in graph.nodes:
            if node.op == "Min" and len(node.inputs) == 2 and self._fits(node, graph):
                replacements |= _replace(node)
        replace_nodes(graph, replacements)
        return len(replacements) // 2

    def _fits(self, node: gs.Node, graph: gs.Graph) -> bool:
        activation, limit = node.inputs
        return (
            isinstance(limit, gs.Constant)
            and limit.values.shape == ()
            and 0.0 <= limit.values <= self.greatest
            and isinstance(activation, gs.Variable)
            and [maker.op for maker in activation.inputs] == ["Relu"]
            and len(activation.outputs) == 1
            and activation not in graph.outputs
        )


def _replace(node: gs.Node) -> Replacements:
    activation, limit = node.inputs
    (relu,) = activation.inputs
    (x,) = relu.inputs
    zero = gs.Constant(f"{limit.name}/zero", np.zeros((), limit.dtype))
    take_outputs(relu)
    clip = gs.Node("Clip", node.name, {}, [x, zero, limit], take_outputs(node))
    inherit(clip, node)
    annotate(clip, **{"pass": ReplaceRelu6.name})
    return {id(relu): [], id(node): [clip]}
