"""Slices of one matrix are encoded as the parts that they are: bit for bit what it has whole."""

import numpy as np
import pytest
from onnx import helper

from sardonyx.passes.metadata import PREFIX
from sardonyx.passes.quantize.insert_qdq import InsertQdq
from sardonyx.runtime_ops.uniform import encode

K, N = 24, 10
CUTS = [(0, 3), (3, 20), (20, 24)]
COLUMNS = [(0, 1), (1, 10)]


def spread(normal):
    """Rows and columns of very different sizes."""
    sizes = 2.0 ** np.arange(K, 0, -1)[:, None] * 3.0 ** np.arange(N)
    return (normal(K, N) * sizes).astype(np.float32)


def noted(model, axis):
    """The same, its products saying which part of W they have."""
    for node in model.graph.node:
        if node.op_type == "MatMul":
            note = {"slice_of": "W", "slice": f"{axis} {node.name[1:].replace('to', ':')}"}
            helper.set_model_props(node, {f"{PREFIX}{key}": value for key, value in note.items()})
    return model


@pytest.fixture
def rows(text_model, normal):
    """Products by rows of W, the last first."""
    lines = [f"[s{a}to{b}] y{a} = MatMul (x{a}, W{a})" for a, b in reversed(CUTS)]
    text = " ".join(["x0, x3, x20 = Split <axis = -1> (X, sizes)", *lines, "Y = Sum (y0, y3, y20)"])
    held = {f"W{a}": spread(normal)[a:b] for a, b in CUTS}
    sizes = np.array([b - a for a, b in CUTS])
    return text_model(f"g (float[B,{K}] X) => (float[B,{N}] Y) {{ {text} }}", sizes=sizes, **held)


@pytest.fixture
def columns(text_model, normal):
    """Products by columns of W."""
    lines = [f"[s{a}to{b}] y{a} = MatMul (X, W{a})" for a, b in COLUMNS]
    held = {f"W{a}": np.ascontiguousarray(spread(normal)[:, a:b]) for a, b in COLUMNS}
    text = " ".join([*lines, "Y = Concat <axis = -1> (y0, y1)"])
    return text_model(f"g (float[B,{K}] X) => (float[B,{N}] Y) {{ {text} }}", **held)


DYNAMIC = InsertQdq(activations="dynamic", min_weights=1)


@pytest.mark.parametrize("bits", [4, 7])
def test_rows_share_the_scales_of_columns(apply, rows, normal, bits):
    after = apply(
        InsertQdq(activations="dynamic", weight_bits=bits, min_weights=1), noted(rows, "rows")
    )
    whole, _ = encode(spread(normal), bits)
    codes = [after.constants[f"W{a}.codes"] for a, _ in CUTS]
    np.testing.assert_array_equal(np.concatenate(codes), whole.codes)
    scales = {name: values for name, values in after.constants.items() if name.endswith(".scale")}
    assert list(scales) == ["W0.scale"]  # one for all
    np.testing.assert_array_equal(scales["W0.scale"], whole.scale)
    encoded = after.journal.encoded
    assert sum(entry.bytes_after for entry in encoded) == whole.nbytes
    assert {entry.slice_of for entry in encoded} == {"W"}


def test_columns_have_their_own(apply, columns, normal):
    after = apply(DYNAMIC, noted(columns, "columns"))
    whole, _ = encode(spread(normal), 7)
    for part in ("codes", "scale"):
        held = [after.constants[f"W{a}.{part}"] for a, _ in COLUMNS]
        np.testing.assert_array_equal(np.concatenate(held, -1), getattr(whole, part))


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_one_scale_of_a_matrix_is_that_of_all_slices(apply, request, normal, axis):
    model = noted(request.getfixturevalue(axis), axis)
    after = apply(InsertQdq(activations="dynamic", per="tensor", min_weights=1), model)
    whole, _ = encode(spread(normal), 7, "tensor")
    scales = [values for name, values in after.constants.items() if name.endswith(".scale")]
    assert {float(scale) for scale in scales} == {float(whole.scale)}


def test_what_is_lost_is_told_of_each_slice(apply, rows):
    """The smallest rows lose the most on steps that suit the largest."""
    after = apply(DYNAMIC, noted(rows, "rows"))
    losses = {entry.name: entry.sqnr_db for entry in after.journal.encoded}
    assert losses["W0"] > losses["W3"] > losses["W20"]
    alone = apply(DYNAMIC, rows_alone(rows))
    assert {e.name: e.sqnr_db for e in alone.journal.encoded}["W20"] > losses["W20"]


def rows_alone(model):
    """The same without notes: three matrices."""
    for node in model.graph.node:
        del node.metadata_props[:]
    return model


def test_a_slice_is_small_where_the_whole_is(apply, rows):
    """W0 has 30 weights, W20 40, W 240."""
    model = noted(rows, "rows")
    assert len(apply(InsertQdq(activations="dynamic", min_weights=240), model).journal.encoded) == 3
    after = apply(InsertQdq(activations="dynamic", min_weights=241), model)
    assert set(after.reasons.values()) >= {"small: 240 weights, fewer than 241"}
    assert after.journal.encoded == []
    without = apply(InsertQdq(activations="dynamic", min_weights=41), rows_alone(model))
    assert without.reasons["W20"] == "small: 40 weights, fewer than 41"
    assert [entry.name for entry in without.journal.encoded] == ["W3"]
