"""lower-integer-linear: quantized products become onnxruntime's product of 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import MICROSOFT
from sardonyx.passes.journal import Fusion, Journal
from sardonyx.passes.lower.lacking import Lacking
from sardonyx.passes.lower.quantized_operands import Activation
from sardonyx.passes.lower.quantized_products import Product, candidates, product_at
from sardonyx.passes.lower.unsigned import Unsigned, need_rounding
from sardonyx.passes.metadata import DOC, PREFIX, PROPS, annotate
from sardonyx.passes.origin import label
from sardonyx.passes.rewrite import Replacements, release, replace_nodes, take_outputs
from sardonyx.passes.scopes import all_outputs, scopes
from sardonyx.passes.weights import values_of
from sardonyx.passes.within import Within
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.pair_sums import LARGEST_EXACT, may_saturate

INTEGER_LINEAR = "MatMulIntegerToFloat"

_QUANTIZER = "insert-qdq"
"""The pass that makes what this one lowers."""

_STATIC = "static range: rounding by a constant scale is cheaper than finding the range at run time"
_DYNAMIC = "dynamic range: found once for all products of the activation"


@dataclass(frozen=True)
class LowerIntegerLinear(Pass):
    """``MatMul(DequantizeLinear(q), DequantizeLinear(codes)) + bias``  ->
    ``MatMulIntegerToFloat(q, codes, scales, zero point, bias)``.

    Also ``Cast(MatMulInteger(q, codes, z)) * (s * scale) + bias`` behind a DynamicQuantizeLinear. A
    bias that is integers through a DequantizeLinear becomes the floats it stands for. A signed
    activation becomes unsigned, by 128 more: the same values, and ten times as fast by signed
    weights. The QuantizeLinear becomes onnxruntime's own, which all its versions have, so that the
    graph can still move to a newer operator set. ``vnni``: whether the target has VNNI. Does not
    fire where

    1. the second operand is no constant matrix of 8 bits, with one scale or one for each column,
    2. the activation has more than one scale, not of float32, or more than 8 bits,
    3. a signed activation does not come straight from a QuantizeLinear,
    4. there is no VNNI, and sums of two products by signed weights beyond 7 bits would saturate.

    The sum stays outside where something else reads the product, or where what is added is no
    vector. Raises InputError in cases 2 to 4 where this compile made the integers: its recipe asks
    for what the target lacks. A source model's are left as they are.
    """

    vnni: bool = False

    name: ClassVar[str] = "lower-integer-linear"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-5
    """Integers are added exactly; the sums of floats before are rounded at each of K terms."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Lower every one."""
        unsigned, replacements = Unsigned(), Replacements()
        left: list[gs.Node] = []
        made: list[gs.Node] = []
        found = [product for scope in scopes(graph) for product in self._products(scope, journal)]
        for product in found:
            operands = unsigned.of(product.activation)
            left += [t.inputs[0] for node in product.nodes for t in node.inputs if t.inputs]
            nodes = _linear(product, operands)
            replacements |= {id(old): [] for old in product.nodes}
            replacements[id(product.nodes[-1])] = nodes
            made.append(nodes[-1])
        replacements |= {id(old): [new, old] for old, new in unsigned.made.values()}
        replace_nodes(graph, replacements)
        unsigned.take_readers()
        _sweep(graph, [*left, *(old for old, _ in unsigned.made.values())])
        journal.fused += map(self._entry, made, found)
        return len(found)

    def _entry(self, made: gs.Node, product: Product) -> Fusion:
        reason = _DYNAMIC if product.dynamic else _STATIC
        return Fusion(self.name, made.name, made.op, len(product.nodes), reason)

    def _products(self, scope: gs.Graph, journal: Journal) -> Iterator[Product]:
        """Those of a graph that can be lowered; the others are noted."""
        within = Within.of(scope)
        for node in candidates(scope):
            try:
                product = product_at(node, within)
                need_rounding(product.activation)
                self._need_exact_sums(product)
            except Unfit as reason:
                if isinstance(reason, Lacking) and _is_ours(node, journal):
                    text = f"{node.op} '{label(node)}': {reason}; {reason.advice}"
                    raise InputError(text) from reason
                journal.miss(self.name, node, reason)
            else:
                yield product

    def _need_exact_sums(self, product: Product) -> None:
        """Raise Lacking where the target's instructions would cut sums of two products."""
        constant = product.weight.constant
        if not self.vnni and may_saturate(values_of(constant)):
            raise Lacking(
                f"the weight '{constant.name}' has codes beyond +-{LARGEST_EXACT}, whose sums "
                "saturate on a processor without VNNI",
                "set insert-qdq.weight_bits=7, or compile for the target cpu-vnni",
            )


def _is_ours(node: gs.Node, journal: Journal) -> bool:
    """Whether this compile's own recipe made a product's integers."""
    makers = [t.inputs[0] for t in node.inputs if t.inputs]
    notes = [made.attrs.get(PROPS, {}).get(f"{PREFIX}pass") for made in (node, *makers)]
    encoded = any(entry.format.kind == "uniform" for entry in journal.encoded)
    return encoded and _QUANTIZER in notes


def _linear(product: Product, activation: Activation) -> list[gs.Node]:
    """The op in the place of a product, named and noted as it was; before it, a Transpose of codes
    that lie turned: onnxruntime does that once, when it loads them."""
    first, weight = product.nodes[0], product.weight
    nodes = []
    codes = weight.codes
    if weight.turned:
        turned = gs.Variable(f"{product.name}/Codes", weight.constant.dtype)
        nodes = [gs.Node("Transpose", turned.name, {"perm": [1, 0]}, [codes], [turned])]
        codes = turned
    empty = gs.Variable.empty()
    optional = [activation.zero_point, weight.zero_point, product.bias]
    operands = [activation.q, codes, activation.scale, weight.scale]
    operands += [empty if t is None else t for t in optional]
    while operands[-1] is empty:
        operands.pop()
    notes = first.attrs
    for node in product.nodes[:-1]:
        release(node)
    (output,) = take_outputs(product.nodes[-1])
    output.dtype = np.dtype(np.float32)
    linear = gs.Node(INTEGER_LINEAR, product.name, {}, operands, [output], domain=MICROSOFT)
    linear.attrs.update({key: notes[key] for key in (PROPS, DOC) if key in notes})
    if f"{PREFIX}pass" not in linear.attrs.get(PROPS, {}):
        annotate(linear, **{"pass": LowerIntegerLinear.name})
    return [*nodes, linear]


def _sweep(graph: gs.Graph, nodes: list[gs.Node]) -> None:
    """Remove nodes that nothing reads any more, and with them what only they read."""
    outputs = all_outputs(graph)
    gone: Replacements = {}
    while nodes:
        node = nodes.pop()
        if id(node) in gone or any(t.outputs or id(t) in outputs for t in node.outputs):
            continue
        nodes += [t.inputs[0] for t in node.inputs if t.inputs]
        release(node)
        gone[id(node)] = []
    replace_nodes(graph, gone)
