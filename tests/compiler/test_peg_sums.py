"""A model in groups of channels: the INT32 sums of its products are equal in onnxruntime and in the
reference executor, bit for bit."""

import numpy as np
import onnx
import pytest
from onnx import helper

from sardonyx.compiler import compile
from sardonyx.runtime_ops.reference import reference_session

GROUPS = 3
PRODUCTS = 2 * (4 + 2 * GROUPS + 2)
"""Of two layers: projections, both products of the network in groups, scores and contexts."""


@pytest.fixture(scope="module")
def compiled(bert, bert_feeds):
    """The small BERT; weights of 7 bits, whose sums no processor saturates."""
    return compile(bert, "peg", [bert_feeds], overrides=[f"peg.k={GROUPS}"]).model


def factors(model):
    """Codes and zero points of both factors of each product of dequantized ones, by its output."""
    made = {name: node for node in model.graph.node for name in node.output}
    for product in (node for node in model.graph.node if node.op_type == "MatMul"):
        pair = [made[name] for name in product.input]
        assert [node.op_type for node in pair] == ["DequantizeLinear"] * 2
        codes, zero_points = [node.input[0] for node in pair], [(*n.input, "")[2] for n in pair]
        yield product.output[0], codes + zero_points


@pytest.fixture(scope="module")
def operands(compiled, run_ort, bert_feeds):
    """What each product multiplies as onnxruntime runs the model: codes, zero points."""
    held = {t.name: onnx.numpy_helper.to_array(t) for t in compiled.graph.initializer}
    products = dict(factors(compiled))
    names = {name for read in products.values() for name in read} - held.keys() - {""}
    tapped = onnx.ModelProto.FromString(compiled.SerializeToString())
    del tapped.graph.output[:]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    held |= dict(zip(names, run_ort(tapped, bert_feeds), strict=True))
    return {made: [held.get(name) for name in read] for made, read in products.items()}


def test_sums_are_equal(operands, run_ort):
    assert len(operands) == PRODUCTS
    for a, b, a_zero, b_zero in operands.values():
        feeds = {"a": a, "b": b, "a_zero": a_zero} | ({} if b_zero is None else {"b_zero": b_zero})
        node = helper.make_node("MatMulInteger", list(feeds), ["y"])
        inputs = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape
            )
            for name, values in feeds.items()
        ]
        output = helper.make_tensor_value_info("y", onnx.TensorProto.INT32, None)
        graph = helper.make_graph([node], "sums", inputs, [output])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        (stock,) = run_ort(model, feeds)
        (ours,) = reference_session(model).run(None, feeds)
        exact = (a.astype(np.int64) - a_zero) @ (b.astype(np.int64) - (b_zero or 0))
        assert stock.dtype == ours.dtype == np.int32
        np.testing.assert_array_equal(stock, ours)
        np.testing.assert_array_equal(stock, exact)
        assert np.any(stock)
