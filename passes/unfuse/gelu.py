"""unfuse-gelu: onnxruntime's kinds of Gelu become formulas."""

import math
from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fused import float_type, operand, separable
from sardonyx.passes.journal import Journal
from sardonyx.passes.rewrite import Draft, replace_nodes

_WITH_GELU = 20
"""The first operator set with a standard Gelu."""


@dataclass(frozen=True)
class UnfuseGelu(Pass):
    """``Gelu(x)``  ->  ``x (1 + erf(x / sqrt 2)) / 2``, from opset 20 on the standard Gelu;

    ``FastGelu(x)``  ->  ``x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2``, or the standard Gelu
    in its tanh form; ``QuickGelu(x)``  ->  ``x sigmoid(alpha x)``; ``BiasGelu(x, b)`` and
    ``FastGelu(x, b)``  ->  the same of ``x + b``. They are written as exporters write them, so that
    runtimes that look for the formulas find them. Does not fire

    1. where the type of x is not known.
    """

    name: ClassVar[str] = "unfuse-gelu"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-5
    """onnxruntime's kernels approximate erf, tanh and sigmoid by other polynomials."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Write every one out that the case allows."""
        fused = separable(graph, "Gelu", "BiasGelu", "FastGelu", "QuickGelu")
        replace_nodes(graph, {id(node): _unfused(node, graph.opset) for node in fused})
        return len(fused)


def _unfused(node: gs.Node, opset: int) -> list[gs.Node]:
    draft = Draft.of(node, float_type(node))
    x, bias = node.inputs[0], operand(node, 1)
    if bias is not None:
        x = draft.add("Add", "biased", [x, bias])
    if node.op == "QuickGelu":
        slope = draft.scalar("alpha", node.attrs.get("alpha", 1.702))
        gate = draft.add("Sigmoid", "gate", [draft.add("Mul", "scaled", [x, slope])])
        draft.add("Mul", "gated", [x, gate])
    elif opset >= _WITH_GELU:
        draft.add("Gelu", "Gelu", [x], approximate="tanh" if node.op == "FastGelu" else "none")
    else:
        _halve(draft, x, (_tanh if node.op == "FastGelu" else _erf)(draft, x))
    return draft.take_place(node, UnfuseGelu.name)


def _erf(draft: Draft, x: gs.Tensor) -> gs.Tensor:
    scaled = draft.add("Div", "scaled", [x, draft.scalar("sqrt_2", math.sqrt(2))])
    return draft.add("Erf", "erf", [scaled])


def _tanh(draft: Draft, x: gs.Tensor) -> gs.Tensor:
    cube = draft.add("Pow", "cube", [x, draft.scalar("three", 3)])
    small = draft.add("Mul", "small", [cube, draft.scalar("share", 0.044715)])
    total = draft.add("Add", "sum", [x, small])
    scaled = draft.add("Mul", "scaled", [total, draft.scalar("scale", math.sqrt(2 / math.pi))])
    return draft.add("Tanh", "tanh", [scaled])


def _halve(draft: Draft, x: gs.Tensor, gate: gs.Tensor) -> None:
    """x (1 + gate) / 2."""
    raised = draft.add("Add", "gate", [gate, draft.scalar("one", 1)])
    gated = draft.add("Mul", "gated", [x, raised])
    draft.add("Mul", "halved", [gated, draft.scalar("half", 0.5)])
