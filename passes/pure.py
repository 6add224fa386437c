"""Ops whose outputs depend on nothing but their inputs and attributes."""

import onnx_graphsurgeon as gs

from sardonyx.passes.fused import MICROSOFT, is_standard
from sardonyx.passes.scopes import bodies
from sardonyx.runtime_ops.contrib import MEANINGS

_RANDOM = frozenset(
    ["Bernoulli", "Dropout", "Multinomial"]
    + [f"Random{kind}{like}" for kind in ("Normal", "Uniform") for like in ("", "Like")]
)
"""Standard ops that may give something else each time."""

_WRITES = "past_present_share_buffer"
"""The attribute with which an op of onnxruntime's writes where it reads."""


def is_pure_standard(node: gs.Node) -> bool:
    """Whether a node is a standard op that draws no random numbers and holds no graph."""
    return is_standard(node) and node.op not in _RANDOM and not bodies(node)


def is_pure(node: gs.Node) -> bool:
    """The same, or one of onnxruntime's own ops whose meaning is known."""
    known = node.domain == MICROSOFT and node.op in MEANINGS
    return is_pure_standard(node) or (known and not node.attrs.get(_WRITES, 0))
