"""hoist-quantize: what is to become codes becomes codes before it is moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.cleanup.crossing import Crossing, cross_movements
from sardonyx.passes.cleanup.movements import (
    CHOOSING,
    data_slots,
    elements,
    is_movement,
    surely_fewer,
)
from sardonyx.passes.cleanup.scaling import Scaling, scaling_of
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.journal import Journal
from sardonyx.passes.origin import label
from sardonyx.passes.quantizers import DEQUANTIZE, QUANTIZE, is_op, source_of
from sardonyx.passes.rewrite import readers_of
from sardonyx.passes.sizes import Dim, Size
from sardonyx.passes.sizes.dim import is_natural, minus


@dataclass(frozen=True)
class HoistQuantize(Pass):
    """``QuantizeLinear(Move(x), s, z)``  ->  ``Move(QuantizeLinear(x, s, z))``.

    Move is as in sink-dequantize, or Expand or Tile; each input of a Concat is quantized, each
    output of a Split was. A quarter of the bytes move, as where a decoder's keys and values are put
    in the order of the beams, and codes that were dequantized only to be moved stay codes. One op
    less moves floats each time. Does not fire where

    1. codes are no smaller than the floats, or onnxruntime has no such Move for their type,
    2. the scale is not one constant, or the zero point is computed,
    3. something else needs what Move makes, or quantizes it otherwise,
    4. more would be quantized than before: Move is a Slice, Gather, GatherND or GatherElements that
       is known to choose less than there is, or of which nothing is known. As many, or a number
       that an input of the graph has for a size (beams of a batch), is fine; so is all of what was
       dequantized by the same scale, and of a constant that nothing else reads: no run does that,
    5. Move is in another graph than the QuantizeLinear,
    6. a Pad puts something else than 0 around it.
    """

    name: ClassVar[str] = "hoist-quantize"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Hoist each as far as it goes."""
        return cross_movements(_Hoisting, self.name, graph, journal)


class _Hoisting(Crossing):
    op: ClassVar[str] = QUANTIZE

    def fit(self, node: gs.Node) -> list[gs.Node]:
        """The movement that makes what a node quantizes, if codes can be moved in its place."""
        if id(node) in self.gone or not node.inputs[0].inputs:
            return []
        (movement,) = node.inputs[0].inputs
        if not is_movement(movement):
            return []
        try:
            self._check(movement, scaling_of(node, self.sizes))
        except Unfit as reason:
            self.miss(movement, reason)
            return []
        return [movement]

    def _check(self, movement: gs.Node, scaling: Scaling) -> None:
        """Raise Unfit where floats are to be moved as before."""
        if id(movement) not in self.within.nodes:
            raise Unfit("it is quantized in a graph inside")
        if scaling.axis is not None or not scaling.is_constant:
            raise Unfit(f"'{scaling.scale.name}' is not one constant scale")
        for tensor in movement.outputs:
            self._need_codes_alone(tensor, scaling)
        self.need_codes_cheaper(movement, scaling)
        if movement.op in CHOOSING:
            self._need_no_more(movement, scaling)

    def _need_codes_alone(self, tensor: gs.Tensor, scaling: Scaling) -> None:
        """Raise Unfit where a tensor is read, and not by one QuantizeLinear alone."""
        readers = readers_of(tensor)
        if not self.within.needs(tensor):
            return
        alone = len(readers) == 1 and id(tensor) not in self.within.outputs
        if not alone or id(readers[0]) not in self.within.nodes or not is_op(readers[0], self.op):
            raise Unfit(f"something else than one QuantizeLinear needs '{tensor.name}'")
        arguments = readers[0].inputs[1:]
        if (
            any(tensor is other for other in arguments)
            or scaling_of(readers[0], self.sizes).key != scaling.key
        ):
            raise Unfit("what it makes is quantized by different scales")

    def _need_no_more(self, movement: gs.Node, scaling: Scaling) -> None:
        """Raise Unfit where a movement may be given more elements than it chooses."""
        data = movement.inputs[0]
        if isinstance(data, gs.Constant):
            if len(readers_of(data)) == 1:
                return
            raise Unfit(f"something else reads '{data.name}', which would be stored twice")
        if self._was_codes(data, scaling):
            return
        made, had = (elements(self.sizes, of) for of in (movement.outputs, [data]))
        if made is None or had is None or self._may_be_less(movement, made, had):
            raise Unfit("more would be quantized before it than after")

    def _was_codes(self, tensor: gs.Tensor, scaling: Scaling) -> bool:
        """Whether a tensor is what codes of the same scaling stand for."""
        node = source_of(tensor, DEQUANTIZE)
        return node is not None and scaling_of(node, self.sizes).key == scaling.key

    def _may_be_less(self, movement: gs.Node, made: Dim, had: Dim) -> bool:
        """Whether a movement chooses less than there is, as far as sizes tell."""
        if is_natural(minus(made, had)):
            return False
        ids = elements(self.sizes, movement.inputs[1:2])
        counted = isinstance(ids, Size) and ids.symbols <= self._given()
        return movement.op == "Slice" or not counted or surely_fewer(made, had)

    def _given(self) -> set[str]:
        """Symbols that are sizes of inputs of the whole graph."""
        shapes = [self.sizes.shape(tensor) or () for tensor in self.sizes.graph.inputs]
        dims = [dim for shape in shapes for dim in shape if isinstance(dim, Size)]
        return {symbol for dim in dims for symbol in dim.symbols}

    def cross(self, movement: gs.Node) -> list[gs.Node]:
        """Let a movement make the codes, of codes."""
        old = [next(iter(readers_of(tensor)), None) for tensor in movement.outputs]
        like = next(node for node in old if node is not None)
        scaling = scaling_of(like, self.sizes)
        results = [
            self.codes_of(tensor, scaling) if node is None else node.outputs[0]
            for tensor, node in zip(movement.outputs, old, strict=True)
        ]
        data = [movement.inputs[slot] for slot in data_slots(movement)]
        codes = {id(tensor): self.codes_of(tensor, scaling) for tensor in data}
        name = label(movement)
        for node in (node for node in old if node is not None):
            self.drop(node)
        self.put(movement, [codes[id(tensor)] for tensor in data], results, scaling)
        made = []
        for number, tensor in enumerate({id(t): t for t in data}.values()):
            part = f"Quantize{number or ''}"
            made.append(scaling.node(self.op, f"{name}/{part}", tensor, codes[id(tensor)], None))
            self.add(movement, like, made[-1], ahead=True)
        return made
