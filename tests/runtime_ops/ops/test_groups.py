"""The bodies for tables of centroids by group of columns, in stock onnxruntime."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from sardonyx.runtime_ops.ops import OPS, gobo_gather, gobo_linear, gobo_matmul
from sardonyx.runtime_ops.reference import reference_session

OPSETS = [13, 17, 18, 26]
CASES = [(64, 48, 3, None), (33, 50, 7, 0.05), (40, 20, 20, 1.0), (64, 16, 2, 0.0), (5, 70, 4, 0.1)]


def eye(tensor):
    return np.eye(tensor.rows, dtype=np.float32)


def check_product(model, tensor, run_ort):
    """By the identity, the product is the weights, whoever runs the body."""
    feeds, decoded = {"x": eye(tensor)}, tensor.decode()
    found = [run_ort(model, feeds, optimize)[0] for optimize in (False, True)]
    found += [ReferenceEvaluator(model).run(None, feeds)[0]]
    found += [reference_session(model).run(None, feeds)[0]]
    for each in found:
        np.testing.assert_array_equal(each, decoded, strict=True)


def check_rows(model, tensor, ids, run_ort):
    feeds, rows = {"x": ids}, tensor.decode().T[ids]
    found = [run_ort(model, feeds, optimize)[0] for optimize in (False, True)]
    found += [ReferenceEvaluator(model).run(None, feeds)[0]]
    for each in found:
        np.testing.assert_array_equal(each, rows, strict=True)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("rows", "columns", "groups", "share"), CASES)
def test_matmul(encoded, op_model, run_ort, bits, opset, rows, columns, groups, share):
    tensor = encoded(rows, columns, bits, share, groups=groups)
    assert tensor.centroids.shape == (groups, 1 << bits)
    check_product(op_model(gobo_matmul(bits), tensor, eye(tensor), opset), tensor, run_ort)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("rows", "columns", "groups", "share"), CASES)
def test_gather(encoded, op_model, run_ort, bits, opset, rows, columns, groups, share):
    tensor = encoded(rows, columns, bits, share, groups=groups)
    ids = np.arange(-columns, columns).reshape(2, columns)
    check_rows(op_model(gobo_gather(bits), tensor, ids, opset), tensor, ids, run_ort)


@settings(max_examples=60)
@given(
    st.integers(1, 40),
    st.integers(1, 60),
    st.sampled_from([2, 3, 5, 8]),
    st.floats(0, 1),
    st.integers(1, 70),
)
def test_any_number_of_groups(encoded, op_model, run_ort, rows, columns, bits, share, groups):
    tensor, ids = encoded(rows, columns, bits, share, groups=groups), np.arange(-columns, columns)
    check_product(op_model(gobo_matmul(bits), tensor, eye(tensor), 17), tensor, run_ort)
    check_rows(op_model(gobo_gather(bits), tensor, ids, 17), tensor, ids, run_ort)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_other_float_types(encoded, op_model, run_ort, dtype, share):
    tensor = encoded(40, 24, 3, share, dtype, groups=5)
    x, ids = np.eye(40, dtype=dtype), np.arange(24)
    (found,) = run_ort(op_model(gobo_matmul(3), tensor, x, 17), {"x": x})
    np.testing.assert_array_equal(found, tensor.decode(), strict=True)
    check_rows(op_model(gobo_gather(3), tensor, ids, 17), tensor, ids, run_ort)


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_linear(encoded, op_model, run_ort, share):
    tensor, bias = encoded(40, 24, 3, share, groups=5), np.arange(24, dtype=np.float32)
    x = eye(tensor)
    for opset in OPSETS:
        model = op_model(gobo_linear(3), tensor, x, opset, bias)
        (found,) = run_ort(model, {"x": x})
        np.testing.assert_array_equal(found, tensor.decode() + bias, strict=True)


@pytest.mark.parametrize("name", [name for name in OPS if name[-1] in "348"])
def test_the_body_for_groups_also_takes_one(encoded, op_model, run_ort, name):
    """A model's ops of one name share a body, whether or not all of them have groups."""
    op = OPS[name]
    tensor = encoded(40, 24, op.bits, 0.05)
    more = [np.zeros(24, np.float32)] if "bias" in op.inputs else []
    lookup = "ids" in op.inputs
    x = np.arange(24) if lookup else eye(tensor)
    model = op_model(op, tensor, x, 17, *more)
    model.functions[0].CopyFrom(op.function(17, True, grouped=True))
    (found,) = run_ort(model, {"x": x})
    np.testing.assert_array_equal(found, tensor.decode().T if lookup else tensor.decode())


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("rows", "columns"), [(64, 32), (70, 20)])
def test_session_folds_the_body_into_one_matmul(
    encoded, op_model, optimized, bits, opset, rows, columns
):
    tensor = encoded(rows, columns, bits, 0.02, groups=6)
    graph = optimized(op_model(gobo_matmul(bits), tensor, eye(tensor), opset)).graph
    assert Counter(node.op_type for node in graph.node) == {"MatMul": 1}
    (weight,) = (t for t in graph.initializer if t.name == graph.node[0].input[1])
    np.testing.assert_array_equal(numpy_helper.to_array(weight), tensor.decode(), strict=True)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_no_session_holds_the_decoded_table(encoded, op_model, optimized, bits):
    width, vocabulary = 256, 4000
    tensor = encoded(width, vocabulary, bits, 0.02, groups=4)
    graph = optimized(op_model(gobo_gather(bits), tensor, np.arange(6), 17)).graph
    floats = [math.prod(t.dims) for t in graph.initializer if t.data_type == TensorProto.FLOAT]
    assert 0 < sum(floats) < width * vocabulary / 4
