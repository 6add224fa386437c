"""unfuse-gemm: a Gemm by a constant weight becomes the MatMul that others know how to rewrite."""

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import annotate, inherit
from sardonyx.passes.rewrite import Draft, Replacements, replace_nodes
from sardonyx.passes.spread_gemm import spread_gemm
from sardonyx.passes.weights import weight_uses


@dataclass(frozen=True)
class UnfuseGemm(Pass):
    """``Gemm(A, W, C)``  ->  ``MatMul(A, W) + C``, between Transpose and Mul where transA, transB,
    alpha or beta ask for them.

    Does not fire where

    1. W is no constant float matrix, perhaps behind Identity, Cast or Transpose.
    """

    name: ClassVar[str] = "unfuse-gemm"
    bound: ClassVar[float] = 1e-5
    """A sum may round differently when its bias comes first."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Take every one apart."""
        found = [use for use in weight_uses(graph) if use.node.op == "Gemm" and not use.misfit]
        replacements: Replacements = {}
        for node, dtype in [(use.node, use.view.dtype) for use in found]:
            w, turned, notes = node.inputs[1], node.attrs.get("transB", 0), dict(node.attrs)
            draft = Draft.of(node, dtype)
            if turned:
                w = draft.add("Transpose", "TransB", [w], perm=[1, 0])
            old = gs.Node("Gemm", node.name, notes)

            def product(a: gs.Tensor, out: gs.Variable, w: gs.Tensor = w) -> gs.Node:
                return gs.Node("MatMul", node.name, {}, [a, w], [out])  # noqa: B023

            nodes, matmul = spread_gemm(node, dtype, product)
            inherit(matmul, old)
            for made in (*draft.nodes, *nodes):
                annotate(made, **{"pass": self.name})
            replacements[id(node)] = [*draft.nodes, *nodes]
        replace_nodes(graph, replacements)
        return len(replacements)
