"""What a Softmax reads in attention: ``scale q k' + bias``, wherever exporters put its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.layout import scale_of
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.origin import behind, maker
from sardonyx.passes.sizes import Sizes

LOW = -1e30
"""Scores of keys that do not count are at most this: far enough for any other to drown in it."""


@dataclass(frozen=True)
class Fill:
    """Scores that do not count: set to ``value`` where ``condition`` is ``when``."""

    condition: gs.Tensor
    value: gs.Constant
    when: bool


Bias: TypeAlias = gs.Tensor | Fill
"""What is added to scores, or stands in their place."""


@dataclass(frozen=True)
class Scores:
    """``product``: the node of q k'. ``scale``: of that product. ``biases``: in the order they
    come to bear."""

    product: gs.Node
    scale: float
    biases: tuple[Bias, ...] = ()


def find_scores(sizes: Sizes, tensor: gs.Tensor) -> Scores:
    """The parts of what a Softmax reads; raises Unfit."""
    found = _find(sizes, tensor)
    if found is None:
        raise Unfit(f"'{tensor.name}' is no product of queries and keys, scaled and masked")
    return found


def _find(sizes: Sizes, tensor: gs.Tensor) -> Scores | None:
    tensor, _ = behind(tensor)
    node = maker(tensor)
    if node is None:
        return None
    if node.op == "MatMul":
        return None if any(isinstance(t, gs.Constant) for t in node.inputs) else Scores(node, 1.0)
    if node.op == "Add":
        return _added(sizes, node)
    if node.op == "Where":
        return _filled(sizes, node)
    scaled = scale_of(sizes, node)
    found = _find(sizes, scaled[0]) if scaled else None
    if found is None or scaled is None:
        return None
    if found.biases:
        raise Unfit(f"'{tensor.name}' scales the scores after their mask was added")
    return Scores(found.product, found.scale * scaled[1])


def _added(sizes: Sizes, node: gs.Node) -> Scores | None:
    for scores, bias in (node.inputs, node.inputs[::-1]):
        found = _find(sizes, scores)
        if found is not None:
            return Scores(found.product, found.scale, (*found.biases, bias))
    return None


def _filled(sizes: Sizes, node: gs.Node) -> Scores | None:
    condition, yes, no = node.inputs
    for scores, value, when in ((no, yes, True), (yes, no, False)):
        found = _find(sizes, scores)
        if found is None:
            continue
        number = sizes.number(value)
        if number is None or number > LOW:
            raise Unfit(f"'{value.name}', in place of masked scores, is not below {LOW:g}")
        fill = Fill(condition, gs.Constant(value.name, np.array(number, np.float32)), when)
        return Scores(found.product, found.scale, (*found.biases, fill))
    return None
