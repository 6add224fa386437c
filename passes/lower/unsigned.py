"""Activations as onnxruntime's products want them: unsigned, rounded by its own QuantizeLinear."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import MICROSOFT, operand
from sardonyx.passes.lower.lacking import Lacking
from sardonyx.passes.lower.quantized_operands import Activation
from sardonyx.passes.metadata import inherit
from sardonyx.passes.origin import maker
from sardonyx.passes.quantizers import unsigned
from sardonyx.passes.rewrite import reread


@dataclass
class Unsigned:
    """New QuantizeLinears. ``made``: by ``id`` of an old one, the old and the new. ``zeros``: by
    ``id`` of a signed zero point, the unsigned."""

    made: dict[int, tuple[gs.Node, gs.Node]] = field(default_factory=dict)
    zeros: dict[int, gs.Constant] = field(default_factory=dict)

    def of(self, activation: Activation) -> Activation:
        """The same values in unsigned codes, of an activation that `need_rounding` lets pass."""
        source = maker(activation.q)
        if source is None or source.op != "QuantizeLinear":
            return activation
        if id(source) not in self.made:
            self.made[id(source)] = source, self._rounded(source)
        _, node = self.made[id(source)]
        return Activation(node.outputs[0], activation.scale, self._zero(activation.zero_point))

    def _rounded(self, source: gs.Node) -> gs.Node:
        """onnxruntime's QuantizeLinear in the place of the standard's."""
        x, scale, zero = source.inputs[0], source.inputs[1], self._zero(operand(source, 2))
        if zero is None:
            zero = gs.Constant(f"{source.name}/Zero", np.array(0, np.uint8))
        (q,) = source.outputs
        output = gs.Variable(f"{q.name}/Unsigned", np.uint8, q.shape)
        node = gs.Node(
            "QuantizeLinear", source.name, {}, [x, scale, zero], [output], domain=MICROSOFT
        )
        inherit(node, source)
        return node

    def _zero(self, zero: gs.Tensor | None) -> gs.Tensor | None:
        """A zero point for unsigned codes."""
        if not isinstance(zero, gs.Constant) or zero.dtype != np.int8:
            return zero
        if id(zero) not in self.zeros:
            self.zeros[id(zero)] = unsigned(zero)
        return self.zeros[id(zero)]

    def take_readers(self) -> None:
        """Let each DequantizeLinear of an old one read the new: nothing is rounded twice."""
        for old, new in self.made.values():
            for reader in [r for r in old.outputs[0].outputs if _dequantizes(r)]:
                reread(reader, 0, new.outputs[0])
                reread(reader, 2, self._zero(reader.inputs[2]))


def _dequantizes(node: gs.Node) -> bool:
    """Whether a node is a DequantizeLinear with a zero point that is known."""
    zero = operand(node, 2)
    known = isinstance(zero, gs.Constant) and math.prod(zero.shape) == 1
    return bool(node.op == "DequantizeLinear" and known)


def need_rounding(activation: Activation) -> None:
    """Raise Unfit unless an activation is of 8 bits, and unsigned or made so by `Unsigned`."""
    q, dtype, source = activation.q, activation.dtype, maker(activation.q)
    if dtype not in (np.int8, np.uint8):
        kind = "of an unknown type" if dtype is None else np.dtype(dtype).name
        reason = f"the activation '{q.name}' is {kind}, and products take 8 bits"
        raise Lacking(reason, "compile for the target portable")
    if source is None or source.op != "QuantizeLinear":
        if dtype == np.int8:
            reason = f"the activation '{q.name}' is signed, and not straight from a QuantizeLinear"
            raise Lacking(reason, "set insert-qdq.signed=false")
        return
    for given in (t for t in (source.inputs[1], operand(source, 2)) if t is not None):
        if not isinstance(given, gs.Constant) or math.prod(given.shape) != 1:
            raise Unfit(f"'{source.name}' rounds by '{given.name}', which is not one number")
    if source.inputs[1].dtype != np.float32:
        raise Unfit(f"'{source.inputs[1].name}' is not float32")
