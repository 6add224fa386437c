"""remove-saturated: bounds that the range of a quantizer keeps anyway go."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.fused import is_standard, operand
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import annotate
from sardonyx.passes.origin import constant
from sardonyx.passes.quantizers import DEQUANTIZE, QUANTIZE, is_op, quantizer_of
from sardonyx.passes.rewrite import (
    Draft,
    Replacements,
    detach,
    redirect,
    replace_nodes,
)
from sardonyx.passes.scopes import scopes
from sardonyx.passes.sizes import Sizes
from sardonyx.passes.weights import values_of
from sardonyx.passes.within import Within
from sardonyx.runtime_ops.linear_quantizer import LinearQuantizer

Side = Literal["low", "high"]

_CLIP: tuple[tuple[Side, int, str], ...] = (("low", 1, "min"), ("high", 2, "max"))
"""Sides of a Clip, with the input that bounds there, an attribute before operator set 11."""

_LEFT_OUT: dict[Side, np.ndarray] = {
    "low": np.array(np.finfo(np.float32).min),
    "high": np.array(np.finfo(np.float32).max),
}
"""What a Clip cuts infinities to on a side on which it is given no bound."""

_SIDES: dict[str, Side] = {"Max": "low", "Min": "high"}
"""The side on which constants bound, by op."""

_BOUNDING = ("Relu", "Clip", *_SIDES)


@dataclass(frozen=True)
class RemoveSaturated(Pass):
    """``QuantizeLinear(Bound(x))``  ->  ``QuantizeLinear(x)``, and
    ``Bound(DequantizeLinear(q))``  ->  ``DequantizeLinear(q)``.

    Bound is Relu, or Clip, Min or Max with constants. In front of quantizers a constant goes whose
    code is the end of the codes on its side. Rounding is monotone: what lies beyond the constant
    has a code no nearer to the middle, which is that same end, with the bound and without it. Of
    several constants, as a Clip's two, each is judged by itself. Behind a DequantizeLinear the op
    goes if the values of the least and the largest code lie within. Of scales for each channel or
    block, each must allow it. Does not fire

    1. where something else than QuantizeLinears reads the bounded values, or a graph inside this
       one does, or they are an output of the graph (behind a DequantizeLinear: where that holds of
       what it makes),
    2. where the constant, or a quantizer's scale or zero point, is computed as the model runs, or a
       constant is NaN,
    3. in front of a quantizer of float16, or of less than 8 bits: onnxruntime's do not saturate
       beyond 2^31 steps (-inf in float16 has the largest code),
    4. where the constant's shape is not known to leave the result's as it is,
    5. through Reshape and other movement of data: `hoist-quantize` and `sink-dequantize` bring
       bound and quantizer together.
    """

    name: ClassVar[str] = "remove-saturated"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """From the last node to the first ahead of quantizers, from the first to the last behind
        the others: a row of bounds goes at once."""
        found = _Bounds(graph, journal, Within.of(graph))
        for scope in scopes(graph):
            found.within = Within.of(scope)
            for node in reversed(scope.nodes):
                found.loosen(node)
            for node in scope.nodes:
                found.take_readers(node)
        replace_nodes(graph, found.replacements)
        return found.rewrites


@dataclass(frozen=True, eq=False)
class _Bound:
    """A number, or several, that values of one side are cut at. ``slot``: the input that holds
    them; ``attribute``: or the attribute; neither: it is the op's own."""

    side: Side
    values: np.ndarray
    slot: int | None = None
    attribute: str | None = None

    @property
    def tightest(self) -> np.floating:
        """The number that cuts most; NaN if one is."""
        tightest: np.floating = self.values.max() if self.side == "low" else self.values.min()
        return tightest

    @property
    def is_given(self) -> bool:
        """Whether the node can do without."""
        return self.slot is not None or self.attribute is not None

    def saturates(self, quantizer: LinearQuantizer) -> bool:
        """Whether all that is cut has the code that it is cut to."""
        end = quantizer.low if self.side == "low" else quantizer.high
        here = not np.isnan(self.tightest)
        return here and bool(np.all(quantizer.codes(self.tightest) == end))

    def passes(self, quantizer: LinearQuantizer) -> bool:
        """Whether nothing that codes stand for is cut; 0 and -0 are not one."""
        low = self.side == "low"
        ends = quantizer.values(quantizer.low if low else quantizer.high)
        end, cut = (ends.min() if low else ends.max()), self.tightest
        within = cut < end if low else cut > end
        return bool(within or (cut == end and np.signbit(cut) == np.signbit(end)))


@dataclass
class _Bounds:
    """Rewrites of a graph. ``within``: of the one at hand of those inside it."""

    graph: gs.Graph
    journal: Journal
    within: Within
    replacements: Replacements = field(default_factory=dict)
    rewrites: int = 0

    @property
    def sizes(self) -> Sizes:
        """Made only where the shape of a bound matters."""
        return self.journal.sizes(self.graph)

    def loosen(self, node: gs.Node) -> None:
        """Drop the bounds of a node at which all its readers, QuantizeLinears, saturate."""
        bounds = _bounds_of(node)
        quantizers = self._quantizers(node.outputs[0]) if bounds else []
        gone = [b for b in bounds if quantizers and all(map(b.saturates, quantizers))]
        gone = [b for b in gone if self._is_spare(node, b, gone)]
        inputs, attrs = _without(node, gone)
        whole = bool(gone) and len(gone) == len(bounds) and len(inputs) == 1
        if not whole and not any(bound.is_given for bound in gone):
            return
        self.rewrites += 1
        source, old, nodes = inputs[0], node.outputs[0], list[gs.Node]()
        if not whole:
            draft = Draft.of(node, np.float32)
            source = draft.add(node.op, "Loose", inputs, shape=old.shape)
            nodes = draft.nodes
            nodes[0].attrs.update(attrs)
            annotate(nodes[0], **{"pass": RemoveSaturated.name})
        redirect(old, source)
        self._replace(node, nodes)

    def take_readers(self, dequantizer: gs.Node) -> None:
        """Let a DequantizeLinear make what the bounds that read it made."""
        if not is_op(dequantizer, DEQUANTIZE) or not self._next(dequantizer.outputs[0]):
            return
        quantizer = quantizer_of(dequantizer)
        (made,) = dequantizer.outputs
        while quantizer and (node := self._next(made, quantizer.linear)):
            (bounded,) = node.outputs
            self._replace(node, [])
            redirect(made, bounded)
            self.rewrites += 1
            made = bounded
        if made is not dequantizer.outputs[0]:
            self._replace(dequantizer, [_making(made, dequantizer)])

    def _replace(self, node: gs.Node, nodes: list[gs.Node]) -> None:
        detach(node)
        self.replacements[id(node)] = nodes

    def _next(self, made: gs.Tensor, quantizer: LinearQuantizer | None = None) -> gs.Node | None:
        """The first bound that reads what a DequantizeLinear makes, and changes nothing."""
        if not self.within.owns(made):
            return None
        for node in made.outputs:
            bounds = _bounds_of(node)
            if (
                bounds
                and len(_without(node, bounds)[0]) == 1
                and (
                    quantizer is None
                    or all(b.passes(quantizer) and self._is_spare(node, b, bounds) for b in bounds)
                )
            ):
                return node
        return None

    def _quantizers(self, tensor: gs.Tensor) -> list[LinearQuantizer]:
        """What rounds a tensor; nothing if anything else reads it."""
        if not self.within.owns(tensor) or tensor.dtype not in (None, np.float32):
            return []
        found = []
        for reader in tensor.outputs:
            quantizer = quantizer_of(reader) if is_op(reader, QUANTIZE) else None
            if quantizer is None or not _saturates(quantizer.linear):
                return []
            found.append(quantizer.linear)
        return found

    def _is_spare(self, node: gs.Node, bound: _Bound, gone: list[_Bound]) -> bool:
        """Whether the result keeps its shape without the inputs of some bounds."""
        shape = () if bound.slot is None or node.op == "Clip" else node.inputs[bound.slot].shape
        if not shape:
            return True
        rest = [self.sizes.shape(t) for t in _without(node, gone)[0]]
        if math.prod(shape) == 1:
            return any(other is not None and len(other) >= len(shape) for other in rest)
        whole = self.sizes.shape(node.outputs[0])
        return any(other is not None and other == whole for other in rest)


def _saturates(quantizer: LinearQuantizer) -> bool:
    """Whether onnxruntime makes end codes of all that lies beyond."""
    return quantizer.scale.dtype == np.float32 and quantizer.high - quantizer.low >= 255


def _bounds_of(node: gs.Node) -> list[_Bound]:
    """Of a Relu, Clip, Min or Max of something that is no constant, those that are known."""
    if node.op not in _BOUNDING or not is_standard(node):
        return []
    if node.op == "Relu":
        return [_Bound("low", np.zeros((), np.float32))]
    if node.op == "Clip":
        return list(_of_clip(node))
    bounds = list(_of_minmax(node))
    return bounds if len(bounds) < len(node.inputs) else []


def _of_clip(node: gs.Node) -> Iterator[_Bound]:
    for side, slot, attribute in _CLIP:
        if attribute in node.attrs:
            yield _Bound(side, np.array(node.attrs[attribute], np.float32), attribute=attribute)
        elif (held := operand(node, slot)) is None:
            yield _Bound(side, _LEFT_OUT[side])
        elif (values := _floats(held)) is not None:
            # an end beyond the floats, left out, would be the last of them
            yield _Bound(side, np.clip(values, *_LEFT_OUT.values()), slot)


def _of_minmax(node: gs.Node) -> Iterator[_Bound]:
    for slot, tensor in enumerate(node.inputs):
        if (held := _floats(tensor)) is not None:
            yield _Bound(_SIDES[node.op], held, slot)


def _floats(tensor: gs.Tensor | None) -> np.ndarray | None:
    held = constant(tensor)
    if held is None or 0 in held.shape or np.dtype(held.dtype).kind != "f":
        return None
    return values_of(held)


def _without(node: gs.Node, gone: list[_Bound]) -> tuple[list[gs.Tensor], dict[str, object]]:
    """Inputs and attributes of a node that lacks some bounds."""
    slots = {bound.slot for bound in gone}
    inputs = [t for slot, t in enumerate(node.inputs) if slot not in slots]
    if node.op == "Clip":
        empty = gs.Variable.empty()
        inputs = [empty if slot in slots else t for slot, t in enumerate(node.inputs)]
        while inputs[-1].is_empty():
            inputs.pop()
    names = {bound.attribute for bound in gone}
    return inputs, {key: value for key, value in node.attrs.items() if key not in names}


def _making(output: gs.Tensor, node: gs.Node) -> gs.Node:
    """A node as another, which it is to replace, that makes another tensor."""
    inputs = list(node.inputs)
    return gs.Node(node.op, node.name, node.attrs, inputs, [output], domain=node.domain)
