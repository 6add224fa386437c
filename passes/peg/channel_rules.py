"""Which axes of what a node reads and makes hold the same channels in the same order: a rule an op.

Nothing changes but places if a node reads its operands with the channels of all these axes in
another order: what it makes has them in that order too. Reductions over channels, norms among
them, do not mind the order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from sardonyx.passes.cleanup.movements import axis_after, data_slots
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import is_standard, operand, result
from sardonyx.passes.sizes import Shape, Sizes
from sardonyx.passes.sizes.value_rules import axes_of


@dataclass(frozen=True, eq=False)
class Port:
    """Where a node reads a tensor or, ``made``, makes one. ``axis``: of the tensor, that holds the
    channels, counted from its end: -1 is the last."""

    node: gs.Node
    made: bool
    slot: int
    axis: int

    @property
    def tensor(self) -> gs.Tensor:
        """What is read or made."""
        return (self.node.outputs if self.made else self.node.inputs)[self.slot]

    @property
    def key(self) -> tuple[int, bool, int, int]:
        """Equal for equal places."""
        return (id(self.node), self.made, self.slot, self.axis)


@dataclass(frozen=True)
class Ties:
    """Ties between ports in a graph of known sizes. ``width``: how many channels there are."""

    sizes: Sizes
    width: int

    def of(self, port: Port) -> list[Port]:
        """All ports of its node that are tied to one, this one included; raises Unfit where the
        node needs its channels in the order that they are in."""
        node = port.node
        name = node.op if is_standard(node) else f"{node.domain}.{node.op}"
        if name not in _RULES:
            raise Unfit(f"nothing is known of how {name} treats channels")
        ports = _RULES[name](self, port)
        if port.key not in {tied.key for tied in ports}:
            raise Unfit(f"{name} mixes channels, or tells them from their places")
        return ports

    def shape(self, tensor: gs.Tensor) -> Shape:
        """The sizes of a tensor; raises Unfit where they are not known."""
        shape = self.sizes.shape(tensor)
        if shape is None:
            raise Unfit(f"the sizes of '{tensor.name}' are not known")
        return shape

    def spans(self, tensor: gs.Tensor, axis: int) -> bool:
        """Whether an axis of an operand holds all channels, and not one element for all; raises
        Unfit where that is not known."""
        shape = self.shape(tensor)
        if len(shape) < -axis or shape[axis] == 1:
            return False
        if shape[axis] != self.width:
            raise Unfit(f"'{tensor.name}' is not known to have {self.width} channels")
        return True

    def chooses(self, port: Port) -> bool:
        """Whether a Gather picks channels by constant places: any order goes into these."""
        node = port.node
        if node.op != "Gather" or not is_standard(node) or (port.slot and not port.made):
            return False
        rank, places = len(self.shape(node.inputs[0])), node.inputs[1]
        listed = isinstance(places, gs.Constant) and len(places.shape) == 1
        return bool(listed and (port.axis - node.attrs.get("axis", 0)) % rank == 0)


Rule = Callable[[Ties, Port], list[Port]]
"""The ports tied to one; without it where there is no such tie."""

_End = tuple[bool, int, int]
"""Made, slot and axis of a port."""


def _pointwise(
    slots: Sequence[int] | None = None, made: Sequence[int] = (0,), apart: Sequence[int] = ()
) -> Rule:
    """Each channel computed alike, operands broadcast. ``slots``: operands, by default all inputs;
    ``made``: outputs of their form; ``apart``: outputs of another, which must not be wanted."""

    def rule(ties: Ties, port: Port) -> list[Port]:
        node, axis = port.node, port.axis
        if any(result(node, slot) is not None for slot in apart):
            raise Unfit(f"{node.op} makes more than one tensor")
        read = range(len(node.inputs)) if slots is None else slots
        given = [(slot, tensor) for slot in read if (tensor := operand(node, slot)) is not None]
        tied = [Port(node, False, slot, axis) for slot, t in given if ties.spans(t, axis)]
        return tied + [Port(node, True, s, axis) for s in made if result(node, s) is not None]

    return rule


def _itself(_: Ties, port: Port) -> list[Port]:
    """An op that reads sizes only, or makes all values alike."""
    return [port]


def _reduction(ties: Ties, port: Port) -> list[Port]:
    node, rank = port.node, len(ties.shape(port.node.inputs[0]))
    axes = axes_of(ties.sizes, node)
    if axes is None and operand(node, 1) is not None:
        raise Unfit(f"the axes that {node.op} reduces are not known")
    whole = not axes and not node.attrs.get("noop_with_empty_axes", 0)
    gone = set(range(rank)) if whole else {axis % rank for axis in axes or ()}
    if not port.made and rank + port.axis in gone:
        return [port]
    kept = [axis for axis in range(rank) if axis not in gone or node.attrs.get("keepdims", 1)]
    source = kept[port.axis] if port.made else rank + port.axis
    return [
        Port(node, False, 0, source - rank),
        Port(node, True, 0, kept.index(source) - len(kept)),
    ]


def _movement(ties: Ties, port: Port) -> list[Port]:
    """Whole axes are moved, joined or cut, and not that of the channels."""
    node = port.node
    ranks = [len(ties.shape(tensor)) for tensor in (node.inputs[0], node.outputs[0])]
    goes = [(axis, axis_after(ties.sizes, node, axis)) for axis in range(ranks[0])]
    place = port.axis + ranks[port.made]
    for before, after in goes:
        if after is not None and place == (after if port.made else before):
            read = [Port(node, False, slot, before - ranks[0]) for slot in data_slots(node)]
            made = [slot for slot in range(len(node.outputs)) if result(node, slot) is not None]
            return read + [Port(node, True, slot, after - ranks[1]) for slot in made]
    return []


def _gather(ties: Ties, port: Port) -> list[Port]:
    return [port] if ties.chooses(port) else _movement(ties, port)


def _gather_nd(ties: Ties, port: Port) -> list[Port]:
    """Axes behind those that it looks places up in."""
    node = port.node
    rank, depth = len(ties.shape(node.inputs[0])), ties.shape(node.inputs[1])[-1]
    if not isinstance(depth, int):
        raise Unfit("the axes that GatherND looks places up in are not known")
    if -port.axis > rank - node.attrs.get("batch_dims", 0) - depth:
        return []
    return [Port(node, False, 0, port.axis), Port(node, True, 0, port.axis)]


def _reshape(ties: Ties, port: Port) -> list[Port]:
    """All axes but the last are joined or split."""
    ends = (port.node.inputs[0], port.node.outputs[0])
    if port.axis != -1 or any(ties.shape(tensor)[-1:] != (ties.width,) for tensor in ends):
        return []
    return [Port(port.node, False, 0, -1), Port(port.node, True, 0, -1)]


def _matmul(ties: Ties, port: Port) -> list[Port]:
    if min(len(ties.shape(tensor)) for tensor in port.node.inputs) < 2:
        raise Unfit("it multiplies by a vector")
    inner, columns = [(False, 0, -1), (False, 1, -2)], [(False, 1, -1), (True, 0, -1)]
    return _one_of(port, inner, columns, [(False, 0, -2), (True, 0, -2)])


def _gemm(ties: Ties, port: Port) -> list[Port]:
    node, bias = port.node, operand(port.node, 2)
    inner = -2 if node.attrs.get("transA", 0) else -1
    rows = -1 if node.attrs.get("transB", 0) else -2
    made: list[_End] = [(False, 1, -3 - rows), (True, 0, -1)]
    group = _one_of(port, [(False, 0, inner), (False, 1, rows)], made)
    if group and group[-1].made and bias is not None and ties.spans(bias, -1):
        group.append(Port(node, False, 2, -1))
    return group


def _conv(ties: Ties, port: Port) -> list[Port]:
    node = port.node
    if node.attrs.get("group", 1) != 1:
        raise Unfit("it works on groups of channels")
    rank = len(ties.shape(node.inputs[1]))
    made: list[_End] = [(False, 1, -rank), (True, 0, 1 - rank)]
    made += [(False, 2, -1)] if operand(node, 2) is not None else []
    return _one_of(port, [(False, 0, 1 - rank), (False, 1, 1 - rank)], made)


def _one_of(port: Port, *groups: Iterable[_End]) -> list[Port]:
    """The ports of the group that one is in."""
    own = (port.made, port.slot, port.axis)
    group = next((held for held in map(list, groups) if own in held), [])
    return [Port(port.node, *end) for end in group]


_POINTWISE = (
    "Abs Add And BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Celu Clip Cos Div Elu Equal "
    "Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN "
    "LeakyRelu Less LessOrEqual Log LogSoftmax Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow "
    "RMSNormalization Reciprocal Relu Round Selu Sigmoid Sign Sin "
    "Softmax Softplus Softsign Sqrt Sub Sum Swish Tanh ThresholdedRelu Where Xor "
    "com.microsoft.BiasGelu com.microsoft.FastGelu com.microsoft.Gelu com.microsoft.QuickGelu"
)
_REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare"
)
_SKIPPING = "com.microsoft.SkipLayerNormalization com.microsoft.SkipSimplifiedLayerNormalization"

_RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE.split(), _pointwise()),
    **dict.fromkeys(_REDUCTIONS.split(), _reduction),
    **dict.fromkeys(_SKIPPING.split(), _pointwise(made=(0, 3), apart=(1, 2))),
    **dict.fromkeys(("Concat", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"), _movement),
    **dict.fromkeys(("ConstantOfShape", "Shape", "Size"), _itself),
    **dict.fromkeys(("Flatten", "Reshape"), _reshape),
    "Conv": _conv,
    "Dropout": _pointwise(slots=(0,), apart=(1,)),
    "Expand": _pointwise(slots=(0,)),
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Gemm": _gemm,
    "LayerNormalization": _pointwise(apart=(1, 2)),
    "MatMul": _matmul,
    "SimplifiedLayerNormalization": _pointwise(apart=(1,)),
}
"""By op; ops of other domains with the domain in front."""
