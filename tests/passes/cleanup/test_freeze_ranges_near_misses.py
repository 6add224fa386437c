"""freeze-ranges: quantizers whose range is still found as the model runs, and why."""

import numpy as np
import pytest

from sardonyx.passes.cleanup.freeze_ranges import FreezeRanges

PASS = FreezeRanges()
K, N = 32, 24
INPUTS, OUTPUTS = f"float[B,S,{K}] X", f"float[B,S,{N}] Y"
MATMUL = "d = DequantizeLinear (q, s, z) Y = MatMul (d, W)"
SUMS = "[mm] i = MatMulInteger (q, C, z) f = Cast <to = 1> (i) k = Mul (s, t) Y = Mul (f, k)"
DYNAMIC = f"[round] q, s, z = DynamicQuantizeLinear (X) {SUMS}"

ENDS = "a = ReduceMin <keepdims = 0> (X) b = ReduceMax <keepdims = 0> (X)"
SCALE = "e = Sub (b, a) s = Div (e, steps)"
ZERO = "g = Div (a, s) h = Neg (g) l = Round (h) m = Clip (l, nil, steps) z = Cast <to = 2> (m)"
QUANTIZE = "[round] q = QuantizeLinear (X, s, z)"
COMPUTED = f"{ENDS} {SCALE} {ZERO} {QUANTIZE} {MATMUL}"
ABS = "v = Abs (X) a = ReduceMax <keepdims = 0> (v) s = Div (a, half)"
OUT = "r = Div (X, s) n = Round (r) o = Add (n, m)"


@pytest.fixture(scope="module")
def held():
    """Constants that the texts name."""
    generator = np.random.default_rng(0)
    return {
        "C": generator.integers(-63, 64, (K, N)).astype(np.int8),
        "W": generator.standard_normal((K, N)).astype(np.float32),
        "t": (generator.random(N) * 0.01 + 0.001).astype(np.float32),
        "nil": np.float32(0),
        "steps": np.float32(255),
        "seven": np.float32(127),
        "half": np.float32(127),
        "zo": np.uint8(7),
        "zw": np.uint16(0),
        "zc": np.uint8(0),
        "last": np.array([-1]),
        "fixed": np.ones((1, 2, K), np.float32),
    }


STAYS = {
    "2 a range of something else": (
        COMPUTED.replace("(X) b", "(w) b").replace(ENDS[:1], "w = Neg (X) a", 1),
        "its range is that of Neg 'w', not of 'X'",
    ),
    "2 a scale that is given": (
        f"s = Identity (given) {QUANTIZE} {MATMUL}".replace("z)", "zc)"),
        "'given' is not computed from the least and the largest of 'X'",
    ),
    "2 a scale that is the mean": (
        f"{ABS} {QUANTIZE} {MATMUL}".replace("ReduceMax", "ReduceMean").replace("z)", "zc)"),
        "'s' is not computed from the least and the largest of 'X'",
    ),
    "2 a range for each row": (
        "v = Abs (X) [max] a = ReduceMax <axes = [2], keepdims = 0> (v) "
        "u = ReduceMax <keepdims = 0> (a) s = Div (u, half) "
        f"{QUANTIZE} {MATMUL}".replace("z)", "zc)"),
        "its range is that of ReduceMax 'max', not of 'X'",
    ),
    "2 a range for each channel": (
        "v = Abs (X) [max] a = ReduceMax <axes = [0, 1], keepdims = 0> (v) s = Div (a, half) "
        "zs = Sub (s, s) z = Cast <to = 2> (zs) [round] q = QuantizeLinear <axis = 2> (X, s, z) "
        "d = DequantizeLinear <axis = 2> (q, s, z) Y = MatMul (d, W)",
        "ReduceMax 'max' finds a range for each place along some axes",
    ),
    "2 ends that something else reads": (
        COMPUTED.replace("Y = MatMul", "j = MatMul") + " [more] Y = Add (j, b)",
        "its range 'b' is also read by Add 'more'",
    ),
    "3 a constant zero point beside the middle": (
        f"{ABS} [round] q = QuantizeLinear (X, s, zo) d = DequantizeLinear (q, s, zo) "
        "Y = MatMul (d, W)",
        "its zero point is always 7, not 128",
    ),
    "3 codes from 0 on of values below": (
        f"{ABS} {QUANTIZE} {MATMUL}".replace("half", "steps").replace("s, z)", "s, zc)"),
        "its zero point is always 0, not {found}",
    ),
    "3 codes that are clipped elsewhere": (
        f"{ENDS} {SCALE} {ZERO} {OUT} p = Clip (o, nil, seven) [round] q = Cast <to = 2> (p) "
        f"{MATMUL}",
        "its codes are clipped to 0.0 and 127.0, not to uint8",
    ),
}


@pytest.mark.parametrize("case", STAYS)
def test_near_misses(done, model_of, x, case):
    body, reason = STAYS[case]
    inputs = f"{INPUTS}, float given" if "given" in body else INPUTS
    feeds = {"X": x} | ({"given": np.float32(0.1)} if "given" in body else {})
    after = done(PASS, model_of(body, inputs=inputs), feeds)
    assert after.rewrites == 0
    assert after.journal.activations == []
    ((by, node, why),) = [(m.by, m.node, m.reason) for m in after.journal.missed]
    assert (by, node) == ("freeze-ranges", "round")
    middle = next(word for word in reversed(why.split()))  # what fits depends on the values
    assert why == reason.format(found=middle)


def test_3_codes_of_16_bits(done, model_of, x):
    body = f"{ABS} [round] q = QuantizeLinear (X, s, zw) d = DequantizeLinear (q, s, zw) "
    after = done(PASS, model_of(f"{body} Y = MatMul (d, W)", 21), {"X": x})
    (miss,) = after.journal.missed
    assert miss.reason == "its codes are uint16: not of 8 bits"


@pytest.mark.parametrize(("output", "kind"), [("s", "float"), ("z", "uint8")])
def test_2_ends_that_are_outputs(done, model_of, x, output, kind):
    after = done(PASS, model_of(DYNAMIC, outputs=f"{OUTPUTS}, {kind} {output}"), {"X": x})
    (miss,) = after.journal.missed
    assert (after.rewrites, miss.reason) == (0, f"'{output}' is an output of the graph")


def test_2_a_range_that_is_an_output(done, model_of, x):
    after = done(PASS, model_of(COMPUTED, outputs=f"{OUTPUTS}, float b"), {"X": x})
    (miss,) = after.journal.missed
    assert (after.rewrites, miss.reason) == (0, "its range 'b' is an output of the graph")


def test_2_two_codes_by_one_scale(done, model_of, x):
    body = COMPUTED.replace("Y = MatMul", "y = MatMul")
    body += " [again] p = QuantizeLinear (X, s, z) c = DequantizeLinear (p, s, z) "
    after = done(PASS, model_of(f"{body} u = MatMul (c, W) Y = Add (y, u)"), {"X": x})
    assert {(m.node, m.reason) for m in after.journal.missed} == {
        ("round", "its scale 's' is that of other codes too"),
        ("again", "its scale 's' is that of other codes too"),
    }


def test_3_a_constant(done, model_of, x):
    body = DYNAMIC.replace("(X)", "(fixed)")
    body = body.replace("Y = Mul (f, k)", "y = Mul (f, k) Y = Add (y, X)")
    model = model_of(body, inputs=f"float[B,2,{N}] X")
    after = done(PASS, model, {"X": x[:, :2, :N]})
    (miss,) = after.journal.missed
    assert (after.rewrites, miss.reason) == (0, "its input 'fixed' is a constant")


def test_3_no_values(done, model_of, x):
    after = done(PASS, model_of(DYNAMIC), {"X": x[:, :0]})
    (miss,) = after.journal.missed
    assert miss.reason == "its input 'X' had no values in the calibration data"


def test_1_in_a_body(done, model_of, x):
    branch = (
        "{0} () => (float[B,S,24] {0}Y) {{ [{0}q] {0}q, {0}s, {0}z = DynamicQuantizeLinear (X) "
        "{0}i = MatMulInteger ({0}q, C, {0}z) {0}f = Cast <to = 1> ({0}i) {0}k = Mul ({0}s, t) "
        "{0}Y = Mul ({0}f, {0}k) }}"
    )
    branches = f"then_branch = {branch.format('t')}, else_branch = {branch.format('e')}"
    model = model_of(f"Y = If (c) <{branches}>", inputs=f"{INPUTS}, bool c")
    after = done(PASS, model, {"X": x, "c": np.array(True)})
    reason = "it is in a body, and calibration measures the main graph"
    assert [(m.node, m.reason) for m in after.journal.missed] == [("tq", reason), ("eq", reason)]


@pytest.fixture
def spread():
    """Samples whose ranges are a hundred times apart, and the model's own range fits each."""
    values = np.random.default_rng(2).standard_normal((6, 5, K)).astype(np.float32)
    return values * np.logspace(0, 2, 6, dtype=np.float32)[:, None, None]


def test_4_ranges_of_runs_that_are_far_apart(done, model_of, spread):
    after = done(PASS, model_of(DYNAMIC), {"X": spread})
    (miss,) = after.journal.missed
    assert (after.rewrites, miss.node) == (0, "round")
    assert miss.reason.startswith("a static grid of 'X' leaves products of ")
    static_db, run_db = (float(word) for word in miss.reason.split() if word[0].isdigit())
    assert run_db - static_db > 20
    for other in (FreezeRanges(least_db=-100), FreezeRanges(least_gain_db=1000)):
        assert done(other, model_of(DYNAMIC), {"X": spread}).rewrites == 1


def test_a_huge_value_ruins_the_range_of_each_run(done, model_of, x):
    """There a static grid that clips it serves the others better, however little."""
    huge = x.copy()
    huge[:, 0] *= 1e4
    after = done(PASS, model_of(DYNAMIC), {"X": huge})
    assert after.rewrites == 1
    (found,) = after.journal.activations
    assert found.product_sqnr_db < PASS.least_db


def test_without_products_the_values_count(done, model_of, spread):
    body = "[round] q, s, z = DynamicQuantizeLinear (X) Y = DequantizeLinear (q, s, z)"
    model = model_of(body, outputs=f"float[B,S,{K}] Y")
    after = done(FreezeRanges(method="min-max", least_db=80), model, {"X": spread})
    (miss,) = after.journal.missed
    assert miss.reason.startswith("a static grid of 'X' leaves values of ")
    assert done(FreezeRanges(method="min-max"), model, {"X": spread}).rewrites == 1


@pytest.mark.parametrize(
    "body",
    [
        "q = QuantizeLinear (X, t1, z) d = DequantizeLinear (q, t1, z) Y = MatMul (d, W)",
        "r = Div (X, steps) n = Round (r) q = Cast <to = 3> (n) d = Cast <to = 1> (q) "
        "Y = MatMul (d, W)",
        "Y = MatMul (X, W)",
    ],
)
def test_models_without_any(apply, text_model, held, body):
    given = {n: held[n] for n in ("W", "steps") if f"{n})" in body}
    given |= {"z": np.uint8(0), "t1": np.float32(1)}
    model = text_model(f"g ({INPUTS}) => ({OUTPUTS}) {{ {body} }}", **given)
    after = apply(PASS, model)
    assert (after.rewrites, after.journal.missed) == (0, [])
    assert after.journal.watched == {}
