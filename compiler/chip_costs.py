"""What an op costs on a vector unit: how many operations for each element, and of which kind.

An operation is an addition, a multiplication, a comparison or a conversion ("arithmetic"), or an
exp, erf, root or quotient ("special"). Of ops that need both, a few of the first count as one of
the second, as the chip takes several cycles for that. Ops that are not listed have no unit.
"""

from dataclasses import dataclass
from typing import Literal

from sardonyx.runtime_ops.accelerator.work import Kind

_Of = Literal["output", "input"]


@dataclass(frozen=True)
class Cost:
    """``each``: operations for an element of ``of``: the first output, or the first input."""

    each: int
    kind: Kind
    of: _Of = "output"


def _all(each: int, kind: Kind, ops: str, of: _Of = "output") -> dict[str, Cost]:
    return dict.fromkeys(ops.split(), Cost(each, kind, of))


COSTS: dict[str, Cost] = {
    **_all(
        1,
        "arithmetic",
        "Abs Add And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Equal Floor "
        "Greater GreaterOrEqual IsInf IsNaN LeakyRelu Less LessOrEqual Max Min Mul Neg Not Or "
        "PRelu Relu Round Sign Sub Sum ThresholdedRelu Where Xor",
    ),
    **_all(2, "arithmetic", "Clip HardSigmoid Mean"),
    **_all(1, "special", "Cos Div Elu Erf Exp Log Mod Pow Reciprocal Selu Sigmoid Sin Sqrt Tanh"),
    **_all(2, "special", "Celu Mish Softplus Softsign Swish"),
    **_all(1, "arithmetic", "CumSum ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum", "input"),
    **_all(2, "arithmetic", "ReduceL1 ReduceSumSquare ReduceL2 ArgMax ArgMin", "input"),
    # exp and quotient; maximum, difference and sum as a third
    **_all(3, "special", "LogSoftmax Softmax"),
    # sums of values and squares, difference, two factors, an addend, the root of each row
    **_all(8, "arithmetic", "LayerNormalization"),
    **_all(5, "arithmetic", "RMSNormalization SimplifiedLayerNormalization"),
    # and the addition in front
    **_all(10, "arithmetic", "com.microsoft.SkipLayerNormalization"),
    **_all(6, "arithmetic", "com.microsoft.SkipSimplifiedLayerNormalization"),
    # erf or tanh; two factors, an addend and the product as a second
    **_all(2, "special", "Gelu com.microsoft.FastGelu com.microsoft.Gelu com.microsoft.QuickGelu"),
    **_all(2, "special", "com.microsoft.BiasGelu"),
    # a factor, a zero point, rounding that saturates; a factor and a zero point
    **_all(3, "arithmetic", "QuantizeLinear com.microsoft.QuantizeLinear"),
    **_all(2, "arithmetic", "DequantizeLinear com.microsoft.DequantizeLinear"),
    # and the least and the greatest value
    **_all(5, "arithmetic", "DynamicQuantizeLinear"),
    **_all(0, "lookup", "Gather GatherElements GatherND"),
    **_all(
        0,
        "move",
        "Concat ConstantOfShape DepthToSpace Expand Pad Range ScatterElements ScatterND Slice "
        "SpaceToDepth Split Tile Transpose Trilu",
    ),
}
"""By op; ops of other domains with the domain in front."""

ALIASES = frozenset(("Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"))
"""Ops that change nothing in memory."""

TAKES_FEW = frozenset(("Gather", "GatherElements", "GatherND", "Slice"))
"""Ops that read no more of their first input than they write."""
