"""The nodes that take the place of a MatMul, Gemm or Gather whose weight was encoded."""

import onnx_graphsurgeon as gs

from sardonyx.passes.metadata import annotate, describe, inherit
from sardonyx.passes.rewrite import Replacements, take_outputs
from sardonyx.passes.spread_gemm import spread_gemm
from sardonyx.passes.tied import TiedWeight
from sardonyx.runtime_ops.gobo import GoboTensor
from sardonyx.runtime_ops.ops import DOMAIN, gobo_gather, gobo_matmul


def lower(
    weight: TiedWeight, tensor: GoboTensor, notes: dict[str, object], compute: str
) -> Replacements:
    """Replacements for every node that uses ``weight``; ``notes`` go on each new op, and
    ``compute`` on each product that it makes differ."""
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
        if compute == "int8" and use.node.op != "Gather":
            op.attrs["compute"] = compute
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
    def product(a: gs.Tensor, output: gs.Variable) -> gs.Node:
        return _op(gobo_matmul(tensor.bits).name, node, tensor, [a, *inputs], output)

    return spread_gemm(node, tensor.centroids.dtype, product)
