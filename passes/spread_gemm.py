"""Gemm around a product of another kind: what else it computes becomes nodes of their own."""

from collections.abc import Callable

import onnx_graphsurgeon as gs
from numpy.typing import DTypeLike

from sardonyx.passes.fused import operand
from sardonyx.passes.rewrite import Draft, take_outputs

MakeProduct = Callable[[gs.Tensor, gs.Variable], gs.Node]
"""From the left operand and the output, the node that multiplies by the weight."""


def spread_gemm(
    node: gs.Node, dtype: DTypeLike, make_product: MakeProduct
) -> tuple[list[gs.Node], gs.Node]:
    """``alpha A' W + beta C``, with a node only for what is there: all of them, and the product."""
    a, bias = node.inputs[0], operand(node, 2)
    alpha, beta = node.attrs.get("alpha", 1.0), node.attrs.get("beta", 1.0)
    turned = node.attrs.get("transA", 0)
    (output,) = take_outputs(node)
    draft = Draft(node.name or output.name, dtype)

    def scaled(value: gs.Tensor, factor: float, part: str) -> gs.Tensor:
        if factor == 1.0:
            return value
        constant = draft.constant(f"{part}/factor", factor, draft.dtype)
        return draft.add("Mul", part, [value, constant])

    if turned:
        a = draft.add("Transpose", "TransA", [a], perm=[1, 0])
    product = gs.Variable(f"{draft.name}/MatMul:0", draft.dtype)
    op = make_product(a, product)
    draft.nodes.append(op)
    last = scaled(product, alpha, "Alpha")
    if bias is not None and beta != 0.0:
        last = draft.add("Add", "Bias", [last, scaled(bias, beta, "Beta")])
    last.inputs[0].outputs[0] = output
    return draft.nodes, op
