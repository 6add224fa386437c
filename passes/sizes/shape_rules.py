"""How ops make sizes from sizes: a rule an op."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from sardonyx.passes.fused import operand
from sardonyx.passes.sizes.dim import Dim, Shape, Size, is_natural, minus, over, plus, total
from sardonyx.passes.sizes.value_rules import axes_of, bounds_of

if TYPE_CHECKING:
    from sardonyx.passes.sizes.sizes import Sizes

END = (1 << 31) - 1
"""From here on the end of a slice means the end of the axis."""

Shapes = list[Shape | None]
Rule = Callable[["Sizes", gs.Node], Shapes]
"""The shapes of a node's outputs, the first ones at least."""


def _same(sizes: Sizes, node: gs.Node) -> Shapes:
    return [sizes.shape(node.inputs[0])]


def _branches(sizes: Sizes, node: gs.Node) -> Shapes:
    """Of what an If chooses, that in which both branches agree."""
    branches = (node.attrs[side].outputs for side in ("then_branch", "else_branch"))
    return [_common(sizes, *map(sizes.shape, made)) for made in zip(*branches, strict=True)]


def _common(sizes: Sizes, one: Shape | None, other: Shape | None) -> Shape | None:
    if one is None or other is None or len(one) != len(other):
        return None
    return tuple(a if a == b else sizes.unknown() for a, b in zip(one, other, strict=True))


def _elementwise(sizes: Sizes, node: gs.Node) -> Shapes:
    return [broadcast(sizes, *map(sizes.shape, node.inputs))]


def broadcast(sizes: Sizes, *shapes: Shape | None) -> Shape | None:
    """The shape of an elementwise op's result."""
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return None
    columns = zip_longest(*(shape[::-1] for shape in known), fillvalue=1)
    return tuple(_joined(sizes, column) for column in columns)[::-1]


def _joined(sizes: Sizes, dims: tuple[Dim, ...]) -> Dim:
    wide = list(dict.fromkeys(dim for dim in dims if dim != 1))
    numbers = [dim for dim in wide if isinstance(dim, int)]
    if numbers or not wide:
        return numbers[0] if numbers else 1
    return wide[0] if len(wide) == 1 else sizes.unknown()


def _matmul(sizes: Sizes, node: gs.Node) -> Shapes:
    a, b = map(sizes.shape, node.inputs[:2])
    if a is None or b is None or len(a) < 2 or len(b) < 2:
        return [None]
    batch = broadcast(sizes, a[:-2], b[:-2])
    return [(*(batch or ()), a[-2], b[-1])]


def _dynamic_quantize(sizes: Sizes, node: gs.Node) -> Shapes:
    return [sizes.shape(node.inputs[0]), (), ()]


def _gemm(sizes: Sizes, node: gs.Node) -> Shapes:
    a, b = map(sizes.shape, node.inputs[:2])
    if a is None or b is None:
        return [None]
    rows = a[1 if node.attrs.get("transA", 0) else 0]
    return [(rows, b[0 if node.attrs.get("transB", 0) else 1])]


def _matmul_nbits(sizes: Sizes, node: gs.Node) -> Shapes:
    a = sizes.shape(node.inputs[0])
    return [None if a is None else (*a[:-1], int(node.attrs["N"]))]


def _gobo_matmul(sizes: Sizes, node: gs.Node) -> Shapes:
    a = sizes.shape(node.inputs[0])
    return [None if a is None else (*a[:-1], int(node.attrs["shape"][1]))]


def _gobo_gather(sizes: Sizes, node: gs.Node) -> Shapes:
    ids = sizes.shape(node.inputs[0])
    return [None if ids is None else (*ids, int(node.attrs["shape"][0]))]


def _indices(sizes: Sizes, node: gs.Node) -> Shapes:
    return [sizes.shape(node.inputs[1])]


def _gather(sizes: Sizes, node: gs.Node) -> Shapes:
    data, ids = map(sizes.shape, node.inputs[:2])
    if data is None or ids is None:
        return [None]
    axis = node.attrs.get("axis", 0) % max(len(data), 1)
    return [(*data[:axis], *ids, *data[axis + 1 :])]


def _reshape(sizes: Sizes, node: gs.Node) -> Shapes:
    return [reshaped(sizes, node, sizes.shape(node.inputs[0]))]


def reshaped(sizes: Sizes, node: gs.Node, shape: Shape | None) -> Shape | None:
    """What a Reshape makes of a tensor of this shape."""
    target = sizes.values(node.inputs[1])
    if target is None:
        return None
    dims: list[Dim | None] = [None if value == -1 else value for value in target.tolist()]
    if not node.attrs.get("allowzero", 0):
        for place in (i for i, dim in enumerate(dims) if dim == 0):
            dims[place] = shape[place] if shape and place < len(shape) else None
    open_places = [i for i, dim in enumerate(dims) if dim is None]
    if len(open_places) == 1 and shape is not None and None not in target.tolist():
        known = tuple(dim for dim in dims if dim is not None)
        dims[open_places[0]] = over(total(shape), total(known))
    return sizes.lengths(dims)


def _flatten(sizes: Sizes, node: gs.Node) -> Shapes:
    shape = sizes.shape(node.inputs[0])
    if shape is None:
        return [None]
    axis = node.attrs.get("axis", 1)
    return [(total(shape[:axis]), total(shape[axis:]))]


def _transpose(sizes: Sizes, node: gs.Node) -> Shapes:
    shape = sizes.shape(node.inputs[0])
    if shape is None:
        return [None]
    return [tuple(shape[i] for i in node.attrs.get("perm", range(len(shape))[::-1]))]


def _unsqueeze(sizes: Sizes, node: gs.Node) -> Shapes:
    shape, axes = sizes.shape(node.inputs[0]), axes_of(sizes, node)
    if shape is None or axes is None:
        return [None]
    dims = list(shape)
    for axis in sorted(axis % (len(shape) + len(axes)) for axis in axes):
        dims.insert(axis, 1)
    return [tuple(dims)]


def _squeeze(sizes: Sizes, node: gs.Node) -> Shapes:
    shape, axes = sizes.shape(node.inputs[0]), axes_of(sizes, node)
    if shape is None or not axes:
        return [None]
    gone = [axis % len(shape) for axis in axes]
    return [tuple(dim for i, dim in enumerate(shape) if i not in gone)]


def _reduce(sizes: Sizes, node: gs.Node) -> Shapes:
    shape, axes = sizes.shape(node.inputs[0]), axes_of(sizes, node)
    if shape is None or not axes:
        return [None]
    gone = [axis % len(shape) for axis in axes]
    if node.attrs.get("keepdims", 1):
        return [tuple(1 if i in gone else dim for i, dim in enumerate(shape))]
    return [tuple(dim for i, dim in enumerate(shape) if i not in gone)]


def _concat(sizes: Sizes, node: gs.Node) -> Shapes:
    shapes = [shape for tensor in node.inputs if (shape := sizes.shape(tensor)) is not None]
    if len(shapes) < len(node.inputs):
        return [None]
    dims = list(shapes[0])
    axis = node.attrs["axis"] % len(dims)
    for shape in shapes[1:]:
        dims[axis] = plus(dims[axis], shape[axis])
    return [tuple(dims)]


def _split(sizes: Sizes, node: gs.Node) -> Shapes:
    shape = sizes.shape(node.inputs[0])
    if shape is None:
        return [None]
    axis, parts = node.attrs.get("axis", 0) % len(shape), len(node.outputs)
    given = operand(node, 1)
    lengths = sizes.values(given) if given is not None else node.attrs.get("split")
    if lengths is None:
        even = over(shape[axis], parts) if given is None else None
        lengths = [even] * parts
    return [(*shape[:axis], length, *shape[axis + 1 :]) for length in sizes.lengths(lengths)]


def _slice(sizes: Sizes, node: gs.Node) -> Shapes:
    shape, bounds = sizes.shape(node.inputs[0]), bounds_of(sizes, node)
    if shape is None:
        return [None]
    if bounds is None:
        return [sizes.lengths([None] * len(shape))]
    dims: list[Dim | None] = [*shape]
    for start, end, axis, step in bounds:
        dims[axis] = _cut(shape[axis], start, end) if step == 1 else None
    return [sizes.lengths(dims)]


def _cut(size: Dim, start: Dim | None, end: Dim | None) -> Dim | None:
    """How much of ``size`` lies between two bounds.

    A number is taken to be as large as the symbols that it is cut at: tables of positions are cut
    to the length of a sequence, and a longer sequence cannot be added to them.
    """
    if isinstance(size, int) and isinstance(start, int) and isinstance(end, int):
        return len(range(size)[start:end])
    low, high = _from_front(start, size), _from_front(end, size)
    if low is None or high is None or not is_natural(minus(high, low)):
        return None
    whole = isinstance(size, int) or is_natural(minus(size, high))
    return minus(high, low) if whole else None


def _from_front(bound: Dim | None, size: Dim) -> Dim | None:
    """A bound of a slice, counted from the front."""
    if bound is None or (isinstance(bound, int) and bound >= END):
        return None if bound is None else size
    if is_natural(bound):
        return bound
    from_front = plus(size, bound)
    whole = isinstance(size, int) or is_natural(from_front)
    return from_front if whole and is_natural(minus(0, bound)) else None


def _expand(sizes: Sizes, node: gs.Node) -> Shapes:
    shape, target = sizes.shape(node.inputs[0]), sizes.values(node.inputs[1])
    if shape is None or target is None:
        return [None]
    return [broadcast(sizes, shape, sizes.lengths(target.tolist()))]


def _tile(sizes: Sizes, node: gs.Node) -> Shapes:
    shape, repeats = sizes.shape(node.inputs[0]), sizes.values(node.inputs[1])
    if shape is None or repeats is None:
        return [None]
    pairs = zip(shape, sizes.lengths(repeats.tolist()), strict=True)
    return [tuple(dim * times for dim, times in pairs)]


def _filled(sizes: Sizes, node: gs.Node) -> Shapes:
    target = sizes.values(node.inputs[0])
    return [None if target is None else sizes.lengths(target.tolist())]


def _range(sizes: Sizes, node: gs.Node) -> Shapes:
    values = [sizes.values(tensor) for tensor in node.inputs]
    start, limit, step = (None if v is None else v.item() for v in values)
    if isinstance(start, int) and isinstance(limit, int) and isinstance(step, int):
        return [(len(range(start, limit, step)),)]
    if step != 1 or not isinstance(start, int | Size) or not isinstance(limit, int | Size):
        return [(sizes.unknown(),)]
    return [sizes.lengths([minus(limit, start)])]


def _shape(sizes: Sizes, node: gs.Node) -> Shapes:
    shape = sizes.shape(node.inputs[0])
    if shape is None:
        return [None]
    return [(len(shape[slice(node.attrs.get("start", 0), node.attrs.get("end"))]),)]


def _attention(sizes: Sizes, node: gs.Node) -> Shapes:
    query, value = sizes.shape(node.inputs[0]), sizes.shape(node.inputs[2])
    heads = [node.attrs.get(f"{kind}_num_heads") for kind in ("q", "kv")]
    if query is None or value is None or len(query) != len(value):
        return [None]
    if len(query) == 3 and heads[0] == heads[1]:
        return [(*query[:2], value[2])]
    return [(*query[:3], value[3])] if len(query) == 4 else [None]


def _multi_head_attention(sizes: Sizes, node: gs.Node) -> Shapes:
    query, given = sizes.shape(node.inputs[0]), operand(node, 2)
    value = None if given is None else sizes.shape(given)
    if query is None or value is None or len(query) != 3:
        return [None]
    width = value[2] if len(value) == 3 else value[1] * value[3]
    return [(*query[:2], width)]


_UNARY = (
    "Abs Cast Clip CumSum DequantizeLinear Dropout Elu Erf Exp Gelu Identity IsInf IsNaN "
    "LayerNormalization LeakyRelu Log LogSoftmax Neg Not QuantizeLinear RMSNormalization "
    "Reciprocal Relu ScatterElements ScatterND Selu Sigmoid Sign SimplifiedLayerNormalization Sin "
    "Cos Softmax Softplus Sqrt Tanh Trilu"
)
_BINARY = (
    "Add And BitwiseAnd BitwiseOr Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min "
    "Mod Mul Or PRelu Pow Sub Sum Where Xor"
)
_CONTRIB = (
    "BiasGelu DequantizeLinear FastGelu Gelu QuantizeLinear QuickGelu SkipLayerNormalization "
    "SkipSimplifiedLayerNormalization"
)

_REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare"
)

SHAPE_RULES: dict[str, Rule] = {
    **dict.fromkeys(_UNARY.split(), _same),
    **dict.fromkeys(_BINARY.split(), _elementwise),
    **dict.fromkeys((f"com.microsoft.{op}" for op in _CONTRIB.split()), _same),
    **dict.fromkeys(_REDUCTIONS.split(), _reduce),
    **{f"sardonyx.GoboMatMul{bits}": _gobo_matmul for bits in range(2, 9)},
    **{f"sardonyx.GoboLinear{bits}": _gobo_matmul for bits in range(2, 9)},
    **{f"sardonyx.GoboGather{bits}": _gobo_gather for bits in range(2, 9)},
    "Attention": _attention,
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "DynamicQuantizeLinear": _dynamic_quantize,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _indices,
    "Gemm": _gemm,
    "If": _branches,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "com.microsoft.DynamicQuantizeMatMul": _matmul,
    "com.microsoft.MatMulIntegerToFloat": _matmul,
    "com.microsoft.MatMulNBits": _matmul_nbits,
    "com.microsoft.MultiHeadAttention": _multi_head_attention,
}
"""By op; ops of other domains with the domain in front."""
