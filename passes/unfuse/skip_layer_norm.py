"""unfuse-skip-layer-norm: onnxruntime's normalizations become sums and standard ones."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fused import STANDARD_FROM, float_type, operand, result, separable
from sardonyx.passes.journal import Journal
from sardonyx.passes.origin import behind, maker
from sardonyx.passes.rewrite import Draft, replace_nodes

_WITH_RMS = 23
"""The first operator set with RMSNormalization."""

_WITH_AXES_AS_INPUT = 18
"""The first operator set in which ReduceMean reads its axes."""

_SKIPS = {"SkipLayerNormalization": (3, 4), "SkipSimplifiedLayerNormalization": (None, 3)}
"""Where beta and bias are among the inputs."""

_EPSILON = {"LayerNormalization": 1e-5, "SimplifiedLayerNormalization": 1e-5}
"""What epsilon is if it is left out; 1e-12 for those with a skip."""


@dataclass(frozen=True)
class UnfuseSkipLayerNorm(Pass):
    """``SkipLayerNormalization(x, skip, gamma, beta, bias)``  ->  ``LayerNormalization(x + bias +
    skip, gamma, beta)``; the sum is an output of its own where it is read. Where a MatMul makes
    skip, the bias is added to that first: it was the product's.

    Below opset 17, where onnx has no LayerNormalization but onnxruntime writes it all the same, the
    formula takes its place: ``(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) gamma + beta``.
    SkipSimplifiedLayerNormalization and SimplifiedLayerNormalization  ->  the same without mean and
    beta, from opset 23 on RMSNormalization. Does not fire where

    1. mean or deviation are read,
    2. the type of the input is not known,
    3. more is normalized over than the last axis.
    """

    name: ClassVar[str] = "unfuse-skip-layer-norm"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-4
    """onnxruntime's kernel takes the variance as mean(x^2) - mean(x)^2, which loses digits where
    the mean is large against the deviation."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Take every one apart that the cases allow."""
        fused = separable(graph, *_SKIPS, *_EPSILON)
        replace_nodes(graph, {id(node): _unfused(node, graph.opset) for node in fused})
        return len(fused)


def _unfused(node: gs.Node, opset: int) -> list[gs.Node]:
    draft = Draft.of(node, float_type(node))
    x, gamma, beta = _sum(draft, node) if node.op in _SKIPS else (*node.inputs, None)[:3]
    epsilon = node.attrs.get("epsilon", _EPSILON.get(node.op, 1e-12))
    plain = "Simplified" in node.op
    if plain and opset >= _WITH_RMS:
        draft.add("RMSNormalization", "Normalize", [x, gamma], axis=-1, epsilon=epsilon)
    elif not plain and opset >= STANDARD_FROM["LayerNormalization"]:
        given = [x, gamma] if beta is None else [x, gamma, beta]
        draft.add("LayerNormalization", "Normalize", given, axis=-1, epsilon=epsilon)
    else:
        _formula(draft, x, gamma, beta, epsilon, centred=not plain, opset=opset)
    return draft.take_place(node, UnfuseSkipLayerNorm.name)


def _sum(draft: Draft, node: gs.Node) -> tuple[gs.Tensor, gs.Tensor, gs.Tensor | None]:
    """The sum, gamma, and beta if there is one."""
    beta, bias = (None if slot is None else operand(node, slot) for slot in _SKIPS[node.op])
    x, skip, gamma = node.inputs[:3]
    first, second = (skip, x) if _is_product(skip) else (x, skip)
    if bias is not None:
        first = draft.add("Add", "biased", [first, bias])
    total = draft.add("Add", "sum", [first, second])
    wanted = result(node, 3)
    if wanted is not None:
        total = draft.nodes[-1].outputs[0] = wanted
    return total, gamma, beta


def _is_product(tensor: gs.Tensor) -> bool:
    node = maker(behind(tensor)[0])
    return node is not None and node.op == "MatMul"


def _formula(
    draft: Draft,
    x: gs.Tensor,
    gamma: gs.Tensor,
    beta: gs.Tensor | None,
    epsilon: float,
    *,
    centred: bool,
    opset: int,
) -> None:
    """The normalization written out; of half precision in float32, as onnxruntime computes it."""
    narrow, wide = draft.dtype, np.promote_types(np.float32, draft.dtype)
    draft.dtype = wide
    if narrow != wide:
        x = draft.cast("wide", x, wide)
    if centred:
        x = draft.add("Sub", "centred", [x, _mean(draft, "mean", x, opset)])
    variance = _mean(draft, "variance", draft.add("Mul", "square", [x, x]), opset)
    raised = draft.add("Add", "raised", [variance, draft.scalar("epsilon", epsilon)])
    normal = draft.add("Div", "normal", [x, draft.add("Sqrt", "deviation", [raised])])
    draft.dtype = narrow
    if narrow != wide:
        normal = draft.cast("narrow", normal, narrow)
    scaled = draft.add("Mul", "scaled", [normal, gamma])
    if beta is not None:
        draft.add("Add", "shifted", [scaled, beta])


def _mean(draft: Draft, part: str, x: gs.Tensor, opset: int) -> gs.Variable:
    """The mean over the last axis, which stays."""
    if opset < _WITH_AXES_AS_INPUT:
        return draft.add("ReduceMean", part, [x], axes=[-1], keepdims=1)
    axes = draft.constant(f"{part}/axes", [-1], np.int64)
    return draft.add("ReduceMean", part, [x, axes], keepdims=1)
