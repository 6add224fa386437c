"""The operands of a quantized product: what stands behind a DequantizeLinear."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import operand
from sardonyx.passes.origin import maker, named
from sardonyx.passes.weights import values_of


@dataclass(frozen=True)
class Activation:
    """``scale (q - zero_point)``, one scale for all: constants, or what DynamicQuantizeLinear made.

    ``zero_point``: None stands for 0.
    """

    q: gs.Tensor
    scale: gs.Tensor
    zero_point: gs.Tensor | None

    @property
    def dtype(self) -> np.dtype[np.generic] | None:
        """That of q; None: not known."""
        dtype = self.q.dtype if self.zero_point is None else self.zero_point.dtype
        return None if dtype is None else np.dtype(dtype)


@dataclass(frozen=True)
class Weight:
    """A matrix W [K, N] as ``scale (codes - zero_point)``.

    ``codes``: int8 or uint8, the tensor to read. ``constant``: it, or what it is the transpose of.
    ``turned``: W is the transpose of ``codes``. ``scale``: of W, or of each column; ``zero_point``
    also, None where it is 0.
    """

    codes: gs.Tensor
    constant: gs.Constant
    turned: bool
    scale: gs.Constant
    zero_point: gs.Constant | None

    @property
    def columns(self) -> int:
        """N."""
        transposed = self.turned != (self.codes is not self.constant)
        return int(self.constant.shape[0 if transposed else 1])


def activation_of(tensor: gs.Tensor) -> Activation:
    """What a DequantizeLinear made; raises Unfit, with the reason, where its form is another."""
    node = maker(tensor)
    if node is None or node.op != "DequantizeLinear":
        raise Unfit(f"{named(tensor)} is no DequantizeLinear")
    scale, zero = node.inputs[1], operand(node, 2)
    for given in (t for t in (scale, zero) if t is not None):
        if not isinstance(given, gs.Constant) or math.prod(given.shape) != 1:
            raise Unfit(f"'{given.name}' is not one number for the whole activation")
    _need_float32(scale)
    return Activation(node.inputs[0], scale, zero)


def weight_of(tensor: gs.Tensor) -> Weight:
    """W behind a DequantizeLinear of constant codes, a Transpose before or behind it; raises Unfit.

    Also takes the constant codes themselves, with scale 1, as MatMulInteger reads them.
    """
    tensor, turned = _untransposed(tensor)
    node = maker(tensor)
    if node is None or node.op != "DequantizeLinear":
        raise Unfit(f"{named(tensor)} is no DequantizeLinear of constant codes")
    if node.attrs.get("block_size", 0):
        raise Unfit(f"'{node.name}' has a scale for each block")
    codes, axis = node.inputs[0], node.attrs.get("axis", 1)
    constant, columns = codes_of(codes), 0 if turned else 1
    weight = Weight(codes, constant, turned, node.inputs[1], operand(node, 2))
    if math.prod(weight.scale.shape or ()) != 1 and axis % 2 != columns:
        raise Unfit(f"'{weight.scale.name}' has a scale for each row")
    return checked(weight)


def codes_of(tensor: gs.Tensor) -> gs.Constant:
    """The constant matrix of 8 bits that a tensor is, or is the transpose of; raises Unfit."""
    constant, _ = _untransposed(tensor)
    if not isinstance(constant, gs.Constant) or len(constant.shape) != 2:
        made = constant.inputs[0].op if constant.inputs else "an input"
        raise Unfit(f"its second operand comes from {made}, and is no constant matrix")
    if constant.dtype not in (np.int8, np.uint8):
        raise Unfit(f"'{constant.name}' is {np.dtype(constant.dtype).name}: not of 8 bits")
    return constant


def checked(weight: Weight) -> Weight:
    """A weight whose scale and zero point are constants, one or one a column; a zero point of 0
    left out, an equal one a single number. Raises Unfit."""
    for given in (t for t in (weight.scale, weight.zero_point) if t is not None):
        if not isinstance(given, gs.Constant):
            raise Unfit(f"'{given.name}' is no constant")
        if math.prod(given.shape) != 1 and list(given.shape) != [weight.columns]:
            raise Unfit(f"'{given.name}' {list(given.shape)} is not one number for each column")
    _need_float32(weight.scale)
    zero = _shortest(weight.zero_point)
    return Weight(weight.codes, weight.constant, weight.turned, weight.scale, zero)


def _shortest(zero: gs.Constant | None) -> gs.Constant | None:
    """A zero point for each column costs time, and so does one of 0."""
    if zero is None or not np.any(values_of(zero)):
        return None
    first, *others = np.unique(values_of(zero))
    return zero if others else gs.Constant(f"{zero.name}/One", np.array(first))


def _untransposed(tensor: gs.Tensor) -> tuple[gs.Tensor, bool]:
    node = maker(tensor)
    if node is None or node.op != "Transpose" or list(node.attrs.get("perm", (1, 0))) != [1, 0]:
        return tensor, False
    return node.inputs[0], True


def _need_float32(scale: gs.Tensor) -> None:
    if scale.dtype != np.float32:
        raise Unfit(f"'{scale.name}' is not float32")
