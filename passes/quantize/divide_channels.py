"""Where a tensor can be divided channel by channel for nothing: in constants of what makes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import operand
from sardonyx.passes.origin import label, maker, named, scalar
from sardonyx.passes.quantize.owners import Owners
from sardonyx.passes.sizes import Sizes
from sardonyx.passes.weights import WeightUse, is_float

_HEADS = [0, 2, 1, 3]
"""The Transpose between [B, T, N, D] and [B, N, T, D]."""

_OF_SIZES = ("Shape", "Size")
"""Ops that read no values."""


@dataclass(frozen=True)
class Way:
    """Constants to divide, so that tensors come out divided by one vector along the last axis.

    ``into``: op and name of the node that these constants belong to. ``weight``: the matrix whose
    columns are divided, if any. ``vectors``: node and slot of vectors [K]. ``tensors``: all whose
    values change, from the last to the first.
    """

    into: str
    weight: WeightUse | None = None
    vectors: tuple[tuple[gs.Node, int], ...] = ()
    tensors: tuple[gs.Tensor, ...] = ()


@dataclass(frozen=True)
class Ways:
    """Finds ways in a graph. ``width``: K, channels of the tensor."""

    sizes: Sizes
    owners: Owners
    width: int

    def find(self, tensor: gs.Tensor, readers: tuple[gs.Node, ...]) -> Way:
        """The way to divide a tensor whose values only ``readers`` read; raises Unfit if there is
        none."""
        self._check_alone(tensor, readers)
        node = maker(tensor)
        step = _STEPS.get(node.op) if node is not None else None
        if node is None or step is None or node.outputs[0] is not tensor:
            raise Unfit(f"{named(tensor)} has no constant to take a scale")
        way = step(self, node)
        return replace(way, tensors=(tensor, *way.tensors))

    def _check_alone(self, tensor: gs.Tensor, readers: tuple[gs.Node, ...]) -> None:
        ours = set(map(id, readers))
        others = (n for n in tensor.outputs if id(n) not in ours and n.op not in _OF_SIZES)
        other = next(others, None)
        if other is not None:
            raise Unfit(f"'{tensor.name}' is also read by {other.op} '{other.name}'")
        if any(output is tensor for output in self.owners.outputs):
            raise Unfit(f"'{tensor.name}' is an output of its graph")

    def on(self, node: gs.Node, slot: int = 0) -> Way:
        """The way to divide what one node reads in a slot."""
        return self.find(node.inputs[slot], (node,))

    def norm(self, node: gs.Node) -> Way:
        """Scale and, if there is one, bias of a normalization."""
        return Way(_label(node), vectors=self._vectors(node, (1, 2)))

    def mul(self, node: gs.Node) -> Way:
        """A constant factor, or either factor."""
        held = [slot for slot in (0, 1) if self._is_vector(node.inputs[slot])]
        if held:
            return Way(_label(node), vectors=((node, held[0]),))
        reason = Unfit(f"{named(node.outputs[0])} multiplies numbers")
        for slot in [slot for slot in (0, 1) if scalar(node.inputs[slot]) is None]:
            try:
                return self.on(node, slot)
            except Unfit as other:
                reason = other
        raise reason

    def add(self, node: gs.Node) -> Way:
        """A constant term, and the other."""
        for slot in (0, 1):
            if self._is_vector(node.inputs[slot]):
                way = self.on(node, 1 - slot)
                return replace(way, vectors=(*way.vectors, (node, slot)))
        raise Unfit(f"{named(node.outputs[0])} adds no vector of {self.width} elements")

    def product(self, node: gs.Node) -> Way:
        """Columns of the weight, and the bias that a Gemm adds."""
        use = self.owners.uses.get(id(node))
        if use is None or use.view.shape[1] != self.width:
            raise Unfit(f"{named(node.outputs[0])} multiplies by no matrix of {self.width} columns")
        obstacle = self.owners.obstacle((use,))
        if obstacle:
            raise Unfit(obstacle)
        return Way(_label(node), use, self._vectors(node, (2,)))

    def reshape(self, node: gs.Node) -> Way:
        """Rows regrouped; or the heads of attention joined: the values, see `_values`."""
        before, after = (self.sizes.shape(t) for t in (node.inputs[0], node.outputs[0]))
        if not after or after[-1] != self.width:
            raise Unfit(f"{named(node.outputs[0])} is not known to keep {self.width} channels")
        if before and before[-1] == self.width:
            return self.on(node)
        return self._values(node)

    def _values(self, join: gs.Node) -> Way:
        """Probabilities times values, whose channel (head, place in it) stays where it is.

        Reshape(values) -> Transpose -> MatMul(probabilities, .) -> Transpose -> Reshape
        """
        back = _transpose(join.inputs[0])
        product = maker(back.inputs[0])
        if product is None or product.op != "MatMul":
            raise Unfit(f"{named(back.inputs[0])} is no product of probabilities and values")
        turn = _transpose(product.inputs[1])
        split = maker(turn.inputs[0])
        if split is None or split.op != "Reshape":
            raise Unfit(f"{named(turn.inputs[0])} does not split the heads of values")
        heads = self._heads(back.outputs[0])
        if heads is None or heads != self._heads(split.outputs[0]):
            raise Unfit(f"{named(join.outputs[0])} does not join the heads of values alone")
        way = self.on(split)
        chain = ((join, 0), (back, 0), (product, 1), (turn, 0))
        for node, slot in chain:
            self._check_alone(node.inputs[slot], (node,))
        between = tuple(node.inputs[slot] for node, slot in chain)
        return replace(way, tensors=(*between, *way.tensors))

    def _heads(self, tensor: gs.Tensor) -> tuple[int, int] | None:
        """Heads N and their size D of a tensor [B, T, N, D], if they are all channels."""
        shape = self.sizes.shape(tensor)
        if shape is None or len(shape) != 4:
            return None
        heads, size = shape[2:]
        if not isinstance(heads, int) or not isinstance(size, int):
            return None
        return (heads, size) if heads * size == self.width else None

    def _vectors(self, node: gs.Node, slots: tuple[int, ...]) -> tuple[tuple[gs.Node, int], ...]:
        """Those of the slots that are given, each of which must hold a vector."""
        given = [(slot, tensor) for slot in slots if (tensor := operand(node, slot)) is not None]
        for _, tensor in given:
            if not self._is_vector(tensor):
                raise Unfit(f"{named(tensor)} is no vector of {self.width} elements")
        return tuple((node, slot) for slot, _ in given)

    def _is_vector(self, tensor: gs.Tensor) -> bool:
        if not isinstance(tensor, gs.Constant) or not tensor.shape or self.width == 1:
            return False
        whole = tensor.shape[-1] == math.prod(tensor.shape) == self.width
        return whole and is_float(tensor.dtype)


def _transpose(tensor: gs.Tensor) -> gs.Node:
    node = maker(tensor)
    if node is None or node.op != "Transpose" or list(node.attrs.get("perm", ())) != _HEADS:
        raise Unfit(f"{named(tensor)} is no Transpose of heads")
    return node


def _label(node: gs.Node) -> str:
    return f"{node.op} '{label(node)}'"


_STEPS: dict[str, Callable[[Ways, gs.Node], Way]] = {
    "Add": Ways.add,
    "Gemm": Ways.product,
    "Identity": Ways.on,
    "LayerNormalization": Ways.norm,
    "MatMul": Ways.product,
    "Mul": Ways.mul,
    "RMSNormalization": Ways.norm,
    "Relu": Ways.on,
    "Reshape": Ways.reshape,
    "SimplifiedLayerNormalization": Ways.norm,
}
"""How what an op makes is divided, by op. Factors are above 0, so that Relu passes them on."""
