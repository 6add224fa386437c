"""sink-dequantize: what is only moved is moved as codes, and dequantized after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.cleanup.crossing import Crossing, cross_movements
from sardonyx.passes.cleanup.movements import (
    CHOOSING,
    REPEATING,
    axis_after,
    data_slots,
    elements,
    is_movement,
    only_moves,
    surely_fewer,
)
from sardonyx.passes.cleanup.scaling import Scaling, scaling_of
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import is_standard
from sardonyx.passes.journal import Journal
from sardonyx.passes.quantizers import DEQUANTIZE, is_op, source_of
from sardonyx.passes.rewrite import readers_of
from sardonyx.passes.scopes import is_constant
from sardonyx.passes.sizes.dim import is_natural, minus


@dataclass(frozen=True)
class SinkDequantize(Pass):
    """``Move(DequantizeLinear(q, s, z))``  ->  ``DequantizeLinear(Move(q), s, z)``.

    Move is Reshape, Transpose, Squeeze, Unsqueeze, Flatten, Identity, Split, Slice, Gather,
    GatherND, GatherElements, Pad, DepthToSpace, SpaceToDepth, or a Concat all of whose inputs come
    from equal DequantizeLinear. A quarter of the bytes move, a lookup no longer dequantizes the
    whole table, and codes meet the QuantizeLinear or the product that takes them. Each time one op
    less moves floats, as in hoist-quantize: the two come to an end together. Does not fire where

    1. codes are no smaller than the floats, or onnxruntime has no such Move for their type,
    2. there is a scale for each block, or for each place of an axis that Move changes or that
       cannot be followed through it,
    3. more would be dequantized than before: by an Expand or Tile, or by a Gather that is known to
       choose more than there is,
    4. something else needs the floats too, and q is no constant: they would be made twice. Several
       that move are fine if they are known to make no more together,
    5. Move is in a graph inside: a loop would dequantize at every step,
    6. a Pad puts something else than 0 around it, or a Concat joins it with something else,
    7. Move swaps the last two axes for products of floats, and q is no constant: onnxruntime does
       that as it multiplies.
    """

    name: ClassVar[str] = "sink-dequantize"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Sink each as far as it goes."""
        return cross_movements(_Sinking, self.name, graph, journal)


class _Sinking(Crossing):
    op: ClassVar[str] = DEQUANTIZE

    def fit(self, node: gs.Node) -> list[gs.Node]:
        """The readers of what a node makes, if they only move it."""
        if id(node) in self.gone:
            return []
        (floats,) = node.outputs
        readers = readers_of(floats)
        fit = [reader for reader in readers if is_movement(reader) and self._fits(reader, node)]
        if not fit or self._may_go(floats, readers, fit) or is_constant(node.inputs[0]):
            return fit
        for movement in fit:
            self.miss(movement, Unfit(f"something else needs '{floats.name}' in floats"))
        return []

    def _may_go(self, floats: gs.Tensor, readers: list[gs.Node], fit: list[gs.Node]) -> bool:
        """Whether no more floats are made once some readers of theirs make their own."""
        if len(fit) < len(readers) or id(floats) in self.within.outputs:
            return False
        if len(fit) == 1:
            return True
        made = elements(self.sizes, (t for movement in fit for t in movement.outputs))
        had = elements(self.sizes, [floats])
        return made is not None and had is not None and is_natural(minus(had, made))

    def _fits(self, movement: gs.Node, node: gs.Node) -> bool:
        try:
            self._check(movement, node)
        except Unfit as reason:
            self.miss(movement, reason)
            return False
        return True

    def _check(self, movement: gs.Node, node: gs.Node) -> None:
        """Raise Unfit where a movement is to go on reading what a node makes."""
        if id(movement) not in self.within.nodes:
            raise Unfit("it is in a graph inside")
        if not only_moves(movement, node.outputs[0]):
            raise Unfit("the floats are no more than an argument of it")
        scaling = scaling_of(node, self.sizes)
        self.need_codes_cheaper(movement, scaling)
        if scaling.axis is not None and self._axis_after(movement, scaling) is None:
            raise Unfit(f"it is not known where axis {scaling.axis} goes, which has the scales")
        self._need_no_more(movement, node)
        if _turns_for_floats(movement) and not is_constant(node.inputs[0]):
            raise Unfit("products of floats turn it as they multiply")
        for slot in data_slots(movement):
            self._need_equal(movement.inputs[slot], node, scaling)

    def _axis_after(self, movement: gs.Node, scaling: Scaling) -> int | None:
        axis = scaling.axis
        return None if axis is None else axis_after(self.sizes, movement, axis)

    def _need_no_more(self, movement: gs.Node, node: gs.Node) -> None:
        """Raise Unfit where a movement makes more elements than it is given."""
        more = movement.op in REPEATING
        if movement.op in CHOOSING:
            made, had = (elements(self.sizes, of) for of in (movement.outputs, node.outputs))
            more = made is not None and had is not None and surely_fewer(had, made)
        if more:
            raise Unfit("more would be dequantized after it than before")

    def _need_equal(self, tensor: gs.Tensor, node: gs.Node, scaling: Scaling) -> None:
        """Raise Unfit where what a movement reads beside a node's output cannot be codes of the
        same scaling."""
        if tensor is node.outputs[0]:
            return
        other = source_of(tensor, self.op)
        if other is None or id(other) not in self.within.nodes:
            raise Unfit(f"it joins codes and '{tensor.name}', which is none")
        if scaling_of(other, self.sizes).key != scaling.key:
            raise Unfit("it joins codes of different scales")
        alone = len(readers_of(tensor)) == 1 and id(tensor) not in self.within.outputs
        if not alone and not is_constant(other.inputs[0]):
            raise Unfit(f"something else needs '{tensor.name}' in floats")

    def cross(self, movement: gs.Node) -> list[gs.Node]:
        """Let a movement read codes, and dequantize what it makes of them."""
        makers = [movement.inputs[slot].inputs[0] for slot in data_slots(movement)]
        scaling = scaling_of(makers[0], self.sizes)
        axis = self._axis_after(movement, scaling)
        floats = list(movement.outputs)
        codes = [self.codes_of(tensor, scaling) for tensor in floats]
        self.put(movement, [node.inputs[0] for node in makers], codes, scaling)
        pairs = [(q, y) for q, y in zip(codes, floats, strict=True) if self.within.needs(y)]
        ends = [scaling.node(self.op, f"{y.name}/Dequantize", q, y, axis) for q, y in pairs]
        for end in ends:
            self.add(movement, makers[0], end, ahead=False)
        for node in makers:
            if not any(map(self.within.needs, node.outputs)):
                self.drop(node)
        return ends


def _turns_for_floats(movement: gs.Node) -> bool:
    """Whether a movement swaps the last two axes for products neither operand of which is codes."""
    perm, readers = list(movement.attrs.get("perm", ())), readers_of(movement.outputs[0])
    swapped = [*range(len(perm))[:-2], len(perm) - 1, len(perm) - 2]
    turns = movement.op == "Transpose" and len(perm) > 1 and perm == swapped
    return turns and bool(readers) and all(_multiplies_floats(r, movement) for r in readers)


def _multiplies_floats(node: gs.Node, turned: gs.Node) -> bool:
    """Whether a node multiplies by what another turned, and by no codes."""
    others = [tensor for tensor in node.inputs if tensor is not turned.outputs[0]]
    return is_standard(node) and node.op == "MatMul" and not any(map(_were_codes, others))


def _were_codes(tensor: gs.Tensor) -> bool:
    """Whether a tensor was dequantized, and only moved since."""
    node = tensor.inputs[0] if tensor.inputs else None
    while node is not None and is_movement(node):
        node = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
    return node is not None and is_op(node, DEQUANTIZE)
