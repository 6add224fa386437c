"""Ops whose outputs depend on nothing but their inputs and attributes."""

import onnx_graphsurgeon as gs

from sardonyx.passes.fused import MICROSOFT, is_standard
from sardonyx.runtime_ops.contrib import MEANINGS

_RANDOM = frozenset(
    ["Bernoulli", "Dropout", "Multinomial"]
    + [f"Random{kind}{like}" for kind in ("Normal", "Uniform") for like in ("", "Like")]
)
"""Standard ops that may give something else each time."""

_FUSED = MEANINGS.keys() | {"LayerNormalization", "QLinearAdd", "QLinearMul"}
"""onnxruntime's own ops that are known to be pure."""


def is_pure_standard(node: gs.Node) -> bool:
    """Whether a node is a standard op that draws no random numbers and holds no graph."""
    return is_standard(node) and node.op not in _RANDOM and not any(node.subgraphs())


def is_pure(node: gs.Node) -> bool:
    """The same, or one of onnxruntime's own ops of which it is known."""
    return is_pure_standard(node) or (node.domain == MICROSOFT and node.op in _FUSED)
