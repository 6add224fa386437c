"""merge-requantize: codes that are rounded again to what they are stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.journal import Journal
from sardonyx.passes.quantizers import DEQUANTIZE, QUANTIZE, is_op, quantizer_of, source_of
from sardonyx.passes.rewrite import Replacements, release, replace_nodes, reread
from sardonyx.passes.scopes import scopes


@dataclass(frozen=True)
class MergeRequantize(Pass):
    """``QuantizeLinear(DequantizeLinear(q))``  ->  ``q``, both of equal scale, zero point and type.

    The same codes, each and every one (`LinearQuantizer.keeps_codes`). Scales may be one for each
    channel or block, on the same axis. The DequantizeLinear goes too where nothing else reads it.
    Does not fire

    1. where scale, zero point or type differ: `round-once` merges what it can of these, at the
       price of other codes; with only the type another, codes would have to be shifted,
    2. where a scale or zero point is computed as the model runs,
    3. in float16 on more than 8 bits, and where the scale is so large that values overflow: codes
       may change,
    4. where the second codes are an output of the graph, or a graph inside this one reads them.
    """

    name: ClassVar[str] = "merge-requantize"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Merge in every graph by itself, from the first node to the last: rows go at once."""
        merged: Replacements = {}
        rewrites = 0
        for scope in scopes(graph):
            outputs, here = set(map(id, scope.outputs)), set(map(id, scope.nodes))
            for node in scope.nodes:
                source = _requantized(node)
                codes = node.outputs[0] if source else None
                if source is None or codes is None or id(codes) in outputs:
                    continue
                if any(id(reader) not in here for reader in codes.outputs):
                    continue
                _redirect(codes, source.inputs[0])
                release(node)
                merged[id(node)] = []
                rewrites += 1
                if id(source) in here and not source.outputs[0].outputs and id(source.outputs[0]) not in outputs:
                    release(source)
                    merged[id(source)] = []
        replace_nodes(graph, merged)
        return rewrites
