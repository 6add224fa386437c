"""How ops compute small tensors of sizes and numbers: a rule an op."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from sardonyx.passes.fused import operand
from sardonyx.passes.sizes.dim import Dim, Size, is_large, is_natural, minus, over, plus, total

if TYPE_CHECKING:
    from sardonyx.passes.sizes.sizes import Sizes

Values = NDArray[np.object_]
Rule = Callable[["Sizes", gs.Node], Values | None]
"""The elements of a node's first output."""

_INTEGERS: dict[int, int] = {onnx.TensorProto.INT32: 1 << 31, onnx.TensorProto.INT64: 1 << 63}
"""Types of sizes, and the first number above what they hold."""
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)


def axes_of(sizes: Sizes, node: gs.Node) -> list[int] | None:
    """The axes that a node names, as an attribute or as its second input; None if it does not."""
    if "axes" in node.attrs:
        return list(node.attrs["axes"])
    given = operand(node, 1)
    values = None if given is None else sizes.values(given)
    known = values is not None and all(isinstance(v, int) for v in values.reshape(-1))
    return values.reshape(-1).tolist() if values is not None and known else None


def bounds_of(
    sizes: Sizes, node: gs.Node
) -> list[tuple[Dim | None, Dim | None, int, int | None]] | None:
    """Start, end, axis and step of every axis that a Slice cuts."""
    shape = sizes.shape(node.inputs[0])
    given = [operand(node, slot) for slot in (1, 2, 3, 4)]
    starts, ends, axes, steps = (None if t is None else sizes.values(t) for t in given)
    if starts is None or ends is None or shape is None:
        return None
    count = starts.size
    axes = np.arange(count).astype(object) if given[2] is None else axes
    steps = np.ones(count, object) if given[3] is None else steps
    if axes is None or steps is None or None in axes.tolist():
        return None
    columns = zip(*(v.tolist() for v in (starts, ends, axes, steps)), strict=True)
    return [(start, end, axis % len(shape), step) for start, end, axis, step in columns]


def _identity(sizes: Sizes, node: gs.Node) -> Values | None:
    return sizes.values(node.inputs[0])


def _shape(sizes: Sizes, node: gs.Node) -> Values | None:
    shape = sizes.shape(node.inputs[0])
    if shape is None:
        return None
    return _array(list(shape[slice(node.attrs.get("start", 0), node.attrs.get("end"))]))


def _size(sizes: Sizes, node: gs.Node) -> Values | None:
    shape = sizes.shape(node.inputs[0])
    return None if shape is None else np.array(total(shape), object)


def _array(values: list[Any]) -> Values:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _cast(sizes: Sizes, node: gs.Node) -> Values | None:
    values = sizes.values(node.inputs[0])
    if values is None:
        return None
    to = node.attrs["to"]
    return _each(lambda v: _converted(v, to), values)


def _converted(value: Any, to: int) -> Any:
    if to == onnx.TensorProto.BOOL:
        return bool(value) if _numbers(value) else None
    if to in _FLOATS:
        return float(value) if _numbers(value) else value
    if isinstance(value, Size):
        return value if to in _INTEGERS else None
    return int(value) if abs(value) < _INTEGERS.get(to, 0) else None


def _each(function: Callable[..., Any], *values: Values) -> Values:
    """A function of every element, None where it does not know."""
    spread = np.broadcast_arrays(*values)
    result = np.empty(spread[0].shape, object)
    for place in np.ndindex(result.shape):
        held = [array[place] for array in spread]
        result[place] = None if any(v is None for v in held) else _moderate(function(*held))
    return result


def _moderate(value: Any) -> Any:
    """A value, unless it is too large to be followed."""
    return None if isinstance(value, int | Size) and is_large(value) else value


def _elementwise(function: Callable[..., Any]) -> Rule:
    def rule(sizes: Sizes, node: gs.Node) -> Values | None:
        values = [sizes.values(tensor) for tensor in node.inputs]
        known = [v for v in values if v is not None]
        return _each(function, *known) if len(known) == len(values) else None

    return rule


def _numbers(*values: object) -> bool:
    return all(isinstance(v, int | float) for v in values)


def _whole(*values: object) -> bool:
    return all(isinstance(v, int | Size) for v in values)


def _add(a: Any, b: Any) -> Any:
    if _numbers(a, b):
        return a + b
    return plus(a, b) if _whole(a, b) else None


def _multiply(a: Any, b: Any) -> Any:
    return a * b if _whole(a, b) or _numbers(a, b) else None


def _divide(a: Any, b: Any) -> Any:
    if _numbers(a, b) and (isinstance(a, float) or isinstance(b, float)):
        return a / b if b != 0 else None
    if _numbers(a, b):
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1) if b != 0 else None
    return over(a, b) if _whole(a, b) else None


def _equal(a: Any, b: Any) -> bool | None:
    if _numbers(a, b) or a == b:
        return bool(a == b)
    if not _whole(a, b):
        return None
    apart = any(is_natural(minus(minus(x, y), 1)) for x, y in ((a, b), (b, a)))
    return False if apart else None


def _root(a: Any) -> float | None:
    return math.sqrt(a) if _numbers(a) and a >= 0 else None


def _where(sizes: Sizes, node: gs.Node) -> Values | None:
    known = [v for v in map(sizes.values, node.inputs) if v is not None]
    if len(known) < len(node.inputs):
        return None
    condition, yes, no = np.broadcast_arrays(*known)
    result = np.empty(condition.shape, object)
    for place in np.ndindex(result.shape):
        held = condition[place]
        same = yes[place] if yes[place] == no[place] else None
        result[place] = same if held is None else yes[place] if held else no[place]
    return result


def _gather(sizes: Sizes, node: gs.Node) -> Values | None:
    values, ids = (sizes.values(tensor) for tensor in node.inputs[:2])
    if values is None or ids is None or values.ndim != 1 or not _numbers(*ids.flat):
        return None
    return np.asarray(values[ids.astype(np.int64)], object)


def _concat(sizes: Sizes, node: gs.Node) -> Values | None:
    parts = []
    for tensor in node.inputs:
        values, shape = sizes.values(tensor), sizes.shape(tensor)
        if values is None and shape is not None and len(shape) == 1 and isinstance(shape[0], int):
            values = _array([None] * shape[0])
        if values is None or values.ndim != 1:
            return None
        parts.append(values)
    return np.concatenate(parts)


def _slice(sizes: Sizes, node: gs.Node) -> Values | None:
    values, bounds = sizes.values(node.inputs[0]), bounds_of(sizes, node)
    if values is None or values.ndim != 1 or bounds is None or len(bounds) != 1:
        return None
    ((start, end, _, step),) = bounds
    if not _numbers(start, end) or step is None or step < 0:
        return None
    return values[slice(start, end, step)]


def _unsqueeze(sizes: Sizes, node: gs.Node) -> Values | None:
    values, axes = sizes.values(node.inputs[0]), axes_of(sizes, node)
    return None if values is None or axes is None else np.expand_dims(values, tuple(axes))


def _squeeze(sizes: Sizes, node: gs.Node) -> Values | None:
    values, axes = sizes.values(node.inputs[0]), axes_of(sizes, node)
    given = "axes" in node.attrs or operand(node, 1) is not None
    if values is None or (given and not axes):
        return None
    return np.asarray(values.squeeze(None if axes is None else tuple(axes)), object)


def _reshape(sizes: Sizes, node: gs.Node) -> Values | None:
    values, target = (sizes.values(tensor) for tensor in node.inputs[:2])
    if values is None or target is None or not _numbers(*target.tolist()):
        return None
    return values.reshape([d or values.shape[i] for i, d in enumerate(target)])


def _filled(sizes: Sizes, node: gs.Node) -> Values | None:
    target = sizes.values(node.inputs[0])
    if target is None or not _numbers(*target.tolist()):
        return None
    value = node.attrs.get("value")
    held = 0.0 if value is None else value.values.reshape(-1)[0].item()
    return np.full(target.tolist(), held, object)


def _product(sizes: Sizes, node: gs.Node) -> Values | None:
    values = sizes.values(node.inputs[0])
    if values is None or values.ndim != 1 or not _whole(*values.tolist()):
        return None
    result = np.array(total(tuple(values.tolist())), object)
    return result.reshape(1) if node.attrs.get("keepdims", 1) else result


VALUE_RULES: dict[str, Rule] = {
    "Add": _elementwise(_add),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "Div": _elementwise(_divide),
    "Equal": _elementwise(_equal),
    "Gather": _gather,
    "Identity": _identity,
    "Mul": _elementwise(_multiply),
    "Neg": _elementwise(lambda a: _multiply(-1, a)),
    "ReduceProd": _product,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Sqrt": _elementwise(_root),
    "Squeeze": _squeeze,
    "Sub": _elementwise(lambda a, b: _add(a, _multiply(-1, b))),
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
"""By op of the standard domain."""
