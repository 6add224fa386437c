"""freeze-ranges: constants in place of ranges that are found at run time, and what stays."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis.extra.numpy import arrays
from hypothesis.strategies import floats, sampled_from

from sardonyx.compiler.load import load
from sardonyx.passes.cleanup.freeze_ranges import FreezeRanges
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.journal import Journal
from sardonyx.runtime_ops.uniform import grid

PASS = FreezeRanges()
MIN_MAX = FreezeRanges(method="min-max")
K, N = 32, 24
INPUTS, OUTPUTS = f"float[B,S,{K}] X", f"float[B,S,{N}] Y"

SUMS = "f = Cast <to = 1> (i) k = Mul (s, t) Y = Mul (f, k)"
DYNAMIC = f"[round] q, s, z = DynamicQuantizeLinear (X) [mm] i = MatMulInteger (q, C, z) {SUMS}"

ENDS = "a = ReduceMin <keepdims = 0> (X) b = ReduceMax <keepdims = 0> (X)"
SCALE = "c = Min (a, nil) d = Max (b, nil) e = Sub (d, c) s = Div (e, steps)"
ZERO = "g = Div (c, s) h = Neg (g) l = Round (h) m = Clip (l, nil, steps)"
ASYMMETRIC = f"{ENDS} {SCALE} {ZERO} z = Cast <to = 2> (m)"
COMPUTED = (
    f"{ASYMMETRIC} [round] q = QuantizeLinear (X, s, z) [mm] i = MatMulInteger (q, C, z) {SUMS}"
)
SYMMETRIC = "v = Abs (X) a = ReduceMax <keepdims = 0> (v) s = Div (a, half)"


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
        "half": np.float32(127),
        "least": np.float32(-127),
        "low": np.float32(-128),
        "one": np.float32(1),
        "zi": np.int8(0),
        "zu": np.uint8(128),
        "zo": np.uint8(7),
        "flat": np.array([-1]),
        "none": np.array([], np.int64),
        "all": np.array([0, 1, 2]),
        "back": np.array([-1, -2, -3]),
        "last": np.array([-1]),
        "X0": np.ones((1, 1, K), np.float32),
    }


def reached(model):
    """The nodes that the outputs need, a line each."""
    _, graph = load(model)
    LiftConstants().run(graph, Journal())
    RemoveUnused().run(graph, Journal())
    return [
        f"{', '.join(t.name for t in n.outputs)} = {n.op} ({', '.join(t.name for t in n.inputs)})"
        for n in graph.nodes
    ]


def rounded(found, values, **kind):
    """What the grid of a range makes of values."""
    return grid(*found.range, **kind).rounded(values)


def same(want, have):
    """Equal but for the order of additions of floats."""
    assert np.abs(want - have).max() <= 2e-6 * np.abs(want).max()


def product(held, values):
    return values.astype(float) @ (held["C"] * held["t"].astype(float))


FROZEN = [
    "q = QuantizeLinear (X, X/Scale, X/ZeroPoint)",
    "i = MatMulInteger (q, C, X/ZeroPoint)",
    "f = Cast (i)",
    "k = Mul (X/Scale, t)",
    "Y = Mul (f, k)",
]


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
@pytest.mark.parametrize("a_pass", [PASS, MIN_MAX, FreezeRanges(method="ema")])
def test_dynamic_quantize_linear(done, model_of, run_ort, held, x, opset, a_pass):
    after = done(a_pass, model_of(DYNAMIC, opset), {"X": x})
    assert (after.rewrites, after.wiring) == (1, FROZEN)
    (found,) = after.journal.activations
    made = grid(*found.range)
    constants = after.constants
    assert (constants["X/Scale"], constants["X/ZeroPoint"]) == (made.scale, made.zero_point)
    assert (constants["X/Scale"].dtype, constants["X/ZeroPoint"].dtype) == (np.float32, np.uint8)
    assert after.constants["C"].tobytes() == held["C"].tobytes()
    (have,) = run_ort(after.model, {"X": x})
    same(product(held, made.rounded(x)), have)


def test_what_is_recorded(done, model_of, x):
    after = done(PASS, model_of(DYNAMIC), {"X": x})
    (found,) = after.journal.activations
    assert (found.name, found.node, found.format) == ("X", "round", "uint8/tensor")
    assert found.method.startswith("kl-")
    assert found.product_sqnr_db > 35
    node = after.model.graph.node[0]
    assert node.name == "round"
    noted = {prop.key: prop.value for prop in node.metadata_props}
    assert noted["sardonyx.pass"] == "freeze-ranges"
    assert noted["sardonyx.activation"] == "X"
    assert noted["sardonyx.activation_method"] == found.method
    low, _, high = noted["sardonyx.activation_range"].partition(" to ")
    np.testing.assert_allclose((float(low), float(high)), found.range, rtol=1e-5)


def test_one_sample_by_min_and_max_is_what_it_was(done, model_of, run_ort, x):
    """The range of the only sample is the one that the dynamic model finds on it."""
    before = model_of(DYNAMIC)
    one = {"X": x[:1]}
    after = done(MIN_MAX, before, one)
    (want,), (have,) = (run_ort(model, one) for model in (before, after.model))
    np.testing.assert_array_equal(want, have)


FORMS = {
    "ends": ASYMMETRIC,
    "axes that are all": f"{ENDS} {SCALE} {ZERO} z = Cast <to = 2> (m)".replace(
        "keepdims = 0", "keepdims = 0, axes = [0, 1, 2]"
    ),
    "axes from the back": ASYMMETRIC.replace("keepdims = 0", "keepdims = 0, axes = [-1, -3, -2]"),
    "one axis of a flat tensor": "r = Reshape (X, flat) "
    + ASYMMETRIC.replace("(X)", "(r)").replace("keepdims = 0", "keepdims = 0, axes = [0]"),
    "axes kept": ASYMMETRIC.replace("keepdims = 0", "keepdims = 1")
    .replace("s = Div", "s3 = Div")
    .replace("(c, s)", "(c, s3)")
    .replace("z = Cast <to = 2> (m)", "z3 = Cast <to = 2> (m) s = Squeeze (s3) z = Squeeze (z3)"),
    "through Identity": ASYMMETRIC.replace("s = Div", "s0 = Div").replace(
        "g = Div", "s = Identity (s0) g = Div"
    ),
    "no step of 0": ASYMMETRIC.replace("s = Div", "s0 = Div").replace(
        "g = Div", "p = Equal (s0, nil) s = Where (p, one, s0) g = Div"
    ),
}


@pytest.mark.parametrize("case", FORMS)
def test_computed_ranges(done, model_of, run_ort, held, x, case):
    body = f"{FORMS[case]} [round] q = QuantizeLinear (X, s, z) i = MatMulInteger (q, C, z) {SUMS}"
    after = done(PASS, model_of(body), {"X": x})
    assert after.rewrites == 1
    (found,) = after.journal.activations
    (have,) = run_ort(after.model, {"X": x})
    same(product(held, rounded(found, x)), have)
    left = [line for line in reached(after.model) if "Reduce" in line or "= Sub" in line]
    assert left == []
    assert reached(after.model)[0] == "q = QuantizeLinear (X, X/Scale, X/ZeroPoint)"


@pytest.mark.parametrize("reduction", ["axes", "empty"])
def test_axes_that_are_an_input(done, model_of, x, reduction):
    body = COMPUTED.replace("(X)", "(X, all)" if reduction == "axes" else "(X, none)", 2)
    after = done(PASS, model_of(body, 18), {"X": x})
    assert after.rewrites == 1


SYMMETRIC_FORMS = {
    "int8": ("q = QuantizeLinear (X, s, zi)", {"signed": True}),
    "uint8 around 128": ("q = QuantizeLinear (X, s, zu)", {}),
}


@pytest.mark.parametrize("case", SYMMETRIC_FORMS)
def test_symmetric(done, model_of, run_ort, held, x, case):
    quantize, kind = SYMMETRIC_FORMS[case]
    zero = "zi" if kind else "zu"
    dequantize = f"d = DequantizeLinear (q, s, {zero}) Y = MatMul (d, W)"
    after = done(PASS, model_of(f"{SYMMETRIC} [round] {quantize} {dequantize}"), {"X": x})
    (found,) = after.journal.activations
    assert found.range[0] == -found.range[1]
    assert found.format == ("int8/tensor" if kind else "uint8/tensor")
    values = rounded(found, x, symmetric=True, **kind)
    same(values.astype(float) @ held["W"], run_ort(after.model, {"X": x})[0])
    assert f"d = DequantizeLinear (q, X/Scale, {zero})" in reached(after.model)


def test_unsigned_from_0_without_zero_point(done, model_of, run_ort, held, x):
    body = f"{SYMMETRIC.replace('half', 'steps')} q = QuantizeLinear (X, s) "
    body += "d = DequantizeLinear (q, s) Y = MatMul (d, W)"
    after = done(PASS, model_of(body), {"X": np.abs(x)})
    (found,) = after.journal.activations
    assert after.constants["X/ZeroPoint"] == 0
    values = rounded(found, np.abs(x), symmetric=True)
    same(values.astype(float) @ held["W"], run_ort(after.model, {"X": np.abs(x)})[0])


WRITTEN_OUT = {
    "shifted after": ("r = Div (X, s) n = Round (r) o = Add (n, m)", "nil", "steps", 2),
    "shifted before": ("r = Div (X, s) n = Add (r, m) o = Round (n)", "nil", "steps", 2),
    "turned": ("r = Div (X, s) n = Round (r) o = Add (m, n)", "nil", "steps", 2),
    "by the reciprocal": ("u = Reciprocal (s) r = Mul (u, X) n = Round (r) o = Add (m, n)",)
    + ("nil", "steps", 2),
}


@pytest.mark.parametrize("case", WRITTEN_OUT)
def test_written_out(done, model_of, run_ort, held, x, case):
    steps, low, high, kind = WRITTEN_OUT[case]
    codes = f"p = Clip (o, {low}, {high}) [round] q = Cast <to = {kind}> (p)"
    body = f"{ASYMMETRIC} {steps} {codes} [mm] i = MatMulInteger (q, C, z) {SUMS}"
    after = done(PASS, model_of(body), {"X": x})
    (found,) = after.journal.activations
    same(product(held, rounded(found, x)), run_ort(after.model, {"X": x})[0])
    assert reached(after.model)[0] == "q = QuantizeLinear (X, X/Scale, X/ZeroPoint)"
    assert after.constants["X/ZeroPoint/Like"].dtype == np.float32


@pytest.mark.parametrize("end", ["least", "low"])
def test_written_out_symmetric(done, model_of, run_ort, held, x, end):
    codes = f"r = Div (X, s) n = Round (r) p = Clip (n, {end}, half) [round] q = Cast <to = 3> (p)"
    floats = "o = Cast <to = 1> (q) d = Mul (o, s) Y = MatMul (d, W)"
    after = done(PASS, model_of(f"{SYMMETRIC} {codes} {floats}"), {"X": x})
    (found,) = after.journal.activations
    assert found.format == "int8/tensor"
    values = rounded(found, x, symmetric=True, signed=True)
    same(values.astype(float) @ held["W"], run_ort(after.model, {"X": x})[0])


def test_codes_of_three_products(done, model_of, x):
    body = DYNAMIC.replace("Y = Mul", "Y1 = Mul")
    body += " j = MatMulInteger (q, C, z) o = Cast <to = 1> (j) l = Mul (s, t) y = Mul (o, l)"
    after = done(PASS, model_of(f"{body} Y = Add (Y1, y)"), {"X": x})
    assert after.rewrites == 1
    assert [line for line in after.wiring if "X/Scale" in line] == [
        "q = QuantizeLinear (X, X/Scale, X/ZeroPoint)",
        "k = Mul (X/Scale, t)",
        "l = Mul (X/Scale, t)",
    ]


def test_codes_that_are_an_output(done, model_of, x):
    after = done(PASS, model_of(DYNAMIC, outputs=f"{OUTPUTS}, uint8[B,S,{K}] q"), {"X": x})
    assert after.rewrites == 1


@pytest.mark.parametrize("chosen", [True, False])
def test_what_a_body_reads(done, model_of, run_ort, held, x, chosen):
    branch = (
        "{0} () => (float[B,S,24] {0}Y) {{ {0}i = MatMulInteger (q, C, z) "
        "{0}f = Cast <to = 1> ({0}i) {0}k = Mul (s, t) {0}Y = Mul ({0}f, {0}k) }}"
    )
    branches = f"then_branch = {branch.format('t')}, else_branch = {branch.format('e')}"
    text = f"q, s, z = DynamicQuantizeLinear (X) Y = If (c) <{branches}>"
    feeds = {"X": x, "c": np.array(chosen)}
    after = done(PASS, model_of(text, inputs=f"{INPUTS}, bool c"), feeds)
    (found,) = after.journal.activations
    assert after.rewrites == 1
    same(product(held, rounded(found, x)), run_ort(after.model, feeds)[0])


@given(
    values=arrays(np.float32, (1, 3, K), elements=floats(-100, 100, width=32)),
    form=sampled_from([DYNAMIC, COMPUTED]),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_single_sample_by_min_and_max(done, model_of, run_ort, held, values, form):
    """Its range is the one that the model finds on it: the same codes, but where onnxruntime's
    float32 and the grid's float64 round a half to other sides, one step apart."""
    assume(np.abs(values).max() > 1e-3)
    before = model_of(form)
    after = done(FreezeRanges(method="min-max", least_db=-1000), before, {"X": values})
    assert after.rewrites == 1
    (want,), (have,) = (run_ort(model, {"X": values}) for model in (before, after.model))
    (found,) = after.journal.activations
    assert found.range == (min(values.min(), 0), max(values.max(), 0))
    weights = np.abs(held["C"] * held["t"]).sum(axis=0)
    assert np.all(np.abs(want - have) <= 1.01 * after.constants["X/Scale"] * weights)
    exact = product(held, rounded(found, values))
    assert np.abs(exact - have).max() <= 2e-6 * max(np.abs(exact).max(), weights.max())
