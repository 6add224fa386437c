"""fuse-linear-bias: the ops of encoded weights add the bias themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import is_standard
from sardonyx.passes.journal import Fusion, Journal, Miss
from sardonyx.passes.metadata import RESERVED, annotate, inherit
from sardonyx.passes.rewrite import Replacements, replace_nodes, take_outputs
from sardonyx.passes.scopes import scopes
from sardonyx.passes.sizes import Sizes
from sardonyx.passes.weights import values_of
from sardonyx.runtime_ops.ops import DOMAIN

_PRODUCT, _LINEAR = "GoboMatMul", "GoboLinear"


@dataclass(frozen=True)
class FuseLinearBias(Pass):
    """``GoboMatMul(A, ...) + bias``  ->  ``GoboLinear(A, ..., bias)``, the bias on either side.

    A native kernel adds the bias to sums that it still holds; stock onnxruntime runs the same
    MatMul and Add as before, bit for bit. Does not fire where

    1. something else reads the product, or it is an output of its graph,
    2. the bias is not a constant with one element for each column: a vector, or with axes of size 1
       in front where the product is known to have as many axes,
    3. the sum stands in another graph than the product, as in the body of a Loop, which would
       compute the product again and again.
    """

    name: ClassVar[str] = "fuse-linear-bias"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Fuse every one."""
        sizes = journal.sizes(graph)
        replacements: Replacements = {}
        made: list[gs.Node] = []
        for scope in scopes(graph):
            for total, product, bias in _sums(scope):
                try:
                    _check(scope, sizes, product, bias)
                except Unfit as reason:
                    journal.missed.append(Miss(self.name, product.name, str(reason)))
                    continue
                linear = _linear(total, product, bias)
                made.append(linear)
                replacements |= {id(product): [], id(total): [linear]}
        replace_nodes(graph, replacements)
        journal.fused += [Fusion(self.name, linear.name, linear.op, 2) for linear in made]
        return len(made)


def _sums(scope: gs.Graph) -> Iterator[tuple[gs.Node, gs.Node, gs.Constant]]:
    """Every Add of a product and a constant that is not a number: the Add, the op, the constant."""
    for total in list(scope.nodes):
        if total.op != "Add" or not is_standard(total):
            continue
        for value, bias in (total.inputs, total.inputs[::-1]):
            product = value.inputs[0] if value.inputs else None
            if product is None or (product.domain, product.op[:-1]) != (DOMAIN, _PRODUCT):
                continue
            if isinstance(bias, gs.Constant) and bias.shape:
                yield total, product, bias


def _check(scope: gs.Graph, sizes: Sizes, product: gs.Node, bias: gs.Constant) -> None:
    """Raise Unfit, with the reason, where the bias cannot be part of the op."""
    (value,) = product.outputs
    if len(value.outputs) > 1:
        raise Unfit(f"'{value.name}' is read {len(value.outputs)} times")
    if any(value is output for output in scope.outputs):
        raise Unfit(f"'{value.name}' is an output")
    if all(product is not node for node in scope.nodes):
        raise Unfit(f"the bias '{bias.name}' is added in a graph inside the product's")
    columns = product.attrs["shape"][1]
    if list(bias.shape) != [1] * (len(bias.shape) - 1) + [columns]:
        raise Unfit(f"'{bias.name}' {list(bias.shape)} is no vector of {columns} elements")
    shape = sizes.shape(value)
    if len(bias.shape) > (1 if shape is None else len(shape)):
        raise Unfit(f"'{bias.name}' {list(bias.shape)} may have more axes than the product")


def _linear(total: gs.Node, product: gs.Node, bias: gs.Constant) -> gs.Node:
    """The op in the place of a sum, named and noted as the product."""
    dtype, operands = product.outputs[0].dtype, list(product.inputs)
    take_outputs(product)
    (output,) = take_outputs(total)
    output.dtype = dtype if output.dtype is None else output.dtype
    if len(bias.shape) > 1:
        bias = gs.Constant(f"{bias.name}/Vector", np.ravel(values_of(bias)))
    attrs = {key: value for key, value in product.attrs.items() if key not in RESERVED}
    op = product.op.replace(_PRODUCT, _LINEAR)
    linear = gs.Node(op, product.name, attrs, [*operands, bias], [output], domain=DOMAIN)
    inherit(linear, product)
    annotate(linear, bias=bias.name)
    return linear
