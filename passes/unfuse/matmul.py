"""unfuse-matmul: onnxruntime's FusedMatMul and FusedGemm become MatMul, Gemm and what they held."""

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fused import ACTIVATIONS, float_type, rank, separable
from sardonyx.passes.journal import Journal
from sardonyx.passes.rewrite import Draft, replace_nodes

_GEMM = ("alpha", "beta", "transA", "transB")
"""Attributes of FusedGemm that Gemm has too, with the same meaning and default."""


@dataclass(frozen=True)
class UnfuseMatMul(Pass):
    """``FusedMatMul(A, B)``  ->  ``alpha MatMul(A, B)``, with a Transpose before an operand that it
    turns; ``FusedGemm(A, B, C)``  ->  ``activation(Gemm(A, B, C))``.

    A constant weight among the operands can be encoded then. Does not fire on

    1. a FusedMatMul whose operands are of unknown type, or of unknown rank and turned,
    2. one that turns the batch of a matrix or vector, which has none,
    3. a FusedGemm whose activation is no standard op, or lacks an argument of it.
    """

    name: ClassVar[str] = "unfuse-matmul"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-5
    """alpha scales the finished sums, which onnxruntime's kernel scales as it adds them up."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Take every one apart that the cases allow."""
        fused = separable(graph, "FusedMatMul", "FusedGemm")
        replace_nodes(graph, {id(node): _UNFUSE[node.op](node) for node in fused})
        return len(fused)


def _matmul(node: gs.Node) -> list[gs.Node]:
    draft = Draft.of(node, float_type(node))
    operands = [_turned(draft, node, slot) for slot in (0, 1)]
    product = draft.add("MatMul", "MatMul", operands)
    alpha = node.attrs.get("alpha", 1.0)
    if alpha != 1:
        draft.add("Mul", "scaled", [product, draft.scalar("alpha", alpha)])
    return draft.take_place(node, UnfuseMatMul.name)


def _turned(draft: Draft, node: gs.Node, slot: int) -> gs.Tensor:
    """An operand as MatMul reads it: its batch first, then rows and columns."""
    tensor, side = node.inputs[slot], "AB"[slot]
    batch, turned = (node.attrs.get(f"trans{what}{side}", 0) for what in ("Batch", ""))
    axes = list(range(rank(tensor) or 0))
    if batch:
        axes.insert(-1, axes.pop(0))
    if turned and len(axes) > 1:  # a vector is what it is, turned or not
        axes[-2:] = axes[:-3:-1]
    if axes == sorted(axes):
        return tensor
    return draft.add("Transpose", f"turned_{side}", [tensor], perm=axes)


def _gemm(node: gs.Node) -> list[gs.Node]:
    draft = Draft.of(node, float_type(node))
    attrs = {name: node.attrs[name] for name in _GEMM if name in node.attrs}
    product = draft.add("Gemm", "Gemm", list(node.inputs), **attrs)
    activation = node.attrs["activation"]
    given = {name: node.attrs[held] for name, held in ACTIVATIONS[activation].items()}
    draft.add(activation, activation, [product], **given)
    return draft.take_place(node, UnfuseMatMul.name)


_UNFUSE = {"FusedMatMul": _matmul, "FusedGemm": _gemm}
