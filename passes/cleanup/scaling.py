"""What a QuantizeLinear or DequantizeLinear scales by, computed or not, for another like it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import is_standard, operand
from sardonyx.passes.metadata import RESERVED
from sardonyx.passes.quantizers import axis_of, codes_dtype
from sardonyx.passes.sizes import Sizes
from sardonyx.passes.weights import values_of


@dataclass(frozen=True)
class Scaling:
    """Scale and zero point (None: 0) of a node. ``codes``: the type of the integers.

    ``axis``: that of which each place has a scale of its own; None: all have one. ``attrs``: what
    else the node says.
    """

    domain: str | None
    scale: gs.Tensor
    zero_point: gs.Tensor | None
    codes: np.dtype[np.generic]
    axis: int | None
    attrs: dict[str, object]

    @property
    def key(self) -> Hashable:
        """Equal for nodes that map the same codes to the same numbers."""
        zero = None if self.zero_point is None else _content(self.zero_point)
        attrs = tuple(sorted((key, str(value)) for key, value in self.attrs.items()))
        domain = self.domain or ""
        return domain, _content(self.scale), zero, self.codes.name, self.axis, attrs

    @property
    def is_constant(self) -> bool:
        """Whether nothing of it is computed."""
        given = [self.scale] if self.zero_point is None else [self.scale, self.zero_point]
        return all(isinstance(tensor, gs.Constant) for tensor in given)

    def node(self, op: str, name: str, x: gs.Tensor, y: gs.Tensor, axis: int | None) -> gs.Node:
        """A node that scales by this, along another axis of another tensor."""
        operands = [x, self.scale, *([] if self.zero_point is None else [self.zero_point])]
        attrs = self.attrs | ({} if axis is None else {"axis": axis})
        return gs.Node(op, name, attrs, operands, [y], domain=self.domain)


def scaling_of(node: gs.Node, sizes: Sizes) -> Scaling:
    """How a QuantizeLinear or DequantizeLinear scales; raises Unfit."""
    scale, zero = node.inputs[1], operand(node, 2)
    shape = sizes.shape(scale)
    if shape is None or node.attrs.get("block_size", 0):
        raise Unfit(f"'{scale.name}' is not one scale, nor one for each place of an axis")
    single = shape in ((), (1,))
    if not single and not is_standard(node):
        raise Unfit(f"'{scale.name}' is not one scale")
    codes = codes_dtype(node.op, node.attrs, node.inputs[0], zero)
    if codes is None:
        raise Unfit(f"the type of the codes of '{node.name}' is not known")
    axis = None if single else axis_of(node.attrs, node.inputs[0])
    skipped = ("axis", *RESERVED)
    attrs = {key: value for key, value in node.attrs.items() if key not in skipped}
    return Scaling(node.domain, scale, zero, codes, axis, attrs)


def _content(tensor: gs.Tensor) -> Hashable:
    """Equal for tensors that hold the same."""
    if not isinstance(tensor, gs.Constant):
        return id(tensor)
    values = values_of(tensor)
    return values.dtype.name, values.shape, values.tobytes()
