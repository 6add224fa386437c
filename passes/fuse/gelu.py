"""fuse-gelu: the formulas of Gelu become onnxruntime's ops."""

import math
from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fuse.formula import Formula, fuse
from sardonyx.passes.fused import MICROSOFT
from sardonyx.passes.journal import Journal
from sardonyx.passes.match import State, Value, op
from sardonyx.passes.rewrite import Draft

_X = Value("x")
_GELU = _X * (1 + op("Erf", _X / math.sqrt(2))) * 0.5


@dataclass(frozen=True)
class FuseGelu(Pass):
    """``x (1 + erf(x / sqrt 2)) / 2``  ->  ``Gelu(x)``."""

    name: ClassVar[str] = "fuse-gelu"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-5

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Fuse every one."""
        formula = Formula(self.name, ("Erf",), (_GELU,), 4, _build)
        return fuse(graph, formula, journal)


def _build(draft: Draft, found: State) -> gs.Node:
    draft.add("Gelu", "Gelu", [found.values["x"]], domain=MICROSOFT)
    return draft.nodes[-1]
