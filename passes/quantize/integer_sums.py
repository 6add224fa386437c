"""Products of codes in standard ops: integers that are added up, cast to float and scaled."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.origin import maker, named
from sardonyx.passes.within import Within


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
    def at(cls, node: gs.Node, within: Within) -> IntegerSums:
        """The formula at a MatMulInteger; raises Unfit, with the reason, where it has another."""
        cast = within.only_reader(node.outputs[0], "Cast")
        total = None if cast is None else within.only_reader(cast.outputs[0], "Mul")
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
