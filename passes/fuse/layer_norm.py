"""fuse-layer-norm: normalizations written out become the standard ops."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.attempt import State
from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fuse.formula import Formula, fuse
from sardonyx.passes.fuse.norms import (
    ANCHOR,
    LAYER_NORM,
    REACH,
    RMS_NORM,
    epsilon_of,
    is_centred,
    is_of_squares,
    need_usual,
)
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.journal import Journal
from sardonyx.passes.rewrite import Draft
from sardonyx.passes.sizes import Sizes

_SINCE = {"LayerNormalization": 17, "RMSNormalization": 23}
"""The opsets in which the ops appeared."""


@dataclass(frozen=True)
class FuseLayerNorm(Pass):
    """``(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) gamma + beta``  ->
    ``LayerNormalization(x, gamma, beta)``; without beta too.

    Also ``x / sqrt(mean(x^2) + epsilon) gamma  ->  RMSNormalization(x, gamma)``. The deviation from
    the mean may be computed once or twice, or ``beta - mean scale`` be added to ``x scale``. Does
    not fire

    1. where the means are over other axes than the last, or do not keep it,
    2. where epsilon is no constant, or gamma or beta no constant vector as long as the last axis,
    3. where something else reads a value inside it,
    4. on other types than float32: the ops compute in float32 whatever the type,
    5. below opset 17, in which LayerNormalization appeared, or 23 for RMSNormalization.
    """

    name: ClassVar[str] = "fuse-layer-norm"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-5
    """The kernels add up in another order."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Fuse every one."""
        build = partial(_build, journal.sizes(graph), graph.opset)
        patterns = (*LAYER_NORM, RMS_NORM)
        formula = Formula(self.name, (ANCHOR,), patterns, REACH, build, meant=is_of_squares)
        return fuse(graph, formula, journal)


def _build(sizes: Sizes, opset: int | None, draft: Draft, found: State) -> gs.Node:
    op = "LayerNormalization" if is_centred(found) else "RMSNormalization"
    need_usual(sizes, found)
    if opset is None or opset < _SINCE[op]:
        raise Unfit(f"{op} exists from opset {_SINCE[op]} on, and the model has {opset}")
    operands = [found.values[name] for name in ("x", "gamma", "beta") if name in found.values]
    draft.add(op, op, operands, axis=-1, epsilon=epsilon_of(found))
    return draft.nodes[-1]
