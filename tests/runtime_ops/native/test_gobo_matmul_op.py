"""The native GoboMatMul and GoboLinear against their meaning in numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sardonyx.runtime_ops.packing import LAYOUTS

BITS = range(2, 9)
LARGEST = 63  # of a 7-bit centroid
RUN = 96  # rows of a part whose products are summed at once


def whole(*shape, seed=1):
    """Numbers whose products add up exactly in any order."""
    return np.random.default_rng(seed).integers(-64, 65, shape).astype(np.float32)


def normal(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def equal(found, expected):
    np.testing.assert_array_equal(found, expected.astype(np.float32), strict=True)


@settings(max_examples=150)
@given(
    bits=st.sampled_from(BITS),
    rows=st.integers(1, 140),
    columns=st.integers(1, 70),
    batch=st.lists(st.integers(0, 9), max_size=3),
    share=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    part=st.floats(0, 1),
    gap_type=st.sampled_from([np.uint16, np.int32]),
    seed=st.integers(0, 99),
)
def test_any_shape(run_op, random_matrix, bits, rows, columns, batch, share, part, gap_type, seed):
    groups = 1 + int(part * (columns - 1))
    w = random_matrix(
        bits, rows, columns, groups=groups, outliers=share, gap_type=gap_type, seed=seed
    )
    a, bias = whole(*batch, rows, seed=seed), whole(columns, seed=seed)
    equal(run_op("GoboMatMul", a, w), np.matmul(a, w.weights))
    equal(run_op("GoboLinear", a, w, bias), np.matmul(a, w.weights) + bias)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("m", [1, 2, 3, 5, 7, 8, 17])
def test_sizes_of_layers(run_op, random_matrix, bits, m):
    w, a = random_matrix(bits, 384, 192), whole(m, 384)
    equal(run_op("GoboMatMul", a, w), a @ w.weights)


def add_product(sums, a, weights, k):
    """sums + a[:, k] weights[k], rounded once.

    80-bit floats hold the exact product and 16 bits more of the sum than float32 and float64 do.
    """
    product = a[:, k, None].astype(np.longdouble) * weights[k].astype(np.longdouble)
    return (sums + product).astype(np.float32)


def pieces(rows, members):
    """The rows of each piece: K in equal parts, these in runs; run by run, then part by part."""
    height = -(-rows // 32) * 32 // members
    for run in range(0, height, RUN):
        for part in range(members):
            first = part * height + run
            yield range(first, min(first + min(RUN, height - run), rows))


def fused_sum(a, weights, members):
    """The stated order: in each piece products are added one by one to 0, then the pieces' sums."""
    total = np.zeros((len(a), weights.shape[1]), np.float32)
    for piece in pieces(len(weights), members):
        sums = np.zeros_like(total)
        for k in piece:
            sums = add_product(sums, a, weights, k)
        total += sums
    return total


def outliers_last(a, w, members):
    """The stated order of one row: outliers apart, their products added one by one to 0."""
    plain, outliers = np.where(w.is_outlier, 0, w.weights), np.where(w.is_outlier, w.weights, 0)
    sums = np.zeros((1, w.weights.shape[1]), np.float32)
    for piece in pieces(len(plain), members):
        for k in piece:
            sums = add_product(sums, a, outliers, k)
    return fused_sum(a, plain, members) + sums


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("m", [1, 3, 8, 13])
@pytest.mark.parametrize("rows", [64, 100, 500])
def test_order_of_the_sum(run_op, random_matrix, bits, m, rows):
    w, members = random_matrix(bits, rows, 150, whole=False), LAYOUTS[bits].members
    a, bias = normal(m, rows), normal(150)
    apart = m == 1 and bits <= 4
    expected = outliers_last(a, w, members) if apart else fused_sum(a, w.weights, members)
    equal(run_op("GoboMatMul", a, w), expected)
    equal(run_op("GoboLinear", a, w, bias), expected + bias)


def uneven(rows, columns):
    """Outliers in one whole column, one whole row, and nowhere else."""
    mask = np.zeros((rows, columns), np.bool_)
    mask[:, columns // 2] = mask[rows // 3] = True
    return mask


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("compute", ["fp32", "int8"])
def test_uneven_outliers(run_op, random_matrix, int8_meaning, bits, compute):
    w = random_matrix(bits, 100, 50, outliers=uneven(100, 50))
    a = whole(6, 100)
    a[:, 0], a[:, 1] = 64, -64
    found = run_op("GoboMatMul", a, w, compute=compute)
    expected = a @ w.weights if compute == "fp32" else int8_meaning(a, w)
    # the sum of a column of outliers is 4,096 * 100 at most, in float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=0 if compute == "fp32" else 0.5)


@pytest.mark.parametrize("compute", ["fp32", "int8"])
def test_threads_change_nothing(run_op, random_matrix, compute):
    w, a = random_matrix(3, 256, 512, whole=False), normal(9, 256)
    results = [run_op("GoboMatMul", a, w, threads=n, compute=compute) for n in (1, 4)]
    np.testing.assert_array_equal(*results)


@settings(max_examples=100)
@given(
    bits=st.sampled_from(BITS),
    rows=st.integers(1, 140),
    columns=st.integers(1, 70),
    m=st.integers(1, 9),
    part=st.floats(0, 1),
    shift=st.sampled_from([0.0, 3.0, -3.0]),
    seed=st.integers(0, 99),
)
def test_int8(run_op, random_matrix, int8_meaning, bits, rows, columns, m, part, shift, seed):
    groups = 1 + int(part * (columns - 1))
    w = random_matrix(bits, rows, columns, groups=groups, outliers=0.0, whole=False, seed=seed)
    a, bias = normal(m, rows, seed=seed) + np.float32(shift), normal(columns)
    equal(run_op("GoboMatMul", a, w, compute="int8"), int8_meaning(a, w))
    equal(run_op("GoboLinear", a, w, bias, compute="int8"), int8_meaning(a, w, bias))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("m", [1, 4, 33, 200, 600])
@pytest.mark.parametrize("share", [0.002, 0.05, 1.0])
def test_int8_with_outliers(run_op, random_matrix, int8_meaning, bits, m, share):
    """The sum of outliers is in float32, in an order of the kernel's own."""
    w, a = random_matrix(bits, 400, 50, whole=False, outliers=share), normal(m, 400)
    expected = int8_meaning(a, w)
    found = run_op("GoboMatMul", a, w, compute="int8")
    size = np.abs(a).max(1, keepdims=True) * np.abs(w.weights).sum(0)
    assert np.max(np.abs(found - expected) / size) < 4e-6


@pytest.mark.parametrize("bits", BITS)
def test_int8_of_a_row_among_others(run_op, random_matrix, bits):
    w, a = random_matrix(bits, 400, 70, whole=False), normal(20, 400)
    together = run_op("GoboMatMul", a, w, compute="int8")
    equal(run_op("GoboMatMul", a[7:8], w, compute="int8"), together[7:8])


def test_int8_of_odd_rows(run_op, random_matrix, int8_meaning):
    w = random_matrix(3, 64, 20, whole=False, outliers=0.0)
    a = normal(6, 64)
    a[0] = 0
    a[1, 5] = np.nan
    a[2, 5] = np.inf
    a[3, 5], a[3, 6] = 3e38, -3e38  # their distance is no float32
    a[4] *= np.float32(1e-42)
    found = run_op("GoboMatMul", a, w, compute="int8")
    assert np.all(found[0] == 0)
    assert np.all(np.isnan(found[1:4]))
    equal(found[4:], int8_meaning(a[4:], w))


@pytest.mark.parametrize("table", [np.zeros(8), np.full(8, 1e-45), np.full(8, 1.2e-43)])
def test_int8_of_tiny_centroids(run_op, random_matrix, table):
    w = random_matrix(3, 64, 20, outliers=0.0)
    w.arrays["centroids"][:] = table.astype(np.float32)
    found = run_op("GoboMatMul", whole(2, 64), w, compute="int8")
    assert np.all(np.abs(found) < 1e-36)


def test_a_bias_that_is_no_constant(op_model, native_session, random_matrix):
    w, a, bias = random_matrix(3, 40, 20), whole(2, 40), whole(20)
    model = op_model("GoboLinear3", w.arrays | {"bias": bias}, shape=[40, 20])
    given_bias = model.graph.initializer.pop()
    info = model.graph.input.add(name=given_bias.name)
    info.type.tensor_type.elem_type = given_bias.data_type
    found = native_session(model).run(None, {"x": a, "bias": bias})[0]
    equal(found, a @ w.weights + bias)


def test_weights_of_the_graph_around(op_model, native_session, random_matrix):
    w, a = random_matrix(3, 40, 20), whole(2, 40)
    model = op_model("GoboMatMul3", w.arrays, shape=[40, 20])
    branch = helper.make_graph(model.graph.node, "branch", [], model.graph.output)
    choose = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    del model.graph.node[:]
    model.graph.node.append(choose)
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    found = native_session(model).run(None, {"x": a, "c": np.array(True)})[0]
    equal(found, a @ w.weights)
