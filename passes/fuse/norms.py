"""The formulas of LayerNormalization and of root mean square normalization.

Both name their parts ``x``, ``gamma``, ``beta`` (tensors) and ``epsilon`` (a number).
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from sardonyx.passes.attempt import State
from sardonyx.passes.fuse.needs import need_float32, need_same_rank, need_vector
from sardonyx.passes.match import Inverse, Pattern, Scalar, Value, op
from sardonyx.passes.origin import behind, maker, scalar
from sardonyx.passes.sizes import Sizes

ANCHOR = "ReduceMean"
"""Of the squares: every way to write the formulas holds one."""

REACH = 8
"""Steps from there to the result, with one or two that only pass it on."""


def _other_axis(node: gs.Node) -> str:
    """Why a mean or norm is not over the last axis; empty if it is."""
    axes = node.attrs.get("axes", node.attrs.get("axis", -1 if node.op != ANCHOR else None))
    if len(node.inputs) > 1 and node.op == ANCHOR:
        given = node.inputs[1]
        if not isinstance(given, gs.Constant):
            return f"is over the axes in '{given.name}', which is no constant"
        axes = given.values.reshape(-1).tolist()
    axes = [axes] if isinstance(axes, int) else axes
    rank = len(node.inputs[0].shape or ())
    if axes not in ([-1], [rank - 1]):
        return f"is over the axes {axes or 'all'}, not the last alone"
    return "" if node.attrs.get("keepdims", 1) else "does not keep the axis it is over"


def _mean(pattern: Pattern) -> Pattern:
    return op(ANCHOR, pattern, judge=_other_axis)


def _over_root(pattern: Pattern) -> Pattern:
    """``1 / sqrt(mean(pattern ** 2) + epsilon)``."""
    return Inverse(op("Sqrt", _mean(pattern**2) + Scalar("epsilon")))


_X = Value("x", lambda x: "is constant" if isinstance(x, gs.Constant) else "")
_GAMMA, _BETA = Value("gamma"), Value("beta")
_DEVIATION = op("Sub", _X, _mean(_X))
_SCALE = _over_root(_DEVIATION) * _GAMMA

LAYER_NORM: tuple[Pattern, ...] = (
    _DEVIATION * _SCALE + _BETA,
    _X * _SCALE + op("Sub", _BETA, _mean(_X) * _SCALE),
    _DEVIATION * _SCALE,
)
"""``(x - mean) / sqrt(variance + epsilon) gamma + beta``."""

RMS_NORM: Pattern = _over_root(_X) * _X * _GAMMA
"""``x / sqrt(mean(x ** 2) + epsilon) gamma``."""

LAYER_NORM_OP: Pattern = op("LayerNormalization", _X, _GAMMA, _BETA, judge=_other_axis)
RMS_NORM_OP: Pattern = op(
    "RMSNormalization|SimplifiedLayerNormalization", _X, _GAMMA, judge=_other_axis
)


def is_centred(found: State) -> bool:
    """Whether a mean is taken off: it is a LayerNormalization."""
    means = (node for node in found.nodes if node.op == ANCHOR)
    of_x = any(behind(mean.inputs[0])[0] is found.values["x"] for mean in means)
    return of_x or found.nodes[0].op == "LayerNormalization"


def epsilon_of(found: State) -> float:
    """The number that keeps the root from 0."""
    return float(found.numbers.get("epsilon", found.nodes[0].attrs.get("epsilon", 1e-5)))


def need_usual(sizes: Sizes, found: State) -> None:
    """Raise Unfit unless x is float32, gamma and beta constant vectors as long as its last axis."""
    x = found.values["x"]
    need_float32(found)
    need_vector(sizes, x, "gamma", found.values["gamma"])
    need_vector(sizes, x, "beta", found.values.get("beta"))
    need_same_rank(sizes, x, found)


def squared(mean: gs.Node) -> gs.Tensor | None:
    """What a mean of squares is of; None if it is a mean of something else."""
    node = maker(behind(mean.inputs[0])[0])
    if node is None or node.op not in ("Mul", "Pow"):
        return None
    base, other = (behind(tensor)[0] for tensor in node.inputs)
    is_square = other is base if node.op == "Mul" else scalar(other) == 2
    return base if is_square else None


def is_of_squares(mean: gs.Node) -> bool:
    """Whether a mean is of squares."""
    return squared(mean) is not None
