"""Ranges of weights: with one scale for a matrix, a few large weights need not set it."""

import math

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from sardonyx.passes.quantize.insert_qdq import InsertQdq
from sardonyx.passes.quantize.weight_range import reach
from sardonyx.runtime_ops.uniform import encode, sqnr_db

MATMUL = "g (float[M,64] X) => (float[M,96] Y) { [product] Y = MatMul (X, W) }"


@pytest.fixture
def heavy(normal):
    """Weights of which some are beyond 10 standard deviations."""
    weights = normal(64, 96)
    weights[::17, ::23] *= 8
    return weights


def test_all_weights(heavy):
    assert reach(heavy, 8, "max") == math.inf


@pytest.mark.parametrize("bits", range(3, 9))
def test_the_best_of_100_shares(heavy, bits):
    largest = np.abs(heavy).max()
    losses = {}
    for share in np.arange(1, 101) / 100:
        tensor, _ = encode(heavy, bits, "tensor", reach=share * largest)
        losses[share] = np.square(heavy - tensor.decode()).sum(dtype=np.float64)
    found = reach(heavy, bits, "mse")
    tensor, loss = encode(heavy, bits, "tensor", reach=found)
    noise = np.square(heavy - tensor.decode()).sum(dtype=np.float64)
    assert noise <= 1.001 * min(losses.values())  # weights lie in the middle of 8192 bins
    assert noise <= losses[1.0]
    assert loss == pytest.approx(sqnr_db(heavy, tensor.decode()))


def test_zeros_and_what_is_no_number():
    assert reach(np.zeros((3, 4), np.float32), 8, "mse") == math.inf
    assert reach(np.full((3, 4), np.nan, np.float32), 8, "mse") == math.inf


@pytest.mark.parametrize("bits", [4, 8])
def test_insert_qdq(done, sqnr, text_model, x, heavy, bits):
    before = text_model(MATMUL, W=heavy)
    losses, dbs = {}, {}
    for way in ("max", "mse"):
        a_pass = InsertQdq(per="tensor", weight_range=way, weight_bits=bits)
        after = done(a_pass, before, {"X": x})
        tensor, loss = encode(heavy, bits, "tensor", reach=reach(heavy, bits, way))
        assert np.array_equal(after.constants["W.codes"], tensor.codes)
        assert after.constants["W.scale"] == tensor.scale
        assert after.encoded["W"].sqnr_db == loss
        losses[way], dbs[way] = loss, sqnr(before, after.model, {"X": x})
    assert losses["mse"] > losses["max"]
    assert dbs["mse"] > dbs["max"] - 0.5  # the rows are few: what clips may meet a large one


def test_tables_too(done, text_model, normal):
    table = normal(200, 64)
    table[3, 3] = 20 * table.std()
    before = text_model("g (int64[N] I) => (float[N,64] Y) { Y = Gather (W, I) }", W=table)
    a_pass = InsertQdq(per="tensor", weight_range="mse", embedding_per="tensor")
    after = done(a_pass, before, {"I": np.arange(5)})
    tensor, _ = encode(table.T, 8, "tensor", reach=reach(table.T, 8, "mse"))
    assert tensor.clips
    assert np.array_equal(after.constants["W.codes"], tensor.codes.T)


def test_a_scale_a_column_needs_none():
    with pytest.raises(ValidationError, match='weight_range = "mse" needs per = "tensor"'):
        TypeAdapter(InsertQdq).validate_python({"weight_range": "mse"})
