"""raise-opset: the graph moves to a newer operator set, which has faster kernels."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from onnx.defs import OpSchema, get_schema
from pydantic import Field

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.journal import Journal, Miss
from sardonyx.passes.origin import is_standard
from sardonyx.passes.scopes import all_nodes, scopes

_MORE_TYPES = (
    "Add Cast CastLike Constant ConstantOfShape Conv CumSum DequantizeLinear Div Dropout Equal "
    "Flatten Greater GreaterOrEqual Identity If IsInf IsNaN Less LessOrEqual Loop Mul Pow "
    "QuantizeLinear Relu Reshape Scan ScatterElements ScatterND Shape Size Squeeze Sub Transpose "
    "Unsqueeze Where"
)
"""Ops that newer sets, from 13 to 23, gave more types and optional attributes, nothing else."""

_REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSumSquare"
)
"""Ops whose axes were an attribute before opset 18."""

_MOVABLE = frozenset([*_MORE_TYPES.split(), *_REDUCTIONS.split(), "Split"])

_FIRST = 13


@dataclass(frozen=True)
class RaiseOpset(Pass):
    """A graph of opset 13 or newer  ->  the same in opset ``to``; 0 leaves it.

    ``ReduceMean(x) <axes>``  ->  ``ReduceMean(x, axes)``, as the other reductions; ``Split(x)``  ->
    ``Split(x) <num_outputs>``. Does not fire

    1. where the model is newer already, or older than opset 13,
    2. where it holds an op that means something else in ``to`` than in its own opset.
    """

    to: Annotated[int, Field(ge=0, le=23)] = 23

    name: ClassVar[str] = "raise-opset"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Raise it, in the graph and in those inside it."""
        if not graph.opset or graph.opset >= self.to:
            return 0
        nodes = list(filter(is_standard, all_nodes(graph)))
        reason = f"opset {graph.opset} is older than 13" if graph.opset < _FIRST else ""
        culprit = next((n for n in nodes if not self._keeps(n, graph.opset)), None)
        if culprit is not None:
            reason = reason or f"{culprit.op} is another op in opset {self.to}"
        if reason:
            name = culprit.name or culprit.outputs[0].name if culprit is not None else ""
            journal.missed.append(Miss(self.name, name, reason))
            return 0
        old = graph.opset
        for scope in scopes(graph):
            scope.opset = self.to
        return 1 + sum(_move(node, old) for node in nodes)

    def _keeps(self, node: gs.Node, opset: int) -> bool:
        """Whether a node's op has the same meaning in both, or can be rewritten."""
        if node.op in _MOVABLE:
            return True
        before, after = _schema(node.op, opset), _schema(node.op, self.to)
        if before is None or after is None:
            return before is after  # onnxruntime knows ops that the standard does not
        return bool(before.since_version == after.since_version)


def _schema(op: str, opset: int) -> OpSchema | None:
    try:
        return get_schema(op, max_inclusive_version=opset)
    except Exception:  # the library has no other word for "there is none"
        return None


def _move(node: gs.Node, opset: int) -> bool:
    """Write a node as opset 18 has it; whether that changed it."""
    if opset >= 18:
        return False
    if node.op == "Split" and len(node.inputs) < 2:
        node.attrs["num_outputs"] = len(node.outputs)
        return True
    if node.op in _REDUCTIONS.split() and "axes" in node.attrs:
        axes = np.array(node.attrs.pop("axes"), np.int64)
        name = node.name or node.outputs[0].name
        node.inputs.append(gs.Constant(f"{name}/axes", axes))
        return True
    return False
