"""insert-qdq: what is left as it is, and why."""

import numpy as np
import pytest

from sardonyx.passes.quantize.insert_qdq import MOST_ROWS, InsertQdq
from sardonyx.runtime_ops.errors import InputError

MATMUL = "g (float[M,64] X) => (float[M,96] Y) { [product] Y = MatMul (X, W) }"
FORMS = pytest.mark.parametrize("activations", ["static", "dynamic"])


@pytest.fixture(scope="module")
def miss(done, x):
    """Why a weight was left alone, and whether it should have been encoded."""

    def why(model, activations="static", feeds=None, **options):
        given = [{"X": x} if feeds is None else feeds] * (activations == "static")
        after = done(InsertQdq(activations=activations, **options), model, *given)
        assert (after.rewrites, after.encoded, after.activations) == (0, {}, {})
        skip = next(skip for skip in after.journal.skipped if skip.name == "W")
        return skip.reason, skip.eligible

    return why


@FORMS
def test_1_left_operand(miss, text_model, normal, x, activations):
    before = text_model(
        "g (float[64,M] X) => (float[96,M] Y) { Y = MatMul (W, X) }", W=normal(96, 64)
    )
    reason = "left operand of MatMul: only right operands are encoded"
    assert miss(before, activations, {"X": x.T}) == (reason, True)


@FORMS
def test_1_gemm(miss, text_model, normal, activations):
    before = text_model(MATMUL.replace("MatMul", "Gemm"), W=normal(64, 96))
    reason = "read by Gemm, which pass unfuse-gemm makes a MatMul of"
    assert miss(before, activations) == (reason, False)


@FORMS
@pytest.mark.parametrize(("kind", "dtype"), [("float16", np.float16), ("double", np.float64)])
def test_1_other_floats(miss, text_model, normal, x, activations, kind, dtype):
    before = text_model(MATMUL.replace("float", kind), W=normal(64, 96, dtype=dtype))
    reason = f"{np.dtype(dtype)}: only float32 weights are quantized"
    assert miss(before, activations, {"X": x.astype(dtype)}) == (reason, False)


@FORMS
def test_1_rank_3(miss, text_model, normal, x, activations):
    text = "g (float[2,M,64] X) => (float[2,M,96] Y) { Y = MatMul (X, W) }"
    before = text_model(text, W=normal(2, 64, 96))
    feeds = {"X": np.stack([x, x])}
    assert miss(before, activations, feeds) == ("rank 3: only matrices are encoded", True)


@FORMS
def test_1_constant_operand(miss, text_model, normal, activations):
    text = "g () => (float[50,96] Y) { U = Relu (C)\n Y = MatMul (U, W) }"
    before = text_model(text, W=normal(64, 96), C=normal(50, 64))
    assert miss(before, activations, {}) == ("multiplied by a constant", False)


def test_1_too_many_rows(miss, text_model):
    rows = MOST_ROWS + 1
    before = text_model(
        f"g (float[M,{rows}] X) => (float[M,1] Y) {{ Y = MatMul (X, W) }}",
        W=np.ones((rows, 1), np.float32),
    )
    reason = f"columns have {rows} weights: INT32 sums at most {MOST_ROWS} products"
    assert miss(before, "dynamic") == (reason, False)


def test_the_longest_sums_that_fit(done, text_model, run_ort):
    rows = MOST_ROWS
    before = text_model(
        f"g (float[M,{rows}] X) => (float[M,1] Y) {{ Y = MatMul (X, W) }}",
        W=np.ones((rows, 1), np.float32),
    )
    after = done(InsertQdq(activations="dynamic", weight_bits=8), before)
    feeds = {"X": np.ones((1, rows), np.float32)}
    (have,) = run_ort(after.model, feeds)
    assert abs(have.item() - rows) < 1e-5 * rows  # the largest sum of codes, not wrapped around


@FORMS
def test_2_another_reader(miss, text_model, normal, x, activations):
    before = text_model(
        """g (float[64,64] X) => (float[64,64] Y, float[64,64] Z) {
             Y = MatMul (X, W)
             [other] Z = Mul (X, W)
           }""",
        W=normal(64, 64),
    )
    feeds = {"X": normal(64, 64)}
    assert miss(before, activations, feeds) == ("also read by Mul 'other'", True)


@FORMS
def test_2_an_output(miss, text_model, normal, activations):
    text = MATMUL.replace("Y) {", "Y, float[64,96] V) { V = Identity (W)\n")
    before = text_model(text, W=normal(64, 96))
    assert miss(before, activations) == ("also read by the graph's output 'V'", True)


@FORMS
def test_3_small(done, miss, text_model, normal, x, activations):
    before = text_model(MATMUL.replace("96", "63"), W=normal(64, 63))
    assert miss(before, activations) == ("small: 4032 weights, fewer than 4096", False)
    feeds = [{"X": x}] * (activations == "static")
    a_pass = InsertQdq(activations=activations, min_weights=4032)
    assert done(a_pass, before, *feeds).rewrites == 1


def test_4_sparse(done, miss, text_model, normal, x):
    before = text_model(
        MATMUL.replace("[product] Y = MatMul (X", "H = Relu (X)\n Y = MatMul (H"), W=normal(64, 96)
    )
    reason, eligible = miss(before)
    zeros = np.mean(x <= 0)
    assert reason == f"its activation 'H' is sparse: {zeros:.1%} of its values are exactly zero"
    assert not eligible
    after = done(InsertQdq(sparse="quantize"), before, {"X": x})
    assert (after.rewrites, after.activations["H"].tensor_class) == (1, "sparse")
    assert after.constants["H/ZeroPoint"] == 0


def test_4_one_use_of_two_is_sparse(miss, text_model, normal):
    before = text_model(
        """g (float[M,64] X) => (float[M,96] Y, float[M,96] Z) {
             Y = MatMul (X, W)
             H = Relu (X)
             Z = MatMul (H, W)
           }""",
        W=normal(64, 96),
    )
    assert miss(before)[0].startswith("its activation 'H' is sparse: ")


def test_4_nothing_but_fills_of_masks(miss, text_model, normal):
    before = text_model(MATMUL, W=normal(64, 96))
    feeds = {"X": np.full((3, 64), -3.4e38, np.float32)}
    reason = "its activation 'X' had no values in the calibration data"
    assert miss(before, feeds=feeds) == (reason, False)


@FORMS
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_numbers(done, text_model, normal, x, bad, activations):
    weights = normal(64, 96)
    weights[5, 6] = bad
    before = text_model(MATMUL, W=weights)
    text = "weight 'W' of MatMul 'product' holds NaN or infinite values"
    feeds = [{"X": np.abs(x) * 0}] * (activations == "static")
    with pytest.raises(InputError, match=text):
        done(InsertQdq(activations=activations), before, *feeds)


def test_one_that_a_user_may_override(done, text_model, normal, x):
    before = text_model(MATMUL.replace("] X)", "] X, float[64,96] W)"), W=normal(64, 96))
    after = done(InsertQdq(), before, {"X": x})
    assert (after.rewrites, after.journal.skipped, after.journal.weights) == (0, [], 0)


def test_products_of_two_activations(done, text_model, normal, x):
    before = text_model("g (float[M,64] X, float[64,N] Z) => (float[M,N] Y) { Y = MatMul (X, Z) }")
    assert done(InsertQdq(), before, {"X": x, "Z": normal(64, 5)}).rewrites == 0
