"""insert-qdq with act_act: products of two activations."""

import numpy as np
import pytest

from sardonyx.passes.quantize.insert_qdq import InsertQdq

PASS = InsertQdq(act_act=True)

ATTENTION = """g (float[B,S,64] X) => (float[B,S,64] Y) {
  Q = MatMul (X, q)
  K = MatMul (X, k)
  T = Transpose <perm = [0, 2, 1]> (K)
  [scores] A = MatMul (Q, T)
  P = Softmax <axis = -1> (A)
  [context] Y = MatMul (P, X)
}"""


@pytest.fixture(scope="module")
def attention(text_model, normal):
    return text_model(ATTENTION, q=normal(64, 64), k=normal(64, 64, seed=1))


@pytest.fixture(scope="module")
def feeds(x):
    return {"X": np.stack([x, x[::-1]])}


def test_attention(done, sqnr, attention, feeds, census):
    after = done(PASS, attention, feeds)
    assert after.rewrites == 4
    counts = census(after.model)
    assert counts["QuantizeLinear"] == 4  # X once, for three products
    assert [line for line in after.wiring if "= MatMul" in line] == [
        "Q = MatMul (X/Dequantize:0, Q/Weight:0)",
        "K = MatMul (X/Dequantize:0, K/Weight:0)",
        "A = MatMul (Q/Dequantize:0, T/Dequantize:0)",
        "Y = MatMul (P/Dequantize:0, X/Dequantize:0)",
    ]
    assert {name: one.node for name, one in after.activations.items()} == {
        "X": "",
        "Q": "scores",
        "T": "scores",
        "P": "context",
    }
    assert sqnr(attention, after.model, feeds) > 25


def test_only_if_asked(done, attention, feeds):
    assert done(InsertQdq(), attention, feeds).rewrites == 2


def test_one_activation_by_itself(done, sqnr, text_model, normal, census):
    before = text_model("g (float[8,8] X) => (float[8,8] Y) { Y = MatMul (X, X) }")
    feeds = {"X": normal(8, 8)}
    after = done(PASS, before, feeds)
    assert census(after.model) == {"QuantizeLinear": 1, "DequantizeLinear": 1, "MatMul": 1}
    assert sqnr(before, after.model, feeds) > 25


def test_one_that_a_user_may_override_is_an_activation(done, text_model, normal, x):
    text = "g (float[M,64] X, float[64,9] W) => (float[M,9] Y) { Y = MatMul (X, W) }"
    after = done(PASS, text_model(text, W=normal(64, 9)), {"X": x})
    assert (after.rewrites, set(after.activations)) == (1, {"X", "W"})


@pytest.mark.parametrize(
    ("operand", "text"),
    [
        ("Relu", "its activation 'H' is sparse: "),
        ("Floor", "its activation 'H' is sparse: "),
    ],
)
def test_near_miss_sparse(done, text_model, x, operand, text):
    before = text_model(
        f"g (float[7,64] X) => (float[7,7] Y) {{ H = {operand} (X)\n T = Transpose (X)\n"
        "[product] Y = MatMul (H, T) }"
    )
    after = done(PASS, before, {"X": x})
    assert after.rewrites == 0
    ((by, node, reason),) = [(m.by, m.node, m.reason) for m in after.journal.missed]
    assert (by, node) == ("insert-qdq", "product")
    assert reason.startswith(text)


def test_near_miss_ruined(done, text_model, x):
    spiked = x.copy()
    spiked[0, 0] = 1e6
    before = text_model(
        """g (float[7,64] X) => (float[7,7] Y) {
             T = Transpose (X)
             [product] Y = MatMul (X, T)
           }"""
    )
    a_pass = InsertQdq(act_act=True, method="percentile", percentile=99.0)
    after = done(a_pass, before, {"X": spiked})
    assert after.rewrites == 0
    (miss,) = after.journal.missed
    assert miss.reason.startswith("a static grid of 'X' leaves products of 0.0 dB")


def test_near_miss_float16(done, text_model, x):
    before = text_model(
        """g (float16[7,64] X) => (float16[7,7] Y) {
             T = Transpose (X)
             Y = MatMul (X, T)
           }"""
    )
    assert done(PASS, before, {"X": x.astype(np.float16)}).rewrites == 0
