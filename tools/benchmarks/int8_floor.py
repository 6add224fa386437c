"""What no file with the same kernels can be faster than: its products by weights, and no other op.

Each product reads codes that are there from the start, as many rows as there are tokens.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper

PRODUCT = "MatMulIntegerToFloat"


def products_alone(compiled: Path, output: Path) -> None:
    """Write the products of a file that target cpu made; what they read is made of the ids."""
    model = onnx.load(compiled)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [helper.make_node("Cast", ["input_ids"], ["codes"], to=onnx.TensorProto.UINT8)]
    nodes.append(helper.make_node("Unsqueeze", ["codes", "last"], ["column"]))
    held = {"last": helper.make_tensor("last", onnx.TensorProto.INT64, [1], [-1])}
    results, widths = [], set()
    for product in (node for node in model.graph.node if node.op_type == PRODUCT):
        width = constants[product.input[1]].dims[0]
        if width not in widths:
            shape = helper.make_tensor(f"to {width}", onnx.TensorProto.INT64, [1], [width])
            held[shape.name] = shape
            nodes.append(helper.make_node("Expand", ["column", shape.name], [f"codes {width}"]))
            widths.add(width)
        product.input[0] = f"codes {width}"
        held |= {name: constants[name] for name in product.input if name in constants}
        nodes.append(product)
        results.append(helper.make_empty_tensor_value_info(product.output[0]))
    inputs = [info for info in model.graph.input if info.name == "input_ids"]
    graph = helper.make_graph(nodes, "products", inputs, results, list(held.values()))
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.save(alone, output)
