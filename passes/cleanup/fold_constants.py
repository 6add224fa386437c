"""fold-constants: what is computed from constants alone is computed now, unless the file grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from sardonyx.passes.base import Pass
from sardonyx.passes.cleanup.constant_folds import folds
from sardonyx.passes.evaluate import Unevaluated, evaluate
from sardonyx.passes.journal import Journal
from sardonyx.passes.rewrite import release_all, replace_nodes
from sardonyx.passes.sizes import Sizes


@dataclass(frozen=True)
class FoldConstants(Pass):
    """``y = Op(c1, c2)``  ->  a constant y.

    Op is a standard one, or several that read each other; onnxruntime computes them, all of a graph
    at once. The file does not grow: a node is folded where y takes no more bytes than the node
    itself and the operands that nothing else reads, or ``slack_bytes`` more. So a Transpose of a
    weight is folded if nothing else reads the weight; a Shape of it nearly always; an Expand or a
    Cast to a wider type hardly ever. What reads y may round as by every constant, where its kernel
    packs those ahead (onnxruntime's MatMul). Does not fire

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
        folded, measure = 0, journal.sizes
        while True:
            found = folds(graph, measure, self.slack_bytes, failed)
            gone = found.gone()
            wanted = found.wanted(gone)
            try:
                values = evaluate(found.cone(wanted), wanted, int(graph.opset)) if wanted else []
            except Unevaluated as error:
                node, reason = _culprit(found.cone(wanted), int(graph.opset), str(error))
                failed.add(id(node))
                journal.miss(self.name, node, reason)
                continue
            if not gone:
                return folded
            _fold(graph, [node for node in found.nodes if id(node) in gone], wanted, values)
            folded, measure = folded + len(gone), Sizes  # what was folded tells more of others


def _culprit(nodes: list[gs.Node], opset: int, reason: str) -> tuple[gs.Node, str]:
    """The first of nodes, which do not run, that does not, and why; it is looked for by halves."""
    runs, fails = 0, len(nodes)
    while fails - runs > 1:
        middle = (runs + fails) // 2
        made = [t for node in nodes[:middle] for t in node.outputs if not t.is_empty()]
        try:
            evaluate(nodes[:middle], made, opset)
            runs = middle
        except Unevaluated as error:
            fails, reason = middle, str(error)
    return nodes[fails - 1], reason


def _fold(
    graph: gs.Graph, gone: list[gs.Node], wanted: list[gs.Tensor], values: list[NDArray[np.generic]]
) -> None:
    """Take nodes away; store what others read of their results."""
    release_all(gone)
    for tensor, held in zip(wanted, values, strict=True):
        held.setflags(write=False)
        tensor.to_constant(held)
    replace_nodes(graph, {id(node): [] for node in gone})
