"""Which part of which axis is where, through the Reshapes and Transposes of attention.

The axes of a tensor are tuples of parts: ``[B, T, N D]`` holds heads and their sizes in one axis,
``[B, N, T, D]`` in two. A Transpose moves axes; a Reshape regroups parts, if sizes say which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from sardonyx.passes.origin import behind, maker
from sardonyx.passes.sizes import Dim, Shape, Sizes
from sardonyx.passes.sizes.dim import total
from sardonyx.passes.sizes.shape_rules import reshaped

Part = str
Layout = tuple[tuple[Part, ...], ...]

FLAT: Layout = (("batch",), ("length",), ("heads", "size"))
ROWS: Layout = (("batch", "length"), ("heads", "size"))
SPLIT: Layout = (("batch",), ("heads",), ("length",), ("size",))
TURNED: Layout = (("batch",), ("heads",), ("size",), ("length",))

Parts = Mapping[Part, Dim]
"""The size of every part."""


def is_layout(layout: Layout, wanted: Layout, parts: Parts) -> bool:
    """Whether a layout is the wanted one; a part of size 1 may be in any axis."""
    return _wide(layout, parts) == _wide(wanted, parts)


def _wide(layout: Layout, parts: Parts) -> Layout:
    return tuple(tuple(part for part in axis if parts[part] != 1) for axis in layout)


def parts_of(layout: Layout, shape: Shape) -> Parts:
    """Sizes of the parts of a layout of one part an axis."""
    return {part: dim for (part,), dim in zip(layout, shape, strict=True)}


def shape_of(layout: Layout, parts: Parts) -> Shape:
    """The shape of a tensor of a layout."""
    return tuple(total(tuple(parts[part] for part in axis)) for axis in layout)


@dataclass(frozen=True)
class Step:
    """A tensor on the way back from another, its layout, and the number it was multiplied by."""

    tensor: gs.Tensor
    layout: Layout
    factor: float


def steps_back(sizes: Sizes, tensor: gs.Tensor, layout: Layout, parts: Parts) -> Iterator[Step]:
    """The tensor, then what it was made from by Reshape, Transpose and products with numbers."""
    factor = 1.0
    while True:
        tensor, _ = behind(tensor)
        yield Step(tensor, layout, factor)
        node = maker(tensor)
        before = _before(sizes, node, layout, parts) if node is not None else None
        if node is None or before is None:
            return
        scaled = scale_of(sizes, node)
        if scaled:
            tensor, number = scaled
            factor *= number
        else:
            tensor, layout = node.inputs[0], before


def step_ahead(sizes: Sizes, node: gs.Node, layout: Layout, parts: Parts) -> Layout | None:
    """The layout that a Reshape or Transpose makes of another."""
    if node.op == "Transpose":
        return tuple(layout[axis] for axis in node.attrs["perm"]) if "perm" in node.attrs else None
    if node.op == "Reshape":
        shape = reshaped(sizes, node, shape_of(layout, parts))
        return _regroup(layout, shape, parts)
    return layout if behind(node.outputs[0])[1] else None


def scale_of(sizes: Sizes, node: gs.Node) -> tuple[gs.Tensor, float] | None:
    """What a Mul or Div multiplies by a number, and that number."""
    if node.op not in ("Mul", "Div"):
        return None
    sides = (node.inputs, node.inputs[::-1]) if node.op == "Mul" else (node.inputs,)
    for tensor, other in sides:
        number = sizes.number(other)
        if number and len(sizes.shape(other) or ()) <= len(sizes.shape(tensor) or ()):
            return tensor, number if node.op == "Mul" else 1 / number
    return None


def _before(sizes: Sizes, node: gs.Node, layout: Layout, parts: Parts) -> Layout | None:
    if node.op == "Transpose" and "perm" in node.attrs:
        axes = dict(zip(node.attrs["perm"], layout, strict=True))
        return tuple(axes[axis] for axis in range(len(layout)))
    if node.op == "Reshape":
        return _regroup(layout, sizes.shape(node.inputs[0]), parts)
    return layout if scale_of(sizes, node) else None


def _regroup(layout: Layout, shape: Shape | None, parts: Parts) -> Layout | None:
    """The same parts, in their order, in the axes of another shape."""
    if shape is None:
        return None
    left = [part for axis in layout for part in axis]
    axes = []
    for dim in shape:
        axis: list[Part] = []
        while left and total(tuple(parts[part] for part in axis)) != dim:
            axis.append(left.pop(0))
        if total(tuple(parts[part] for part in axis)) != dim:
            return None
        axes.append(tuple(axis))
    if axes and all(parts[part] == 1 for part in left):
        axes[-1] = (*axes[-1], *left)
        left = []
    return None if left else tuple(axes)
