"""The grid that the values of an activation lie on already."""

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.cleanup.movements import data_slots, is_movement, pads_with_constant
from sardonyx.passes.quantizers import DEQUANTIZE, is_op, quantizer_of
from sardonyx.runtime_ops.uniform import Grid


def kept_grid(x: gs.Tensor) -> Grid | None:
    """The one grid of an activation that a DequantizeLinear makes, perhaps moved since; None: its
    values are of several grids, or of none that is known."""
    node = x.inputs[0] if x.inputs else None
    while node is not None and is_movement(node) and _moves_one(node):
        source = node.inputs[0]
        node = source.inputs[0] if source.inputs else None
    if node is None or not is_op(node, DEQUANTIZE):
        return None
    quantizer = quantizer_of(node)
    if quantizer is None or quantizer.layout or quantizer.linear.scale.dtype != np.float32:
        return None
    linear = quantizer.linear
    bits = (linear.high - linear.low).bit_length()
    return Grid(np.float32(linear.scale), int(linear.zero_point), linear.low < 0, bits)


def _moves_one(node: gs.Node) -> bool:
    return len(data_slots(node)) == 1 and not pads_with_constant(node)
