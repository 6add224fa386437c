"""The nodes that take the place of a MatMul, Gemm or Gather whose weight was encoded."""

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.metadata import annotate, describe, inherit
from sardonyx.passes.rewrite import Replacements, take_outputs
from sardonyx.passes.tied import TiedWeight
from sardonyx.runtime_ops.gobo import GoboTensor
from sardonyx.runtime_ops.ops import DOMAIN, gobo_gather, gobo_matmul


def lower(weight: TiedWeight, tensor: GoboTensor, notes: dict[str, object]) -> Replacements:
    """Replacements for every node that uses ``weight``; ``notes`` go on each new op."""
    arrays = {
        "indices": tensor.indices,
        "centroids": tensor.centroids,
        "positions": tensor.positions,
        "values": tensor.values,
    }
    inputs = [gs.Constant(f"{weight.name}.{key}", array) for key, array in arrays.items()]
    lowerings = {"MatMul": _lower_matmul, "Gemm": _lower_gemm, "Gather": _lower_gather}
    replacements: Replacements = {}
    for use in weight.uses:
        nodes, op = lowerings[use.node.op](use.node, tensor, inputs)
        inherit(op, use.node)
        annotate(op, replaces=use.node.op, **notes)
        describe(op, _sentence(use.node.op, notes))
        replacements[id(use.node)] = nodes
    return replacements


def _sentence(op: str, notes: dict[str, object]) -> str:
    return (
        "{op} with a {bits}-bit weight, SQNR {sqnr_db} dB\n"
        "{outlier_share} outliers in floating point, {bytes} bytes"
    ).format(op=op, **notes)


def _op(
    name: str, node: gs.Node, tensor: GoboTensor, inputs: list[gs.Tensor], output: gs.Tensor
) -> gs.Node:
    attrs = {"shape": [tensor.rows, tensor.columns]}
    return gs.Node(name, node.name, attrs, inputs, [output], domain=DOMAIN)


def _lower_matmul(
    node: gs.Node, tensor: GoboTensor, inputs: list[gs.Tensor]
) -> tuple[list[gs.Node], gs.Node]:
    a = node.inputs[0]
    (output,) = take_outputs(node)
    op = _op(gobo_matmul(tensor.bits).name, node, tensor, [a, *inputs], output)
    return [op], op


def _lower_gather(
    node: gs.Node, tensor: GoboTensor, inputs: list[gs.Tensor]
) -> tuple[list[gs.Node], gs.Node]:
    ids = node.inputs[1]
    (output,) = take_outputs(node)
    op = _op(gobo_gather(tensor.bits).name, node, tensor, [ids, *inputs], output)
    return [op], op


def _lower_gemm(
    node: gs.Node, tensor: GoboTensor, inputs: list[gs.Tensor]
) -> tuple[list[gs.Node], gs.Node]:
    """``alpha A' W + beta C``, with a node only for what is there."""
    a, bias = node.inputs[0], (node.inputs[2] if len(node.inputs) > 2 else gs.Variable.empty())
    alpha, beta = node.attrs.get("alpha", 1.0), node.attrs.get("beta", 1.0)
    turned = node.attrs.get("transA", 0)
    (output,) = take_outputs(node)
    dtype = tensor.centroids.dtype
    nodes: list[gs.Node] = []

    def then(op: str, part: str, operands: list[gs.Tensor], **attrs: object) -> gs.Variable:
        result = gs.Variable(f"{output.name}/{part}", dtype)
        nodes.append(gs.Node(op, f"{node.name}/{part}", attrs, operands, [result]))
        return result

    def scaled(value: gs.Tensor, factor: float, part: str) -> gs.Tensor:
        if factor == 1.0:
            return value
        constant = gs.Constant(f"{output.name}/{part}/factor", np.array(factor, dtype))
        return then("Mul", part, [value, constant])

    if turned:
        a = then("Transpose", "TransA", [a], perm=[1, 0])
    product = gs.Variable(f"{output.name}/MatMul", dtype)
    op = _op(gobo_matmul(tensor.bits).name, node, tensor, [a, *inputs], product)
    nodes.append(op)
    last = scaled(product, alpha, "Alpha")
    if not bias.is_empty() and beta != 0.0:
        last = then("Add", "Bias", [last, scaled(bias, beta, "Beta")])
    last.inputs[0].outputs[0] = output
    return nodes, op
