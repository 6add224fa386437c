"""round-once: what is rounded twice, to grids nearly alike, is rounded to the second alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.journal import Journal
from sardonyx.passes.quantizers import DEQUANTIZE, QUANTIZE, is_op, quantizer_of, source_of
from sardonyx.passes.rewrite import detach, replace_nodes, reread
from sardonyx.passes.scopes import scopes
from sardonyx.passes.within import Within

_MOST_STEPS = 1.5
"""Of the second grid, that a step of the first may be long."""


@dataclass(frozen=True)
class RoundOnce(Pass):
    """``QuantizeLinear2(DequantizeLinear1(QuantizeLinear1(x)))``  ->  ``QuantizeLinear2(x)``.

    Codes change by one at most, and become those of x itself: the first rounding moved x by half a
    step of its own, ``d = s1 / (2 s2) <= 0.75`` steps of the second, and numbers d apart round to
    integers at most ``d + 1 < 2`` apart. Where the first saturates, the second
    does: it has its end codes for the values of the first's. Does not fire

    1. where a step of the first is longer than 1.5 of the second: it is the grid that counts,
    2. where the first saturates at values that the second tells apart,
    3. where something else needs what the first makes, or the second stands in another graph,
    4. where a scale or zero point is computed, or not one float32 number for the whole tensor.
    """

    name: ClassVar[str] = "round-once"
    settles: ClassVar[bool] = True
    rounds_less: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Merge from the first node to the last, in every graph by itself."""
        gone: list[gs.Node] = []
        for scope in scopes(graph):
            within = Within.of(scope)
            for node in scope.nodes:
                first = _rounded_before(node, within)
                reason = _unlike(*first, node) if first else ""
                if reason:
                    journal.miss(self.name, node, reason)
                if first and not reason:
                    reread(node, 0, first[0].inputs[0])
                    for each in first:
                        detach(each)
                    gone += first
        replace_nodes(graph, {id(node): [] for node in gone})
        return len(gone) // 2


def _rounded_before(node: gs.Node, within: Within) -> tuple[gs.Node, gs.Node] | None:
    """The QuantizeLinear and the DequantizeLinear whose values only this QuantizeLinear reads."""
    dequantizer = source_of(node.inputs[0], DEQUANTIZE) if is_op(node, QUANTIZE) else None
    quantizer = source_of(dequantizer.inputs[0], QUANTIZE) if dequantizer else None
    if quantizer is None or dequantizer is None:
        return None
    pair = quantizer, dequantizer
    alone = all(len(n.outputs[0].outputs) == 1 and within.owns(n.outputs[0]) for n in pair)
    return pair if alone and all(id(n) in within.nodes for n in pair) else None


def _unlike(quantizer: gs.Node, dequantizer: gs.Node, second: gs.Node) -> str:
    """Why rounding to two grids is not nearly rounding to the second; empty if it is."""
    found = [quantizer_of(node) for node in (quantizer, dequantizer, second)]
    one, back, two = (q.linear if q and q.layout is None else None for q in found)
    if one is None or back is None or two is None or one.scale.dtype != np.float32:
        return "a scale or zero point is not one float32 number"
    if not one.equals(back) or two.scale.dtype != np.float32:
        return "codes are not dequantized by the scale that made them"
    if one.scale > _MOST_STEPS * two.scale:
        return f"a step of the first, {one.scale}, is long beside {two.scale}"
    ends = [int(two.codes(float(one.values(code)))) for code in (one.low, one.high)]
    if ends != [two.low, two.high]:
        return "the first saturates at values that the second tells apart"
    return ""
