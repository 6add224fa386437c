"""Where a tensor comes from: the op that makes it, the number that it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from sardonyx.passes.fused import is_standard
from sardonyx.passes.weights import values_of


def behind(tensor: gs.Tensor) -> tuple[gs.Tensor, tuple[gs.Node, ...]]:
    """The tensor that Identity and a Cast to its own type pass on, and these nodes."""
    steps = []
    while (node := maker(tensor)) is not None and _passes_on(node):
        steps.append(node)
        tensor = node.inputs[0]
    return tensor, tuple(steps)


def _passes_on(node: gs.Node) -> bool:
    if node.op != "Cast":
        return bool(node.op == "Identity")
    dtype = node.inputs[0].dtype
    return dtype is not None and node.attrs["to"] == onnx.helper.np_dtype_to_tensor_dtype(
        np.dtype(dtype)
    )


def maker(tensor: gs.Tensor) -> gs.Node | None:
    """The standard op that makes a tensor, if one does."""
    node = tensor.inputs[0] if tensor.inputs else None
    return node if node is not None and is_standard(node) else None


def constant(tensor: gs.Tensor | None) -> gs.Constant | None:
    """The constant that a tensor is, perhaps passed on."""
    found = None if tensor is None else behind(tensor)[0]
    return found if isinstance(found, gs.Constant) else None


def scalar(tensor: gs.Tensor) -> float | None:
    """The value of a constant of one element."""
    held = constant(tensor)
    if held is None or math.prod(held.shape) != 1:
        return None
    if np.dtype(held.dtype).kind in "OSUc":  # text or complex
        return None
    value: Any = values_of(held).reshape(())[()]
    return float(value)


def label(node: gs.Node) -> str:
    """The name of a node, or of what it makes."""
    return str(node.name or node.outputs[0].name)


def named(tensor: gs.Tensor) -> str:
    """A tensor in the words of a reason: what makes it, and its name."""
    if isinstance(tensor, gs.Constant):
        return f"the constant '{tensor.name}'"
    if not tensor.inputs:
        return f"the input '{tensor.name}'"
    return f"{tensor.inputs[0].op} '{tensor.inputs[0].name or tensor.name}'"
