"""lower-dynamic-linear: onnxruntime's product of 8 bits rounds its activation itself."""

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.fused import MICROSOFT
from sardonyx.passes.journal import Fusion, Journal
from sardonyx.passes.lower.integer_linear import INTEGER_LINEAR
from sardonyx.passes.metadata import PROPS, inherit
from sardonyx.passes.origin import maker
from sardonyx.passes.rewrite import Replacements, release, replace_nodes, take_outputs
from sardonyx.passes.scopes import scopes
from sardonyx.passes.within import Within

_REASON = "dynamic range of one product: found, rounded and multiplied in one op"


@dataclass(frozen=True)
class LowerDynamicLinear(Pass):
    """``MatMulIntegerToFloat(DynamicQuantizeLinear(x), codes, scales, ...)``  ->
    ``DynamicQuantizeMatMul(x, codes, scales, ...)``.

    Does not fire where

    1. something else reads what the DynamicQuantizeLinear makes: several products share it,
    2. the product stands in another graph, as in the body of a Loop, which would round again and
       again.
    """

    name: ClassVar[str] = "lower-dynamic-linear"

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Lower every one."""
        replacements: Replacements = {}
        made: list[gs.Node] = []
        for scope in scopes(graph):
            within = Within.of(scope)
            for node in scope.nodes:
                source = _source(node)
                if source is None or id(source) not in within.nodes:
                    continue
                if any(len(t.outputs) > 1 or id(t) in within.outputs for t in source.outputs):
                    continue
                dynamic = _dynamic(node, source)
                made.append(dynamic)
                replacements |= {id(source): [], id(node): [dynamic]}
        replace_nodes(graph, replacements)
        journal.fused += [Fusion(self.name, node.name, node.op, 2, _REASON) for node in made]
        return len(made)


def _source(node: gs.Node) -> gs.Node | None:
    """The DynamicQuantizeLinear whose codes, scale and zero point a product reads."""
    if (node.domain, node.op) != (MICROSOFT, INTEGER_LINEAR) or len(node.inputs) < 5:
        return None
    source = maker(node.inputs[0])
    if source is None or source.op != "DynamicQuantizeLinear":
        return None
    read = [node.inputs[slot] for slot in (0, 2, 4)]
    made = zip(read, source.outputs, strict=True)
    return source if all(tensor is output for tensor, output in made) else None


def _dynamic(node: gs.Node, source: gs.Node) -> gs.Node:
    """The op in the place of both, named and noted as the product."""
    operands = [source.inputs[0], node.inputs[1], node.inputs[3], *node.inputs[5:]]
    outputs = take_outputs(node)
    notes = source.attrs.get(PROPS, {}) | node.attrs.get(PROPS, {})
    release(source)
    dynamic = gs.Node("DynamicQuantizeMatMul", node.name, {}, operands, outputs, domain=MICROSOFT)
    inherit(dynamic, node)
    dynamic.attrs[PROPS] = notes
    return dynamic
