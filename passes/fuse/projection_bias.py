"""fuse-projection-bias: MultiHeadAttention adds the biases of its projections itself."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fused import MICROSOFT, operand
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import annotate
from sardonyx.passes.origin import behind, label, maker
from sardonyx.passes.rewrite import name_apart, reread
from sardonyx.passes.scopes import all_nodes
from sardonyx.passes.sizes import Sizes
from sardonyx.passes.weights import values_of


@dataclass(frozen=True)
class FuseProjectionBias(Pass):
    """``MultiHeadAttention(q + bq, k + bk, v + bv, , ...)``  ->  ``MultiHeadAttention(q, k, v,
    [bq bk bv], ...)``.

    The kernel adds them while it splits the heads; where one of the three is missing it is 0. Does
    not fire where

    1. there is a bias already, or none of the three is a constant vector as long as the last axis,
    2. keys and values are split already: nothing is copied then that a bias could be added to.
    """

    name: ClassVar[str] = "fuse-projection-bias"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Move every bias that the cases allow."""
        sizes = journal.sizes(graph)
        nodes = [n for n in all_nodes(graph) if (n.domain, n.op) == (MICROSOFT, _OP)]
        return sum(_move(graph, node, sizes) for node in nodes)


_OP = "MultiHeadAttention"


def _move(graph: gs.Graph, node: gs.Node, sizes: Sizes) -> bool:
    widths = [w for slot in (0, 1, 2) if (w := _width(sizes, operand(node, slot)))]
    if operand(node, 3) is not None or len(widths) < 3:
        return False
    terms = [_split(sizes, tensor) for tensor in node.inputs[:3]]
    kind = next((bias.dtype for _, bias in terms if bias is not None), None)
    if kind is None:
        return False
    zeros = [np.zeros(width, kind) for width in widths]
    parts = [zero if b is None else b for zero, (_, b) in zip(zeros, terms, strict=True)]
    name = label(node)
    bias = gs.Constant(f"{name}/Bias", np.concatenate(parts))
    name_apart(graph, [bias])
    if len(node.inputs) == len(terms):
        node.inputs.append(gs.Variable.empty())
    for slot, tensor in enumerate([*(value for value, _ in terms), bias]):
        reread(node, slot, tensor)
    annotate(node, **{"pass": FuseProjectionBias.name})
    return True


def _width(sizes: Sizes, tensor: gs.Tensor | None) -> int | None:
    """N D of queries, keys or values [B, T, N D]."""
    shape = None if tensor is None else sizes.shape(tensor)
    width = shape[2] if shape is not None and len(shape) == 3 else None
    return width if isinstance(width, int) else None


def _split(sizes: Sizes, tensor: gs.Tensor) -> tuple[gs.Tensor, NDArray[np.generic] | None]:
    """A value without the constant vector that was added to it, and that vector."""
    node = maker(behind(tensor)[0])
    if node is None or node.op != "Add":
        return tensor, None
    shape = sizes.shape(tensor)
    for value, bias in (node.inputs, node.inputs[::-1]):
        vector = isinstance(bias, gs.Constant) and shape and tuple(bias.shape) == shape[-1:]
        if vector and sizes.shape(value) == shape:
            return value, values_of(bias)
    return tensor, None
