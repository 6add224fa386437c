"""fold-constants: what is computed from constants alone is computed now, unless the file grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from sardonyx.passes.base import Pass
from sardonyx.passes.cleanup.constant_folds import Folds, folds
from sardonyx.passes.evaluate import Unevaluated, evaluate
from sardonyx.passes.journal import Journal, Miss
from sardonyx.passes.rewrite import release_all, replace_nodes

_Values = list[tuple[gs.Tensor, NDArray[np.generic]]]
_Failures = list[tuple[gs.Tensor, str]]


@dataclass(frozen=True)
class FoldConstants(Pass):
    """``y = Op(c1, c2)``  ->  a constant y.

    Op is a standard one, or several that read each other; onnxruntime computes them, all of a graph
    at once. The file does not grow: a node is folded where y takes no more bytes than the node
    itself and the operands that nothing else reads, or ``slack_bytes`` more. So a Transpose of a
    weight is folded if it is the weight's only reader, and a Shape of it always, but no Expand, and
    no Cast to a wider type. Does not fire

    1. where the file would grow by more than ``slack_bytes`` for this node,
    2. on DequantizeLinear, behind which codes stay codes,
    3. on ops that draw random numbers or hold graphs, and on those of other domains,
    4. where y is an output of its graph, which a constant may not be in every runtime,
    5. on strings, sparse constants, and types that numpy lacks (bfloat16, 8-bit floats, 4-bit
       integers),
    6. where the size of y is not known, or where 64 MB would only make something smaller,
    7. where onnxruntime cannot run Op.
    """

    slack_bytes: int = 0

    name: ClassVar[str] = "fold-constants"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Fold in the graph and in those inside it; what goes may let more be folded."""
        failed: set[int] = set()
        folded = 0
        while True:
            found = folds(graph, self.slack_bytes, failed)
            gone = found.gone()
            values, failures = _computed(found, found.wanted(gone), int(graph.opset))
            if failures:
                failed |= _suspects(found, values, failures)
                misses = [Miss(self.name, _label(t), reason) for t, reason in failures]
                journal.missed += [miss for miss in misses if miss not in journal.missed]
            elif gone:
                folded += _fold(graph, [node for node in found.nodes if id(node) in gone], values)
            else:
                return folded


def _computed(found: Folds, wanted: list[gs.Tensor], opset: int) -> tuple[_Values, _Failures]:
    """What onnxruntime makes of the nodes; where it fails on several results, each half alone."""
    if not wanted:
        return [], []
    try:
        made = evaluate(found.cone(wanted), wanted, opset)
        return list(zip(wanted, made, strict=True)), []
    except Unevaluated as error:
        if len(wanted) == 1:
            return [], [(wanted[0], str(error))]
    half = len(wanted) // 2
    first, second = (_computed(found, part, opset) for part in (wanted[:half], wanted[half:]))
    return first[0] + second[0], first[1] + second[1]


def _suspects(found: Folds, values: _Values, failures: _Failures) -> set[int]:
    """Ids of nodes that run where onnxruntime fails, and nowhere else."""
    failing = [tensor for tensor, _ in failures]
    sound = set(map(id, found.cone([tensor for tensor, _ in values])))
    ends = {id(tensor.inputs[0]) for tensor in failing}
    return (set(map(id, found.cone(failing))) - sound) | ends


def _label(tensor: gs.Tensor) -> str:
    return str(tensor.inputs[0].name or tensor.name)


def _fold(graph: gs.Graph, gone: list[gs.Node], values: _Values) -> int:
    """Take nodes away; store what others read of their results."""
    release_all(gone)
    for tensor, held in values:
        held.setflags(write=False)
        tensor.to_constant(held)
    replace_nodes(graph, {id(node): [] for node in gone})
    return len(gone)
