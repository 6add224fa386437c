"""GoboLinear: its body in stock onnxruntime and in onnx's evaluator against its meaning."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from sardonyx.runtime_ops.int8_product import int8_product
from sardonyx.runtime_ops.ops import gobo_linear
from sardonyx.runtime_ops.reference import reference_session

OPSETS = [13, 17, 18, 26]


def values(*shape, dtype=np.float32, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def plain(weights, bias, opset):
    """The same session's peer: MatMul and Add by the decoded weights."""
    element = helper.np_dtype_to_tensor_dtype(weights.dtype)
    product, total = (
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["y"]),
    )
    graph = helper.make_graph(
        [product, total],
        "g",
        [helper.make_tensor_value_info("x", element, None)],
        [helper.make_tensor_value_info("y", element, None)],
        [numpy_helper.from_array(np.ascontiguousarray(weights), "w")]
        + [numpy_helper.from_array(bias, "b")],
    )
    ir_version = 13 if opset > 25 else 8
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("rows", "columns", "share"), [(64, 48, None), (33, 50, 0.05), (1, 1, 0)])
def test_body_is_the_meaning(encoded, op_model, run_ort, bits, opset, rows, columns, share):
    tensor, op = encoded(rows, columns, bits, share), gobo_linear(bits)
    x, bias = values(2, 3, rows), values(columns, seed=2)
    model = op_model(op, tensor, x, opset, bias)
    for optimize in (False, True):
        (found,) = run_ort(model, {"x": x}, optimize)
        (peer,) = run_ort(plain(tensor.decode(), bias, opset), {"x": x}, optimize)
        np.testing.assert_array_equal(found, peer, strict=True)
    (by_meaning,) = reference_session(model).run(None, {"x": x})
    np.testing.assert_array_equal(by_meaning, x @ tensor.decode() + bias, strict=True)
    (by_body,) = ReferenceEvaluator(model).run(None, {"x": np.eye(rows, dtype=np.float32)[None]})
    np.testing.assert_array_equal(by_body[0], tensor.decode() + bias, strict=True)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("rows", "columns"), [(64, 32), (70, 20)])
def test_session_folds_the_body_into_what_was_there(
    encoded, op_model, optimized, bits, rows, columns
):
    tensor, bias = encoded(rows, columns, bits, 0.02), values(columns)
    model = op_model(gobo_linear(bits), tensor, values(1, 2, rows), 17, bias)
    assert Counter(node.op_type for node in optimized(model).graph.node) == {"MatMul": 1, "Add": 1}


@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 3), (0, 3)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_batches_and_types(encoded, op_model, run_ort, shape, dtype):
    tensor, bias = encoded(40, 24, 3, 0.02, dtype), values(24, dtype=dtype)
    x = values(*shape, 40, dtype=dtype)
    (found,) = run_ort(op_model(gobo_linear(3), tensor, x, 17, bias), {"x": x}, optimize=True)
    (peer,) = run_ort(plain(tensor.decode(), bias, 17), {"x": x}, optimize=True)
    assert found.shape == (*shape, 24)
    np.testing.assert_array_equal(found, peer, strict=True)


def test_compute(encoded, op_model, run_ort):
    """The bias is added as it is, after a product by integers; the body knows floats only."""
    tensor, x, bias = encoded(64, 48, 4, 0.02), values(3, 64), values(48, seed=2)
    model, exact = (
        op_model(gobo_linear(4), tensor, x, 17, bias, **more) for more in ({"compute": "int8"}, {})
    )
    (by_meaning,) = reference_session(model).run(None, {"x": x})
    np.testing.assert_array_equal(by_meaning, int8_product(x, tensor) + bias, strict=True)
    np.testing.assert_array_equal(*(run_ort(each, {"x": x}) for each in (model, exact)))


def test_bodies_use_standard_ops_only():
    for opset in OPSETS:
        for bits in range(2, 9):
            body = gobo_linear(bits).function(opset, True)
            assert {node.domain for node in body.node} == {""}
            assert body.name == f"GoboLinear{bits}"
            assert list(body.input)[-1] == "bias"
