"""merge-requantize: codes that would be rounded to themselves are read as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.journal import Journal
from sardonyx.passes.quantizers import DEQUANTIZE, QUANTIZE, is_op, quantizer_of, source_of
from sardonyx.passes.rewrite import (
    Replacements,
    detach,
    redirect,
    replace_nodes,
    successor,
)
from sardonyx.passes.scopes import scopes
from sardonyx.passes.within import Within


@dataclass(frozen=True)
class MergeRequantize(Pass):
    """``QuantizeLinear(DequantizeLinear(q))``  ->  ``q``, both of equal scale, zero point and type.

    The same codes, each and every one (`LinearQuantizer.keeps_codes`). Scales may be one for each
    channel or block, on the same axis. The DequantizeLinear goes too where nothing else needs it.
    Codes that are an output of the graph or read in one inside it become ``Identity(q)``. Does not
    fire

    1. where scale, zero point or type differ: `round-once` merges some of these, but not for the
       same codes; where only the type differs, codes would have to be shifted,
    2. where a scale or zero point is computed as the model runs,
    3. in float16 on more than 8 bits, and where the scale is so large that values overflow: codes
       may change,
    4. where the DequantizeLinear stands in a graph around that of the QuantizeLinear.
    """

    name: ClassVar[str] = "merge-requantize"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Merge in every graph by itself, from the first node to the last: rows go at once."""
        replacements: Replacements = {}
        merged = 0
        for scope in scopes(graph):
            within = Within.of(scope)
            for node in scope.nodes:
                source = _same_before(node)
                if source and id(source) in within.nodes:
                    replacements |= _merged(node, source, within)
                    merged += 1
        replace_nodes(graph, replacements)
        return merged


def _same_before(node: gs.Node) -> gs.Node | None:
    """The DequantizeLinear of the codes that a QuantizeLinear makes again."""
    source = source_of(node.inputs[0], DEQUANTIZE) if is_op(node, QUANTIZE) else None
    if source is None:
        return None
    first, second = quantizer_of(source), quantizer_of(node)
    same = first and second and first.equals(second) and first.linear.keeps_codes
    return source if same else None


def _merged(node: gs.Node, source: gs.Node, within: Within) -> Replacements:
    """What takes the place of a QuantizeLinear, and of the ``source`` that it read if nothing else
    reads that."""
    (codes, *_), (output,), (floats,) = source.inputs, node.outputs, source.outputs
    replacements: Replacements = {id(node): []}
    if within.owns(output):
        redirect(output, codes)
        detach(node)
    else:
        replacements[id(node)] = [successor(node, "Identity", [codes], {}, MergeRequantize.name)]
    if not floats.outputs and within.owns(floats):
        detach(source)
        replacements[id(source)] = []
    return replacements
