"""round-once: what is rounded twice, to grids nearly alike, is rounded to the second alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.journal import Journal, Miss
from sardonyx.passes.quantizers import (
    DEQUANTIZE,
    QUANTIZE,
    Quantizer,
    is_op,
    quantizer_of,
    source_of,
)
from sardonyx.passes.rewrite import Replacements, release, replace_nodes, reread
from sardonyx.passes.scopes import scopes
from sardonyx.passes.within import Within
from sardonyx.runtime_ops.linear_quantizer import LinearQuantizer

_MOST_STEPS = 1.5
"""Of the second grid, that a step of the first may be long."""


@dataclass(frozen=True)
class RoundOnce(Pass):
    """``QuantizeLinear_2(DequantizeLinear_1(QuantizeLinear_1(x)))``  ->  ``QuantizeLinear_2(x)``.

    Codes change by one at most, and are those of x itself: the first rounding moved x by half a
    step of its own, ``d = s1 / (2 s2) <= 0.75`` steps of the second; two numbers so far apart round
    to integers less than ``d + 1 < 2`` apart. Where the first saturated, so does the second: the
    values of its end codes have the second's end codes. Scales are one for the whole tensor. Does
    not fire

    1. where both are equal: `merge-requantize` does that without any change,
    2. where a step of the first is longer than 1.5 of the second: it is the grid that counts,
    3. where the first saturates at values that the second tells apart,
    4. where something else reads what the first makes, or it is an output of the graph, or in
       another graph than the second,
    5. where a scale or zero point is computed, or not float32.
    """

    name: ClassVar[str] = "round-once"
    settles: ClassVar[bool] = True
    rounds_less: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Merge from the first node to the last, in every graph by itself."""
        gone: Replacements = {}
        merged = 0
        for scope in scopes(graph):
            within = Within.of(scope)
            for node in scope.nodes:
                rounding = _rounded_before(node, within)
                if rounding is None:
                    continue
                reason = _why_not(*map(quantizer_of, (*rounding, node)))
                if reason:
                    journal.missed.append(Miss(self.name, node.name, reason))
                    continue
                reread(node, 0, rounding[0].inputs[0])
                for each in reversed(rounding):
                    release(each)
                    gone[id(each)] = []
                merged += 1
        replace_nodes(graph, gone)
        return merged
