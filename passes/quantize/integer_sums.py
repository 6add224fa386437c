"""Products of codes in standard ops: integers that are added up, cast to float and scaled."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx
import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import is_standard
from sardonyx.passes.origin import maker, named


@dataclass(frozen=True)
class Readers:
    """Who reads tensors of a graph. ``nodes``, ``outputs``: of the graph, by ``id``."""

    nodes: Collection[int]
    outputs: Collection[int]

    @classmethod
    def of(cls, scope: gs.Graph) -> Readers:
        """Those of a graph as it stands."""
        return cls(set(map(id, scope.nodes)), set(map(id, scope.outputs)))

    def only(self, tensor: gs.Tensor, *ops: str) -> gs.Node | None:
        """The one reader of a tensor, if it is one of some standard ops in the same graph."""
        if len(tensor.outputs) != 1 or id(tensor) in self.outputs:
            return None
        node = tensor.outputs[0]
        known = node.op in ops and is_standard(node) and id(node) in self.nodes
        return node if known else None


@dataclass(frozen=True)
class IntegerSums:
    """``Cast(MatMulInteger(a, b)) * scale``, the scale a product of both operands' own.

    ``nodes``: MatMulInteger, Cast to float32, Mul, which makes the result. ``factors``: of the
    scale, in the order of its Mul.
    """

    nodes: tuple[gs.Node, gs.Node, gs.Node]
    scale: gs.Tensor
    factors: tuple[gs.Tensor, gs.Tensor]

    @classmethod
    def at(cls, node: gs.Node, readers: Readers) -> IntegerSums:
        """The formula at a MatMulInteger; raises Unfit, with the reason, where it has another."""
        cast = readers.only(node.outputs[0], "Cast")
        total = None if cast is None else readers.only(cast.outputs[0], "Mul")
        if cast is None or total is None or cast.attrs["to"] != onnx.TensorProto.FLOAT:
            raise Unfit("its sums are not cast to float32 and scaled at once")
        (scale,) = (t for t in total.inputs if t is not cast.outputs[0])
        product = maker(scale)
        if product is None or product.op != "Mul":
            raise Unfit(f"{named(scale)} is not the product of both scales")
        first, second = product.inputs
        return cls((node, cast, total), scale, (first, second))

    def beside(self, factor: gs.Tensor) -> gs.Tensor:
        """The other factor of the scale; raises Unfit where ``factor`` is none of them."""
        first, second = self.factors
        if first is not factor and second is not factor:
            raise Unfit(f"{named(self.scale)} is not the product of both scales")
        return second if first is factor else first
