"""dequantize-sums: sums of integer products that floats take on are not rounded between."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from sardonyx.compiler import compile, load_recipe
from sardonyx.compiler.recipe import Recipe
from sardonyx.models.real_models import exported_models
from sardonyx.passes.cleanup.dequantize_sums import DequantizeSums
from sardonyx.runtime_ops.errors import VerificationError

PASS = DequantizeSums()
DQ, Q = "DequantizeLinear", "QuantizeLinear"
STEP = np.float32(0.05)

PRODUCT = """
  a = DequantizeLinear (A, s, z)
  w = DequantizeLinear (W, u, v)
  p = MatMul (a, w)
"""
PAIR = "q = QuantizeLinear (p, t, y)\n f = DequantizeLinear (q, t, y)\n"


@pytest.fixture
def product(text_model, normal):
    """A model of an integer product [N, 6] that PAIR rounds, and what reads it."""

    def make(rest: str, middle: str = PRODUCT, outputs: str = "float[N,6] Y", **others):
        codes = np.random.default_rng(0).integers(-127, 128, (8, 6)).astype(np.int8)
        constants = {
            "s": np.float32(0.02),
            "z": np.uint8(120),
            "W": codes,
            "u": np.float32(0.01),
            "v": np.int8(0),
            "t": STEP,
            "y": np.uint8(128),
            "b": normal(6),
        }
        text = f"g (uint8[N,8] A) => ({outputs}) {{ {middle} {rest} }}"
        model = text_model(text, 21, 10, **constants | others)
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return model

    return make


@pytest.fixture(scope="module")
def codes():
    """Activations of which some sums are beyond the range that PAIR has."""
    return np.random.default_rng(1).integers(0, 256, (64, 8)).astype(np.uint8)


@pytest.fixture(scope="module")
def check(apply, run_ort, codes):
    """Apply the pass, which must fire once; outputs within half a step where nothing saturated."""

    def run(model, ops, saturated=6.35):
        after = apply(PASS, model)
        assert (after.rewrites, after.again) == (1, 0)
        assert after.ops == ops.split()
        (want,), (have,) = (run_ort(m, {"A": codes}) for m in (model, after.model))
        inside = (want < saturated) & (want > -saturated)
        assert 0.5 < inside.mean() < 1 or saturated == np.inf
        assert np.abs(want - have)[inside].max() <= STEP / 2 + 1e-5  # floats' own rounding
        assert np.abs(want - have)[inside].max() > STEP / 4
        return after.model

    return run


def test_before_after(check, product):
    made = check(product(PAIR + "Y = Neg (f)"), f"{DQ} {DQ} MatMul Identity Neg")
    assert list(made.graph.node[-2].input) == ["p"]


@pytest.mark.parametrize(
    ("middle", "ops"),
    [
        ("o = MatMul (a, w)\n p = Add (o, b)", "MatMul Add"),
        ("o = MatMul (a, w)\n p = Add (b, o)", "MatMul Add"),
        ("c = DequantizeLinear (B, u)\n o = MatMul (a, w)\n p = Add (o, c)", f"{DQ} MatMul Add"),
        ("p = Gemm (a, w, b)", "Gemm"),
        ("r = Transpose (w)\n x = Transpose (r)\n p = MatMul (a, x)", "Transpose Transpose MatMul"),
    ],
)
def test_sums(check, product, middle, ops):
    middle = PRODUCT.replace("p = MatMul (a, w)", middle)
    if "Transpose" in middle:
        middle = middle.replace("(W, u, v)", "(V, u, v)").replace("r = Transpose (w)\n x", "x")
        middle = middle.replace("Transpose (r)", "Transpose (w)")
        ops = "Transpose MatMul"
    turned = np.random.default_rng(0).integers(-127, 128, (8, 6)).astype(np.int8).T
    model = product(PAIR + "Y = Neg (f)", middle, B=np.arange(6, dtype=np.int32), V=turned)
    check(model, f"{DQ} {DQ} {ops} Identity Neg")


def test_integer_ops(check, product):
    middle = (
        "i = MatMulInteger (A, W, z)\n c = Cast <to = 1> (i)\n o = Mul (c, k)\n p = Add (o, b)\n"
    )
    model = product(PAIR + "Y = Neg (f)", middle, k=np.float32(0.0002))
    check(model, "MatMulInteger Cast Mul Add Identity Neg")
    middle = "p = com.microsoft.MatMulIntegerToFloat (A, W, s, u, z)\n"
    check(product(PAIR + "Y = Neg (f)", middle), "MatMulIntegerToFloat Identity Neg")


def test_an_output_and_several_dequantizers(apply, product):
    rest = PAIR + "g = DequantizeLinear (q, t, y)\n Y = Neg (f)\n Z = Abs (g)"
    model = product(rest, outputs="float[N,6] Y, float[N,6] Z, float[N,6] f")
    after = apply(PASS, model)
    assert (after.rewrites, after.again) == (1, 0)
    ops = Counter(node.op_type for node in after.model.graph.node)
    assert ops == {DQ: 2, "MatMul": 1, "Identity": 2, "Neg": 1, "Abs": 1}
    onnx.checker.check_model(after.model)


def test_a_body(apply, text_model):
    body = "w = DequantizeLinear (W, u)\n a = DequantizeLinear (A, u)\n p = MatMul (a, w)\n"
    model = text_model(
        f"""g (bool c, int8[4,8] A) => (float[4,6] Y) {{
              Y = If (c) <
                then_branch = t () => (float[4,6] r1) {{ {body} {PAIR} r1 = Neg (f) }},
                else_branch = e () => (float[4,6] r2) {{ {body} r2 = Neg (p) }}
              > }}""",
        W=np.ones((8, 6), np.int8),
        u=np.float32(0.1),
        t=STEP,
        y=np.int8(0),
    )
    after = apply(PASS, model)
    assert (after.rewrites, after.again) == (1, 0)


ROUNDED = "d = Sigmoid (f)\n e = QuantizeLinear (d, t, y)\n Y = DequantizeLinear (e, t, y)"
NEAR_MISSES = [
    "Y = MatMul (f, w)",  # 1: a product
    "x = Transpose (f)\n Y = MatMul (w, x)",
    "g = MatMul (f, w)\n h = Neg (f)\n Y = Add (g, h)",
    ROUNDED,  # 1: an op between codes
    "e = QuantizeLinear (f, u, y)\n Y = DequantizeLinear (e, u, y)",  # 1: another quantizer
    "x = Unsqueeze (f, one)\n g = Neg (x)\n Y = Squeeze (g, one)",  # 2: a movement
    "Y = Neg (f)\n Z = Identity (q)",  # 3: the codes
]


@pytest.mark.parametrize("rest", NEAR_MISSES)
def test_near_misses(apply, product, rest):
    outputs = "float[J,K] Y" + (", uint8[J,K] Z" if "Z" in rest else "")
    square = np.ones((8, 8), np.int8)
    model = product(PAIR + rest, outputs=outputs, W=square, one=np.array([1]))
    assert apply(PASS, model).rewrites == 0


@pytest.mark.parametrize(
    "middle",
    [
        "a = DequantizeLinear (A, s, z)\n p = MatMul (a, F)\n",
        "p = DequantizeLinear (A, s, z)\n",
        PRODUCT.replace("p = ", "o = ") + "p = Sigmoid (o)\n",
        PRODUCT.replace("p = ", "o = ") + "p = Add (o, o)\n",
        "a = Cast <to = 1> (A)\n p = Mul (a, s)\n",
    ],
)
def test_near_miss_4_no_sums(apply, product, middle):
    factor = np.ones((8, 6), np.float32)
    model = product(PAIR + "Y = Neg (f)", middle, "float[J,K] Y", F=factor)
    assert apply(PASS, model).rewrites == 0


@pytest.mark.parametrize(
    ("pair", "others"),
    [
        (PAIR.replace("(q, t, y)", "(q, u, y)"), {}),
        (PAIR.replace("(q, t, y)", "(q, t, x)"), {"x": np.uint8(127)}),
        (PAIR, {"t": np.full(6, STEP), "y": np.full(6, 128, np.uint8)}),
        ("k = Abs (t)\n" + PAIR.replace("t, y", "k, y"), {}),
    ],
)
def test_near_miss_5_parameters(apply, product, pair, others):
    assert apply(PASS, product(pair + "Y = Neg (f)", **others)).rewrites == 0


def test_the_driver_stays_within_the_range(product, monkeypatch):
    """Made-up products would saturate a step so small; the claim is for those that do not."""
    recipe = Recipe("r", "", (PASS,), alone=True)
    model = product(PAIR + "Y = Neg (f)", t=np.float32(1e-4))
    done = compile(model, recipe)
    assert 1e-3 < done.report.verification.largest_difference < PASS.bound
    monkeypatch.setattr(DequantizeSums, "rounds_less", False)
    with pytest.raises(VerificationError, match="dequantize-sums is wrong"):
        compile(model, recipe)


def test_what_whole_models_lose_is_measured(product, codes):
    """Sums beyond the range are no longer cut: that is no fault, and it is said."""
    model = product(PAIR + "Y = Neg (f)")
    recipe = load_recipe("cleanup-inexact")
    done = compile(model, recipe, [{"A": codes}], verify="full")
    (output,) = done.report.verification.outputs
    assert output.name == "Y"
    assert 0 < output.sqnr_db < 40


def test_a_wrong_rewrite_is_found(product, monkeypatch):
    """Were codes dequantized by another scale, the driver would see it."""
    monkeypatch.setattr("sardonyx.passes.quantizers.Quantizer.equals", lambda *_: True)
    model = product(PAIR.replace("(q, t, y)", "(q, u, y)") + "Y = Neg (f)")
    with pytest.raises(VerificationError, match="dequantize-sums is wrong"):
        compile(model, Recipe("r", "", (PASS,), alone=True))


def _optimized(model: onnx.ModelProto, path) -> Counter[str]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_onnxruntime_no_longer_rounds(apply, product, tmp_path):
    model = product(PAIR + "Y = Neg (f)")
    assert _optimized(model, tmp_path / "a.onnx") == {"QLinearMatMul": 1, DQ: 1, "Neg": 1}
    made = apply(PASS, model).model
    assert _optimized(made, tmp_path / "b.onnx") == {"MatMulIntegerToFloat": 1, "Neg": 1}


def test_a_real_model(tmp_path):
    """Of DistilBERT's 49 products all but 6, which feed others through a Transpose, are rounded for
    floats alone."""
    model = onnx.load(exported_models()["DistilBERT tagger, INT8 QDQ"])
    done = compile(model, load_recipe("cleanup-inexact"))
    rewrites = {run.name: run.rewrites for run in done.report.passes if run.rewrites}
    assert rewrites["dequantize-sums"] == 43
    before, after = (_optimized(m, tmp_path / "m.onnx") for m in (model, done.model))
    assert (before["QLinearMatMul"], after["QLinearMatMul"]) == (25, 6)
    assert after["MatMulIntegerToFloat"] == 19
    assert before[Q] - after[Q] >= 24
