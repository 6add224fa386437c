"""What onnxruntime's CPU kernels want of a fused op's operands."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.attempt import State
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.origin import behind, named
from sardonyx.passes.sizes import Shape, Sizes

_SAME_TYPE = ("Add", "Div", "Erf", "Gelu", "LayerNormalization", "Mul", "Sigmoid", "Sqrt", "Sub")
"""Ops of which all inputs and outputs have one type."""


def need_float32(found: State) -> None:
    """Raise Unfit unless a formula computes in float32."""
    nodes = [node for node in found.nodes if node.op in _SAME_TYPE]
    tensors = [*found.values.values(), *(t for n in nodes for t in (*n.inputs, *n.outputs))]
    known = next((t for t in tensors if t.dtype is not None), None)
    if known is None:
        raise Unfit(f"the type of '{found.nodes[0].outputs[0].name}' is not known")
    if known.dtype != np.float32:
        raise Unfit(f"'{known.name}' is {np.dtype(known.dtype).name}, and not float32")


def need_same_rank(sizes: Sizes, x: gs.Tensor, found: State) -> None:
    """Raise Unfit where a constant [1, 1, ...] gives the result more axes than x has, or may."""
    result = found.nodes[0].outputs[0]
    before, after = sizes.shape(x), sizes.shape(result)
    if before is None or after is None:
        read = (behind(tensor)[0] for node in found.nodes for tensor in node.inputs)
        wide = next((t for t in read if isinstance(t, gs.Constant) and t.shape), None)
        if wide is not None:
            text = f"'{wide.name}' is {list(wide.shape)}, and '{x.name}' of unknown shape"
            raise Unfit(text)
    elif len(before) != len(after):
        raise Unfit(f"'{x.name}' has {len(before)} axes and '{result.name}' {len(after)}")


def need_vector(sizes: Sizes, x: gs.Tensor, role: str, vector: gs.Tensor | None) -> None:
    """Raise Unfit unless a vector, if given, is constant and has an element for each place of the
    last axis of x. ``role``: what it is called in the reason."""
    if vector is None:
        return
    reason = is_no_vector(vector)
    if reason:
        raise Unfit(f"{role} {reason}")
    shape, length = sizes.shape(x), vector.shape[0]
    if not shape or shape[-1] != length:
        raise Unfit(f"{role} '{vector.name}' is [{length}] and '{x.name}' {sized(shape)}")


def is_no_vector(tensor: gs.Tensor) -> str:
    """Why a tensor is no constant of one axis; empty if it is one."""
    if not isinstance(tensor, gs.Constant):
        return f"is no constant but {named(tensor)}"
    if len(tensor.shape) != 1:
        return f"'{tensor.name}' is no vector but {list(tensor.shape)}"
    return ""


def sized(shape: Shape | None) -> str:
    """A shape in the words of a reason."""
    return "of unknown shape" if shape is None else f"[{', '.join(map(str, shape))}]"
