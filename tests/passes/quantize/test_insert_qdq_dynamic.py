"""insert-qdq: grids found at run time, wanted for all or for what a static one ruins; bodies."""

import numpy as np
import pytest

from sardonyx.passes.quantize.insert_qdq import InsertQdq

DYNAMIC = InsertQdq(activations="dynamic")
BIASED = """g (float[M,64] X) => (float[M,96] Y) {
  [product] Z = MatMul (X, W)
  [sum] Y = Add (Z, b)
}"""
FORM = [
    "X/Quantize:0, X/Scale:0, X/ZeroPoint:0 = DynamicQuantizeLinear (X)",
    "product/Product:0 = MatMulInteger (X/Quantize:0, W.codes, X/ZeroPoint:0)",
    "product/Scale:0 = Mul (X/Scale:0, W.scale)",
    "product/Sums:0 = Cast (product/Product:0)",
    "Z = Mul (product/Sums:0, product/Scale:0)",
    "Y = Add (Z, b)",
]

ENOUGH = 25
"""dB. Weights of 7 bits and activations of 8, both of normal values, leave about 33."""


@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_the_form_of_quantize_dynamic(done, sqnr, text_model, run_ort, normal, x, per):
    before = text_model(BIASED, W=normal(64, 96), b=normal(96))
    after = done(InsertQdq(activations="dynamic", per=per), before)
    assert after.wiring == FORM
    assert {name: a.shape for name, a in after.constants.items()} == {
        "W.codes": (64, 96),
        "W.scale": (96,) if per == "channel" else (),
        "b": (96,),
    }
    assert sqnr(before, after.model, {"X": x}) > ENOUGH
    entry = after.encoded["W"]
    assert (str(entry.format), entry.compute) == (f"uniform7/{per}", "int8")
    one = after.activations["X"]
    assert (one.range, one.method, one.format) == (None, "dynamic", "uint8/tensor")
    assert run_ort(after.model, {"X": np.zeros((0, 64), np.float32)})[0].shape == (0, 96)


def test_notes(done, text_model, normal):
    before = text_model(BIASED, W=normal(64, 96), b=normal(96))
    before.graph.node[0].doc_string = "a line"
    after = done(DYNAMIC, before)
    notes = [
        {p.key.removeprefix("sardonyx."): p.value for p in node.metadata_props}
        for node in after.model.graph.node
    ]
    made = {"pass": "insert-qdq"}
    kinds = {"activation": "X", "activation_format": "uint8/tensor", "activation_method": "dynamic"}
    assert [notes[i] for i in (0, 2, 3, 4, 5)] == [made | kinds, made, made, made, {}]
    assert (notes[1]["weight"], notes[1]["replaces"]) == ("W", "MatMul")
    assert after.model.graph.node[4].doc_string == "a line"


def test_products_of_one_activation_share_its_codes(done, sqnr, text_model, census, normal, x):
    before = text_model(
        """g (float[M,64] X) => (float[M,64] Y, float[M,96] Z) {
             Y = MatMul (X, W)
             Z = MatMul (X, V)
           }""",
        W=normal(64, 64),
        V=normal(64, 96, seed=1),
    )
    after = done(DYNAMIC, before)
    assert census(after.model) == {
        "DynamicQuantizeLinear": 1,
        "MatMulInteger": 2,
        "Mul": 4,
        "Cast": 2,
    }
    assert sqnr(before, after.model, {"X": x}) > ENOUGH


@pytest.fixture(scope="module")
def spiky(x):
    """Activations with a channel that a grid over all of them cannot hold."""
    spiked = x.copy()
    spiked[:, 0] = 3000
    return spiked


@pytest.fixture(scope="module")
def weights(normal):
    """A weight to which that channel hardly matters."""
    matrix = normal(64, 96)
    matrix[0] *= 1e-5
    return matrix


REASON = "a static grid of 'X' leaves products of "
MIN_MAX = {"method": "min-max"}


def test_what_a_static_grid_ruins_becomes_dynamic(done, text_model, weights, spiky):
    before = text_model(BIASED, W=weights, b=np.zeros(96, np.float32))
    after = done(InsertQdq(**MIN_MAX), before, {"X": spiky})
    assert after.wiring == FORM
    compute = after.encoded["W"].compute
    assert compute.startswith(f"int8, dynamic: {REASON}")
    assert float(compute.split()[-2]) < 8
    assert after.activations["X"].method == "dynamic"


def test_what_a_static_grid_ruins_stays_float(done, text_model, weights, spiky):
    before = text_model(BIASED, W=weights, b=np.zeros(96, np.float32))
    after = done(InsertQdq(**MIN_MAX, ruined="float"), before, {"X": spiky})
    assert after.rewrites == 0
    assert after.reasons["W"].startswith(REASON)
    assert [s.name for s in after.journal.skipped if s.eligible] == ["W"]


def test_what_is_ruined_is_for_the_user_to_say(done, text_model, weights, spiky):
    before = text_model(BIASED, W=weights, b=np.zeros(96, np.float32))
    after = done(InsertQdq(**MIN_MAX, least_db=-100.0), before, {"X": spiky})
    assert after.activations["X"].method == "min-max"
    assert after.activations["X"].product_sqnr_db < 8


def test_one_activation_rounded_both_ways(
    done, sqnr, text_model, census, weights, normal, x, spiky
):
    """W is read by what no static grid serves, so all its products are dynamic; V's is not."""
    before = text_model(
        """g (float[M,64] X, float[M,64] S) => (float[M,96] A, float[M,96] B, float[M,96] C) {
             A = MatMul (X, V)
             B = MatMul (X, W)
             C = MatMul (S, W)
           }""",
        W=weights,
        V=normal(64, 96, seed=1),
    )
    feeds = {"X": x, "S": spiky}
    after = done(InsertQdq(**MIN_MAX), before, feeds)
    assert after.rewrites == 3
    counts = census(after.model)
    assert (counts["QuantizeLinear"], counts["DynamicQuantizeLinear"]) == (1, 2)
    assert counts["MatMulInteger"] == 2
    assert after.encoded["V"].compute == "int8"
    assert after.encoded["W"].compute.startswith("int8, dynamic: a static grid of 'S'")


IF = """g (float[M,64] X, bool c) => (float[M,96] Y) {
  Y = If (c) <
    then_branch = t () => (float[M,96] T) { T = MatMul (X, W) },
    else_branch = e () => (float[M,96] E) { R = Abs (X)
                                            E = MatMul (R, V) }>
}"""

LOOP = """g (float[M,64] X, int64 n, bool c) => (float[M,64] Y) {
  Y = Loop (n, c, X) <body = b (int64 i, bool k, float[M,64] H) => (bool K, float[M,64] G) {
    K = Identity (k)
    P = MatMul (H, W)
    G = Tanh (P)
  }>
}"""


@pytest.fixture(scope="module")
def branches(text_model, normal):
    return text_model(IF, W=normal(64, 96), V=normal(64, 96, seed=1))


@pytest.fixture(scope="module")
def loop(text_model, normal):
    return text_model(LOOP, W=4 * normal(64, 64))


def test_branches_dynamic(done, sqnr, branches, x):
    after = done(DYNAMIC, branches)
    assert after.rewrites == 2
    for c in (True, False):
        assert sqnr(branches, after.model, {"X": x, "c": np.array(c)}) > ENOUGH


def test_loops_dynamic(done, sqnr, loop, x):
    after = done(DYNAMIC, loop)
    assert after.rewrites == 1
    feeds = {"X": x, "n": np.array(3), "c": np.array(True)}
    assert sqnr(loop, after.model, feeds) > ENOUGH - 5  # three roundings in a row


@pytest.mark.parametrize("name", ["If", "Loop"])
def test_near_miss_4_bodies_static(done, branches, loop, x, name):
    model = branches if name == "If" else loop
    feeds = {"X": x, "c": np.array(True)} | ({"n": np.array(3)} if name == "Loop" else {})
    after = done(InsertQdq(), model, feeds)
    assert after.rewrites == 0
    text = "its activation '{}' was not measured: a product by it is inside a body"
    wanted = {"W": "X", "V": "R"} if name == "If" else {"W": "H"}
    assert after.reasons == {weight: text.format(read) for weight, read in wanted.items()}


def test_a_body_that_reads_what_was_measured_outside(done, sqnr, text_model, normal, x):
    before = text_model(
        """g (float[M,64] X, bool c) => (float[M,96] Y) {
             Z = MatMul (X, V)
             Y = If (c) <
               then_branch = t () => (float[M,96] T) { T = MatMul (X, W) },
               else_branch = e () => (float[M,96] E) { E = Neg (Z) }>
           }""",
        W=normal(64, 96),
        V=normal(64, 96, seed=1),
    )
    after = done(InsertQdq(), before, {"X": x, "c": np.array(True)})
    assert (after.rewrites, after.reasons) == (2, {})
    for c in (True, False):
        assert sqnr(before, after.model, {"X": x, "c": np.array(c)}) > ENOUGH


def test_a_table_looked_up_in_a_body(done, text_model, run_ort, normal):
    before = text_model(
        """g (int64[M] I, bool c) => (float[M,64] Y) {
             Y = If (c) <
               then_branch = t () => (float[M,64] T) { T = Gather (W, I) },
               else_branch = e () => (float[M,64] E) { J = Neg (I)
                                                       E = Gather (W, J) }>
           }""",
        W=normal(100, 64),
    )
    after = done(InsertQdq(), before)
    assert after.rewrites == 2
    for c in (True, False):
        feeds = {"I": np.arange(9), "c": np.array(c)}
        (want,), (have,) = run_ort(before, feeds), run_ort(after.model, feeds)
        assert np.abs(want - have).max() < 0.01 * np.abs(want).max()
