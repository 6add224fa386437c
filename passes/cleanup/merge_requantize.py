"""merge-requantize: codes that would be rounded to themselves are read as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.journal import Journal
from sardonyx.passes.quantizers import DEQUANTIZE, QUANTIZE, is_op, quantizer_of, source_of
from sardonyx.passes.rewrite import detach, redirect, replace_nodes
from sardonyx.passes.scopes import scopes
from sardonyx.passes.within import Within


@dataclass(frozen=True)
class MergeRequantize(Pass):
    """``QuantizeLinear(DequantizeLinear(q))``  ->  ``q``, both of equal scale, zero point and type.

    The same codes, each and every one (`LinearQuantizer.keeps_codes`). Scales may be one for each
    channel or block, on the same axis. The DequantizeLinear goes too where nothing else needs it.
    Does not fire

    1. where scale, zero point or type differ: `round-once` merges some of these, but not for the
       same codes; where only the type differs, codes would have to be shifted,
    2. where a scale or zero point is computed as the model runs,
    3. in float16 on more than 8 bits, and where the scale is so large that values overflow: codes
       may change,
    4. where the second codes are an output of the graph or read in one inside it, or the
       DequantizeLinear stands in one around it.
    """

    name: ClassVar[str] = "merge-requantize"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Merge in every graph by itself, from the first node to the last: rows go at once."""
        gone: list[gs.Node] = []
        merged = 0
        for scope in scopes(graph):
            within = Within.of(scope)
            for node in scope.nodes:
                source = _same_before(node)
                if source and id(source) in within.nodes and within.owns(node.outputs[0]):
                    redirect(node.outputs[0], source.inputs[0])
                    gone += _detached(node, source, within)
                    merged += 1
        replace_nodes(graph, {id(node): [] for node in gone})
        return merged


def _same_before(node: gs.Node) -> gs.Node | None:
    """The DequantizeLinear of the codes that a QuantizeLinear makes again."""
    source = source_of(node.inputs[0], DEQUANTIZE) if is_op(node, QUANTIZE) else None
    if source is None:
        return None
    first, second = quantizer_of(source), quantizer_of(node)
    same = first and second and first.equals(second) and first.linear.keeps_codes
    return source if same else None


def _detached(node: gs.Node, source: gs.Node, within: Within) -> list[gs.Node]:
    """A QuantizeLinear that nothing reads any more, and what it read, if nothing else does."""
    detach(node)
    (floats,) = source.outputs
    if floats.outputs or not within.owns(floats):
        return [node]
    detach(source)
    return [node, source]
