"""Where a graph finds the range of an activation as it runs, in any form that exporters write."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from sardonyx.passes.attempt import State, Trail
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import is_standard, operand, rank
from sardonyx.passes.match import Value, op
from sardonyx.passes.origin import constant, maker, named, scalar
from sardonyx.passes.weights import values_of

_REDUCTIONS = ("ReduceMax", "ReduceMin")

_MOVES = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Ops that change nothing but the shape."""

_POINTWISE = frozenset(
    ["Abs", "Add", "Cast", "Ceil", "Clip", "Div", "Floor", "Max", "Min", "Mul", "Neg"]
    + ["Reciprocal", "Round", "Sub"]
    + ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Where"]
    + [*_MOVES]
)
"""Ops by which a scale and a zero point are computed from the ends of a range."""

_STEPS = Value("x") / Value("scale")
_SHIFTED = (
    op("Round", _STEPS) + Value("zero") | op("Round", _STEPS + Value("zero")) | op("Round", _STEPS)
)
_WRITTEN_OUT = op("Cast", op("Clip", _SHIFTED, Value("low"), Value("high")))

_ENDS: dict[np.dtype[Any], tuple[tuple[float, float], ...]] = {
    np.dtype(np.uint8): ((0, 255),),
    np.dtype(np.int8): ((-128, 127), (-127, 127)),
}
"""What codes of a type are clipped to."""


@dataclass(frozen=True)
class DynamicQuantizer:
    """Codes of an activation by a scale that is computed from all its values.

    ``node``: makes the codes, its first output. ``x``: float32. ``scale``, ``zero_point``: the
    first tensors of one element that are these numbers; the latter None where it is the constant
    ``fixed``. ``dtype``: of the codes.
    """

    node: gs.Node
    x: gs.Tensor
    scale: gs.Tensor
    zero_point: gs.Tensor | None
    fixed: int
    dtype: np.dtype[np.generic]

    @property
    def signed(self) -> bool:
        """Whether codes are int8."""
        return bool(self.dtype == np.int8)

    @property
    def symmetric(self) -> bool:
        """Whether the grid mirrors itself at 0; codes from 0 on are a grid of what is not below."""
        return self.zero_point is None and (self.signed or self.fixed != 0)


def is_dynamic(node: gs.Node) -> bool:
    """Whether a node makes codes by a scale that is no constant."""
    if not is_standard(node):
        return False
    if node.op == "QuantizeLinear":
        return constant(node.inputs[1]) is None
    return node.op == "DynamicQuantizeLinear" or _written_out(node) is not None


def quantizer_at(node: gs.Node, outputs: Container[int]) -> DynamicQuantizer:
    """The quantizer at a node that `is_dynamic`. ``outputs``: of all graphs, by ``id``. Raises
    Unfit, with the reason, where constants cannot take the place of its range."""
    if node.op == "DynamicQuantizeLinear":
        _, scale, zero = node.outputs
        found = DynamicQuantizer(node, node.inputs[0], scale, zero, 0, np.dtype(np.uint8))
    else:
        found = _computed(node)
    _check_alone(found, outputs)
    if found.x.dtype != np.float32:
        raise Unfit(f"its input '{found.x.name}' is not known to be float32")
    return found


def _computed(node: gs.Node) -> DynamicQuantizer:
    """The quantizer at a QuantizeLinear, or at the Cast of the same written out."""
    if node.op == "QuantizeLinear":
        x, scale, zero = node.inputs[0], node.inputs[1], operand(node, 2)
        dtype = _code_type(node, zero)
    else:
        found = _written_out(node)
        assert found is not None
        x, scale, zero = (found.values.get(name) for name in ("x", "scale", "zero"))
        dtype = onnx.helper.tensor_dtype_to_np_dtype(node.attrs["to"])
        given = [found.values.get(name) for name in ("low", "high")]
        ends = tuple(None if end is None else scalar(end) for end in given)
        if ends not in _ENDS[dtype]:
            raise Unfit(f"its codes are clipped to {ends[0]} and {ends[1]}, not to {dtype.name}")
    if dtype not in _ENDS:
        raise Unfit(f"its codes are {dtype.name}: not of 8 bits")
    scale = _origin(scale)
    if zero is None or scalar(zero) is not None:
        fixed = 0 if zero is None else scalar(zero)
        return DynamicQuantizer(node, x, scale, None, int(fixed or 0), dtype)
    return DynamicQuantizer(node, x, scale, _origin(zero, "Cast"), 0, dtype)


def _code_type(node: gs.Node, zero: gs.Tensor | None) -> np.dtype[np.generic]:
    known = [t.dtype for t in (zero, node.outputs[0]) if t is not None and t.dtype is not None]
    return np.dtype(known[0]) if known else np.dtype(np.uint8)


def _written_out(node: gs.Node) -> State | None:
    """``Cast(Clip(Round(x / scale) + zero))`` at a Cast to 8 bits whose scale is no constant."""
    if node.op != "Cast" or not is_standard(node):
        return None
    if node.attrs["to"] not in (onnx.TensorProto.UINT8, onnx.TensorProto.INT8):
        return None
    found = next(_WRITTEN_OUT.find(node.outputs[0], State(Trail(node))), None)
    if found is None or isinstance(found.values["scale"], gs.Constant):
        return None
    return found


def _origin(tensor: gs.Tensor, *more: str) -> gs.Tensor:
    """The first tensor that holds the one number which a tensor holds."""
    while (node := maker(tensor)) is not None and node.op in (*_MOVES, *more):
        tensor = node.inputs[0]
    return tensor


def same_number(origin: gs.Tensor) -> list[gs.Tensor]:
    """The tensors that hold the one number of an origin, in other shapes and types, itself first;
    of known shape and type."""
    found, seen = [origin], {id(origin)}
    for tensor in found:
        for node in (r for r in tensor.outputs if is_standard(r) and r.inputs[0] is tensor):
            moved = node.outputs[0] if node.op in (*_MOVES, "Cast") else tensor
            known = moved.shape is not None and moved.dtype is not None
            if known and id(moved) not in seen:
                seen.add(id(moved))
                found.append(moved)
    return found


def _check_alone(found: DynamicQuantizer, outputs: Container[int]) -> None:
    """Refuse a range that is not that of all values of x, or that something else reads too."""
    ends = [t for t in (found.scale, found.zero_point) if t is not None]
    if found.node.op == "DynamicQuantizeLinear":
        nodes: list[gs.Node] = []
    else:
        nodes = list({id(n): n for end in ends for n in _behind(end, found.x)}.values())
        _check_sizes(ends)
    inside, replaced = set(map(id, nodes)), {id(t) for end in ends for t in same_number(end)}
    for end in ends:
        if id(end) in outputs:
            raise Unfit(f"'{end.name}' is an output of the graph")
    for tensor in (t for node in nodes for t in node.outputs if id(t) not in replaced):
        reader = next((r for r in tensor.outputs if id(r) not in inside), None)
        if reader is not None:
            raise Unfit(f"its range '{tensor.name}' is also read by {reader.op} '{reader.name}'")
        if id(tensor) in outputs:
            raise Unfit(f"its range '{tensor.name}' is an output of the graph")


def _check_sizes(ends: list[gs.Tensor]) -> None:
    for end in ends:
        if rank(end) is None or any(size != 1 for size in end.shape):
            raise Unfit(f"'{end.name}' is not known to be one number")


def _behind(end: gs.Tensor, x: gs.Tensor) -> Iterator[gs.Node]:
    """The nodes that compute a number from x, from reductions over all its axes on; raises Unfit
    where it comes from elsewhere."""
    pending, seen = [end], set[int]()
    while pending:
        node = maker(pending.pop())
        if node is None or (node.op not in _POINTWISE and node.op not in _REDUCTIONS):
            raise Unfit(
                f"'{end.name}' is not computed from the least and the largest of '{x.name}'"
            )
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if node.op in _REDUCTIONS:
            _check_reduction(node, x)
        else:
            given = [t for t in node.inputs if not t.is_empty()]
            pending += [t for t in given if not isinstance(t, gs.Constant)]


def _check_reduction(node: gs.Node, x: gs.Tensor) -> None:
    """Refuse a reduction of something else than x or its magnitudes, or over some axes only."""
    source = _origin(node.inputs[0], "Abs")
    if source is not _origin(x):
        raise Unfit(f"its range is that of {named(source)}, not of '{x.name}'")
    axes = _axes(node)
    axis_count = rank(node.inputs[0])
    if axes and (axis_count is None or {a % axis_count for a in axes} != set(range(axis_count))):
        raise Unfit(f"{node.op} '{node.name}' finds a range for each place along some axes")


def _axes(node: gs.Node) -> list[int]:
    """Axes that a reduction names; none: all of them."""
    given = operand(node, 1)
    if given is None:
        return list(node.attrs.get("axes", []))
    if not isinstance(given, gs.Constant):
        raise Unfit(f"the axes of {node.op} '{node.name}' are no constant")
    axes = [int(axis) for axis in values_of(given).reshape(-1)]
    if not axes and node.attrs.get("noop_with_empty_axes", 0):
        raise Unfit(f"{node.op} '{node.name}' is over no axis")
    return axes
