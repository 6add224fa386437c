"""The custom ops, by name."""

from sardonyx.runtime_ops.ops.custom_op import DOMAIN, INPUTS, VERSION, CustomOp
from sardonyx.runtime_ops.ops.gobo_gather import gobo_gather
from sardonyx.runtime_ops.ops.gobo_matmul import Compute, gobo_linear, gobo_matmul
from sardonyx.runtime_ops.packing import LAYOUTS

OPS: dict[str, CustomOp] = {
    op.name: op for make in (gobo_matmul, gobo_linear, gobo_gather) for op in map(make, LAYOUTS)
}

__all__ = [
    "DOMAIN",
    "INPUTS",
    "OPS",
    "VERSION",
    "Compute",
    "CustomOp",
    "gobo_gather",
    "gobo_linear",
    "gobo_matmul",
]
