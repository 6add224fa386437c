"""Ops that move elements and compute nothing: how many they make, where an axis goes, and which
codes they can move."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import is_standard, operand
from sardonyx.passes.sizes import Dim, Sizes
from sardonyx.passes.sizes.dim import is_natural, minus, over, plus, total
from sardonyx.passes.sizes.value_rules import axes_of, bounds_of
from sardonyx.passes.weights import values_of

_KEEPING = (
    "Concat DepthToSpace Flatten Identity Pad Reshape SpaceToDepth Split Squeeze Transpose "
    "Unsqueeze"
)
"""Ops that move every element once; what a Pad adds is little."""

CHOOSING = frozenset(("Gather", "GatherElements", "GatherND", "Slice"))
"""Ops that move some elements, or some of them several times."""

REPEATING = frozenset(("Expand", "Tile"))
"""Ops that move every element, perhaps several times."""

MOVEMENTS = CHOOSING | REPEATING | frozenset(_KEEPING.split())

_NEED_8_BITS = frozenset(("DepthToSpace", "Pad", "SpaceToDepth"))

_MOVED: dict[str, frozenset[str]] = {
    **dict.fromkeys(("int8", "uint8"), MOVEMENTS),
    **dict.fromkeys(("int16", "uint16"), MOVEMENTS - _NEED_8_BITS),
    **dict.fromkeys(("int4", "uint4", "int2", "uint2"), frozenset(["Transpose"])),
}
"""By type of codes, the ops that onnxruntime moves them with."""


def is_movement(node: gs.Node) -> bool:
    """Whether a node moves elements and computes nothing."""
    return is_standard(node) and node.op in MOVEMENTS


def data_slots(node: gs.Node) -> range:
    """The inputs of a movement whose elements it moves."""
    return range(len(node.inputs) if node.op == "Concat" else 1)


def only_moves(node: gs.Node, tensor: gs.Tensor) -> bool:
    """Whether a node is a movement that reads a tensor for nothing but to move it."""
    slots = [slot for slot, read in enumerate(node.inputs) if read is tensor]
    return is_movement(node) and all(slot in data_slots(node) for slot in slots)


def need_codes_moved(node: gs.Node, dtype: np.dtype[np.generic], opset: int) -> None:
    """Raise Unfit where the standard or onnxruntime does not move codes of a type with an op."""
    if node.op not in _MOVED.get(dtype.name, ()) or dtype.name not in _taken(node.op, opset):
        raise Unfit(f"onnxruntime has no {node.op} of {dtype.name} in operator set {opset}")


@cache
def _taken(op: str, opset: int) -> frozenset[str]:
    """The types that the standard lets an op move."""
    schema = onnx.defs.get_schema(op, opset)
    data = schema.inputs[0].type_str
    (taken,) = (c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == data)
    return frozenset(text.removeprefix("tensor(").removesuffix(")") for text in taken)


def pads_with_constant(node: gs.Node) -> bool:
    """Whether a node puts a constant around a tensor."""
    return bool(node.op == "Pad" and node.attrs.get("mode", "constant") == "constant")


def need_zero_padding(node: gs.Node) -> None:
    """Raise Unfit where a node puts something else than 0 around a tensor."""
    value = operand(node, 2) if pads_with_constant(node) else None
    if value is None:
        return
    if not isinstance(value, gs.Constant) or any(values_of(value).tobytes()):
        raise Unfit("it pads with another value than 0")


def elements(sizes: Sizes, tensors: Iterable[gs.Tensor]) -> Dim | None:
    """How many elements some tensors have together; None: it is not known."""
    count: Dim = 0
    for tensor in tensors:
        shape = sizes.shape(tensor)
        if shape is None:
            return None
        count = plus(count, total(shape))
    return count


def surely_fewer(few: Dim, many: Dim) -> bool:
    """Whether one number of elements is below another, as 3*batch is below 3*batch*length."""
    factor = over(many, few)
    return is_natural(minus(minus(many, few), 1)) or factor not in (None, 0, 1)


def axis_after(sizes: Sizes, node: gs.Node, axis: int) -> int | None:
    """The axis of a movement's outputs that an axis of its input becomes, place by place; None:
    there is none, or it is not known."""
    shape, follow = sizes.shape(node.inputs[0]), _FOLLOWED.get(node.op)
    if shape is None or follow is None:
        return None
    return follow(sizes, node, len(shape), axis % len(shape))


_Follow = Callable[[Sizes, gs.Node, int, int], int | None]
"""Where an axis of a tensor of some rank goes."""


def _beside(default: int | None) -> _Follow:
    """Where the op works along one axis, and leaves the others in their places."""

    def follow(_: Sizes, node: gs.Node, rank: int, axis: int) -> int | None:
        return None if axis == node.attrs.get("axis", default) % rank else axis

    return follow


def _transpose(_: Sizes, node: gs.Node, rank: int, axis: int) -> int | None:
    return list(node.attrs.get("perm", range(rank)[::-1])).index(axis)


def _unsqueeze(sizes: Sizes, node: gs.Node, rank: int, axis: int) -> int | None:
    axes = axes_of(sizes, node)
    if axes is None:
        return None
    wide = rank + len(axes)
    new = {a % wide for a in axes}
    return [place for place in range(wide) if place not in new][axis]


def _squeeze(sizes: Sizes, node: gs.Node, rank: int, axis: int) -> int | None:
    gone = {a % rank for a in axes_of(sizes, node) or ()}
    return None if not gone or axis in gone else axis - sum(a < axis for a in gone)


def _gather(sizes: Sizes, node: gs.Node, rank: int, axis: int) -> int | None:
    chosen, ids = node.attrs.get("axis", 0) % rank, sizes.shape(node.inputs[1])
    if ids is None or axis == chosen:
        return None
    return axis if axis < chosen else axis + len(ids) - 1


def _slice(sizes: Sizes, node: gs.Node, _: int, axis: int) -> int | None:
    bounds = bounds_of(sizes, node)
    cut = bounds is None or any(axis == which for _, _, which, _ in bounds)
    return None if cut else axis


_FOLLOWED: dict[str, _Follow] = {
    "Concat": _beside(None),
    "Gather": _gather,
    "Identity": lambda _, node, rank, axis: axis,
    "Slice": _slice,
    "Split": _beside(0),
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
