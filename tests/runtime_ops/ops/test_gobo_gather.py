"""GoboGather: its body in stock onnxruntime and in onnx's evaluator against its meaning."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from sardonyx.runtime_ops.ops import gobo_gather
from sardonyx.runtime_ops.reference import reference_session

OPSETS = [13, 17, 18, 26]
CASES = [(64, 48, None), (33, 50, 0.05), (5, 7, 0.0), (40, 20, 1.0)]
TINY_CASES = [(1, 1, 0.0), (1, 1, 1.0), (1, 70, 0.1), (70, 1, 0.1)]


def some_ids(vocabulary, *shape):
    return np.random.default_rng(2).integers(-vocabulary, vocabulary, shape)


def check(model, tensor, ids, run_ort):
    """Every executor gives the rows of the decoded table, bit for bit."""
    expected = tensor.decode().T[ids]
    feeds = {"x": ids}
    for optimize in (True, False):
        (found,) = run_ort(model, feeds, optimize=optimize)
        np.testing.assert_array_equal(found, expected, strict=True)
    for session in (reference_session(model), ReferenceEvaluator(model)):
        (found,) = session.run(None, feeds)
        np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("width", "vocabulary", "share"), CASES)
def test_body_is_the_meaning(encoded, op_model, run_ort, bits, opset, width, vocabulary, share):
    tensor, op = encoded(width, vocabulary, bits, share), gobo_gather(bits)
    ids = some_ids(vocabulary, 3, 4)
    check(op_model(op, tensor, ids, opset), tensor, ids, run_ort)


@pytest.mark.parametrize("bits", range(2, 6))
@pytest.mark.parametrize(("width", "vocabulary", "share"), TINY_CASES)
def test_one_row_or_one_column(encoded, op_model, run_ort, bits, width, vocabulary, share):
    tensor, ids = encoded(width, vocabulary, bits, share), some_ids(vocabulary, 3, 4)
    check(op_model(gobo_gather(bits), tensor, ids, 17), tensor, ids, run_ort)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 30),
    st.sampled_from([2, 3, 5]),
    st.floats(0, 1),
    st.integers(0, 5),
)
def test_outliers_of_every_row_are_found(encoded, op_model, run_ort, width, rows, bits, share, n):
    """Rows with none, one, many outliers, first and last rows among them; ids that repeat."""
    tensor = encoded(width, rows, bits, share)
    ids = np.concatenate([np.arange(-rows, rows), np.full(n, rows - 1)])
    check(op_model(gobo_gather(bits), tensor, ids, 17), tensor, ids, run_ort)


SHAPES = [(), (4,), (2, 3), (2, 1, 3), (0,), (0, 3)]


@pytest.mark.parametrize("integer", [np.int32, np.int64])
@pytest.mark.parametrize(
    ("opset", "shape"),
    # Before opset 14 a Reshape cannot say that an axis other than the first is empty.
    [(13, shape) for shape in SHAPES]
    + [(17, shape) for shape in [*SHAPES, (2, 0)]]
    + [(26, (2, 0))],
)
def test_ids_of_any_shape(encoded, op_model, run_ort, integer, opset, shape):
    for bits, share in [(2, 0.0), (3, 0.05), (8, 1.0)]:
        tensor = encoded(33, 20, bits, share)
        ids = np.asarray(some_ids(20, *shape), integer)
        check(op_model(gobo_gather(bits), tensor, ids, opset), tensor, ids, run_ort)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("bits", [2, 4, 7])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_other_float_types(encoded, op_model, run_ort, dtype, bits, share):
    tensor, ids = encoded(40, 24, bits, share, dtype), some_ids(24, 7)
    check(op_model(gobo_gather(bits), tensor, ids, 17), tensor, ids, run_ort)


@pytest.mark.parametrize("wrong", [20, -21])
def test_ids_out_of_range(encoded, op_model, run_ort, wrong):
    tensor, ids = encoded(33, 20, 3, 0.05), np.array([0, wrong])
    model = op_model(gobo_gather(3), tensor, ids, 17)
    with pytest.raises(Exception, match="out of data bounds"):
        run_ort(model, {"x": ids}, optimize=True)
    with pytest.raises(IndexError):
        reference_session(model).run(None, {"x": ids})


@pytest.mark.parametrize(
    ("bits", "opset"), [(bits, 17) for bits in range(2, 9)] + [(4, opset) for opset in (13, 18, 26)]
)
def test_no_session_holds_the_decoded_table(encoded, op_model, optimized, bits, opset):
    """Whatever a session computes beforehand, it is not a table of floats."""
    width, vocabulary = 64, 1000
    tensor = encoded(width, vocabulary, bits, 0.02)
    model = op_model(gobo_gather(bits), tensor, some_ids(vocabulary, 2, 3), opset)
    floats = [
        math.prod(t.dims)
        for t in optimized(model).graph.initializer
        if t.data_type == TensorProto.FLOAT
    ]
    assert 0 < sum(floats) < width * vocabulary


def test_outliers_far_apart(encoded, op_model, run_ort):
    """Gaps over 65,535: positions of four bytes."""
    tensor = encoded(64, 8000, 3, 2 / 512_000)
    assert tensor.positions.dtype == np.int32
    ids = np.arange(8000)
    check(op_model(gobo_gather(3), tensor, ids, 17), tensor, ids, run_ort)


def test_meaning_wins_over_the_body(encoded, op_model):
    """The reference executor must not trust the function that a file brings along."""
    tensor, ids = encoded(32, 16, 3, 0.02), np.array([3, 5])
    model = op_model(gobo_gather(3), tensor, ids, 17)
    del model.functions[0].node[:]
    model.functions[0].node.append(helper.make_node("Identity", ["ids"], ["Y"]))
    (found,) = reference_session(model).run(None, {"x": ids})
    np.testing.assert_array_equal(found, tensor.decode().T[ids], strict=True)


def test_bodies_use_standard_ops_only():
    for opset in OPSETS:
        for bits in range(2, 9):
            body = gobo_gather(bits).function(opset, True)
            assert {node.domain for node in body.node} == {""}
            assert [(o.domain, o.version) for o in body.opset_import] == [("", opset)]
            assert body.name == f"GoboGather{bits}"
