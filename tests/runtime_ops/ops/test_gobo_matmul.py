"""GoboMatMul: its body in stock onnxruntime and in onnx's evaluator against its meaning."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from sardonyx.runtime_ops.int8_product import int8_product
from sardonyx.runtime_ops.ops import gobo_matmul
from sardonyx.runtime_ops.reference import reference_session

OPSETS = [13, 17, 18, 26]
CASES = [
    (64, 48, None),
    (96, 32, 0.0),
    (33, 50, 0.05),
    (5, 7, 0.0),
    (40, 20, 1.0),
    (1, 1, 0.0),
    (1, 70, 0.1),
    (70, 1, 0.1),
]


def plain(weights, opset):
    """The same session's peer: one MatMul by the decoded weights."""
    element = helper.np_dtype_to_tensor_dtype(weights.dtype)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", element, None)],
        [helper.make_tensor_value_info("y", element, None)],
        [numpy_helper.from_array(np.ascontiguousarray(weights), "w")],
    )
    ir_version = 13 if opset > 25 else 8
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def activations(*shape, dtype=np.float32):
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("rows", "columns", "share"), CASES)
def test_body_is_the_meaning(encoded, op_model, run_ort, bits, opset, rows, columns, share):
    tensor, op = encoded(rows, columns, bits, share), gobo_matmul(bits)
    decoded, x = tensor.decode(), activations(3, rows)
    model = op_model(op, tensor, x, opset)
    (peer,) = run_ort(plain(decoded, opset), {"x": x}, optimize=True)
    (optimized,) = run_ort(model, {"x": x}, optimize=True)
    np.testing.assert_array_equal(optimized, peer, strict=True)

    arrays = (tensor.indices, tensor.centroids, tensor.positions, tensor.values)
    meaning = op.meaning(x, *arrays, shape=[rows, columns])
    np.testing.assert_array_equal(meaning, np.matmul(x, decoded), strict=True)
    (by_meaning,) = reference_session(model).run(None, {"x": x})
    np.testing.assert_array_equal(by_meaning, meaning, strict=True)
    # Another order of the same float32 sums.
    bound = 1e-6 * (np.abs(x) @ np.abs(decoded))
    assert np.all(np.abs(optimized - meaning) <= bound)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("rows", "columns", "share"), [(33, 50, 0.05), (40, 20, 1.0), (64, 16, 0)])
def test_body_decodes_exactly(encoded, op_model, run_ort, bits, opset, rows, columns, share):
    """By the identity, the product is the weights: in onnx's evaluator, and node by node."""
    tensor, x = encoded(rows, columns, bits, share), np.eye(rows, dtype=np.float32)
    model = op_model(gobo_matmul(bits), tensor, x, opset)
    (by_body,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(by_body, tensor.decode(), strict=True)
    (node_by_node,) = run_ort(model, {"x": x})
    np.testing.assert_array_equal(node_by_node, tensor.decode(), strict=True)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("rows", "columns"), [(64, 32), (70, 20)])
def test_session_folds_the_body_into_one_matmul(
    encoded, op_model, optimized, bits, opset, rows, columns
):
    tensor = encoded(rows, columns, bits, 0.02)
    graph = optimized(op_model(gobo_matmul(bits), tensor, activations(1, rows), opset)).graph
    (node,) = graph.node
    assert (node.domain, node.op_type) == ("", "MatMul")
    (weight,) = (t for t in graph.initializer if t.name == node.input[1])
    np.testing.assert_array_equal(numpy_helper.to_array(weight), tensor.decode(), strict=True)
    assert node.input[0] == "x"


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 2, 3), (0, 3)])
def test_batches(encoded, op_model, run_ort, shape):
    tensor, x = encoded(40, 24, 3, 0.02), activations(*shape, 40)
    model = op_model(gobo_matmul(3), tensor, x, 17)
    (found,) = run_ort(model, {"x": x}, optimize=True)
    (peer,) = run_ort(plain(tensor.decode(), 17), {"x": x}, optimize=True)
    assert found.shape == (*shape, 24)
    np.testing.assert_array_equal(found, peer, strict=True)
    (by_meaning,) = reference_session(model).run(None, {"x": x})
    np.testing.assert_array_equal(by_meaning, np.matmul(x, tensor.decode()), strict=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_other_float_types(encoded, op_model, run_ort, dtype, bits, share):
    tensor = encoded(40, 24, bits, share, dtype)
    x = activations(3, 40, dtype=dtype)
    model = op_model(gobo_matmul(bits), tensor, x, 17)
    (found,) = run_ort(model, {"x": x}, optimize=True)
    (peer,) = run_ort(plain(tensor.decode(), 17), {"x": x}, optimize=True)
    np.testing.assert_array_equal(found, peer, strict=True)
    (by_body,) = ReferenceEvaluator(model).run(None, {"x": np.eye(40, dtype=dtype)})
    np.testing.assert_array_equal(by_body, tensor.decode(), strict=True)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("compute", ["fp32", "int8"])
def test_compute(encoded, op_model, run_ort, opset, compute):
    """An attribute that the body does not know: it multiplies in floating point all the same."""
    tensor, x = encoded(64, 48, 4, 0.02), activations(3, 64)
    model = op_model(gobo_matmul(4), tensor, x, opset, compute=compute)
    for optimize in (True, False):
        found, plain_one = (
            run_ort(each, {"x": x}, optimize)[0]
            for each in (model, op_model(gobo_matmul(4), tensor, x, opset))
        )
        np.testing.assert_array_equal(found, plain_one, strict=True)
    (by_body,) = ReferenceEvaluator(model).run(None, {"x": np.eye(64, dtype=np.float32)})
    np.testing.assert_array_equal(by_body, tensor.decode(), strict=True)
    (by_meaning,) = reference_session(model).run(None, {"x": x})
    meant = int8_product(x, tensor) if compute == "int8" else x @ tensor.decode()
    np.testing.assert_array_equal(by_meaning, meant, strict=True)


def test_outliers_far_apart(encoded, op_model, run_ort):
    """Gaps over 65,535: positions of four bytes."""
    tensor = encoded(2048, 100, 3, 2 / 204_800)
    assert tensor.positions.dtype == np.int32
    x = np.eye(2048, dtype=np.float32)
    (found,) = run_ort(op_model(gobo_matmul(3), tensor, x, 17), {"x": x}, optimize=True)
    np.testing.assert_array_equal(found, tensor.decode(), strict=True)


def test_meaning_wins_over_the_body(encoded, op_model):
    """The reference executor must not trust the function that a file brings along."""
    tensor, x = encoded(32, 16, 3, 0.02), activations(2, 32)
    model = op_model(gobo_matmul(3), tensor, x, 17)
    del model.functions[0].node[:]
    model.functions[0].node.append(helper.make_node("Identity", ["A"], ["Y"]))
    (found,) = reference_session(model).run(None, {"x": x})
    np.testing.assert_array_equal(found, x @ tensor.decode(), strict=True)


def test_bodies_use_standard_ops_only():
    for opset in OPSETS:
        for bits in range(2, 9):
            for padded in (False, True):
                body = gobo_matmul(bits).function(opset, padded)
                assert {node.domain for node in body.node} == {""}
                assert [(o.domain, o.version) for o in body.opset_import] == [("", opset)]
                assert body.name == f"GoboMatMul{bits}"
