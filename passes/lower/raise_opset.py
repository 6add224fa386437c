"""raise-opset: the graph moves to a newer operator set, which has faster kernels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from onnx.defs import OpSchema, get_schema
from pydantic import Field

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fused import is_standard
from sardonyx.passes.journal import Journal, Miss
from sardonyx.passes.rewrite import name_apart
from sardonyx.passes.scopes import all_nodes, scopes

_MORE_TYPES = (
    "Add Cast CastLike Constant ConstantOfShape Conv Cos CumSum DequantizeLinear Div Dropout Elu "
    "Equal EyeLike Flatten GRU GlobalAveragePool Greater GreaterOrEqual HardSigmoid HardSwish "
    "Identity If InstanceNormalization IsInf IsNaN LSTM LeakyRelu Less LessOrEqual Loop MaxPool "
    "Mish Mul PRelu Pad Pow Relu Reshape Round Scan ScatterElements ScatterND Selu Shape Sin Size "
    "Softplus Softsign Squeeze Sub Transpose Unsqueeze Where"
)
"""Ops that newer sets, from 13 to 23, gave more types, optional attributes and inputs, nothing
else, and that onnxruntime computes alike. QuantizeLinear is none: older onnxruntimes that know
opset 23 have no kernel for it."""

_REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSumSquare"
)
"""Ops whose axes were an attribute before opset 18."""

MOVABLE = frozenset([*_MORE_TYPES.split(), *_REDUCTIONS.split(), "Split"])
"""Ops that a node of opset 13 or newer keeps the meaning of in 23, rewritten or as it is."""

_FIRST = 13

_INPUTS = 18
"""The first opset in which axes are inputs and a Split says how many parts it makes."""


@dataclass(frozen=True)
class RaiseOpset(Pass):
    """A graph of opset 13 or newer  ->  the same in opset ``to``; 0 leaves it.

    ``ReduceMean(x) <axes>``  ->  ``ReduceMean(x, axes)``, as the other reductions; ``Split(x)``  ->
    ``Split(x) <num_outputs>``. Does not fire

    1. where the model is newer already, or older than opset 13,
    2. where it holds an op that changed between the two, in more than the types it takes.
    """

    to: Annotated[int, Field(ge=0, le=23)] = 23

    name: ClassVar[str] = "raise-opset"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Raise it, in the graph and in those inside it."""
        nodes = list(filter(is_standard, all_nodes(graph)))
        old = graph.opset
        if not nodes or old >= self.to:
            return 0
        miss = self._miss(graph, nodes)
        if miss is not None:
            journal.missed.append(miss)
            return 0
        for scope in scopes(graph):
            scope.opset = self.to
        if old < _INPUTS <= self.to:
            return 1 + _give_axes(graph, nodes) + _count_parts(nodes)
        return 1

    def _miss(self, graph: gs.Graph, nodes: Sequence[gs.Node]) -> Miss | None:
        """Why the graph stays in its opset."""
        if graph.opset < _FIRST:
            return Miss(self.name, graph.name, f"opset {graph.opset} is older than {_FIRST}")
        for node in nodes:
            if not self._keeps(node, graph.opset):
                reason = f"{node.op} changed between opset {graph.opset} and {self.to}"
                return Miss(self.name, _label(node), reason)
        return None

    def _keeps(self, node: gs.Node, opset: int) -> bool:
        """Whether a node's op has the same meaning in both, or can be rewritten."""
        if node.op in MOVABLE:
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


def _label(node: gs.Node) -> str:
    name: str = node.name or next((t.name for t in node.outputs if t.name), "")
    return name


def _give_axes(graph: gs.Graph, nodes: Sequence[gs.Node]) -> int:
    """Turn axes from attributes into inputs; how many."""
    reductions = [n for n in nodes if n.op in _REDUCTIONS.split() and "axes" in n.attrs]
    given = [np.array(node.attrs.pop("axes"), np.int64) for node in reductions]
    pairs = zip(reductions, given, strict=True)
    constants = [gs.Constant(f"{_label(node)}/axes", axes) for node, axes in pairs]
    name_apart(graph, constants)
    for node, axes in zip(reductions, constants, strict=True):
        node.inputs.append(axes)
    return len(reductions)


def _count_parts(nodes: Sequence[gs.Node]) -> int:
    """Let Splits that name no sizes say how many parts they make; how many such there are."""
    splits = [n for n in nodes if n.op == "Split" and all(t.is_empty() for t in n.inputs[1:])]
    for node in splits:
        node.attrs["num_outputs"] = len(node.outputs)
    return len(splits)
