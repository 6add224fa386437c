"""unfuse-matmul-integer: products of codes by constant scales, as onnxruntime fuses them."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from sardonyx.compiler.verify import relative_difference
from sardonyx.passes.lower.integer_linear import LowerIntegerLinear
from sardonyx.passes.unfuse.matmul_integer import UnfuseMatMulInteger

PASS = UnfuseMatMulInteger()
K, N = 32, 24
INPUTS, OUTPUTS = f"float[B,S,{K}] X", f"float[B,S,{N}] Y"

QUANTIZE = "q = QuantizeLinear (X, s, z)"
SUMS = "[mm] i = MatMulInteger (q, C, z) f = Cast <to = 1> (i)"
PRODUCT = f"{QUANTIZE} {SUMS} k = Mul (s, t) Y = Mul (f, k)"


@pytest.fixture(scope="module")
def held():
    """Constants that the texts name."""
    generator = np.random.default_rng(0)
    codes = generator.integers(-127, 128, (K, N)).astype(np.int8)
    return {
        "s": np.float32(0.03),
        "z": np.uint8(120),
        "s1": np.array([0.03], np.float32),
        "z1": np.array([120], np.uint8),
        "s3": np.array([[[0.03]]], np.float32),
        "s4": np.array([[[[0.03]]]], np.float32),
        "si": np.float32(0.04),
        "zi": np.int8(-5),
        "C": codes,
        "U": (codes.astype(int) + 128).astype(np.uint8),
        "u": np.uint8(128),
        "us": generator.integers(100, 150, N).astype(np.uint8),
        "same": np.full(N, 128, np.uint8),
        "zero": np.int8(0),
        "zeros": np.zeros(N, np.int8),
        "t": (generator.random(N) * 0.01 + 0.001).astype(np.float32),
        "row": (generator.random((1, N)) * 0.01 + 0.001).astype(np.float32),
        "column": (generator.random((N, 1)) * 0.01 + 0.001).astype(np.float32),
        "one": np.float32(0.007),
        "b": generator.standard_normal(N).astype(np.float32),
        "double": np.float64(0.03),
        "doubles": np.full(N, 0.01),
        "each": np.full(2, 0.03, np.float32),
    }


@pytest.fixture
def unfused(apply, run_ort):
    """A model after the pass, which took apart so many products and keeps what it computes."""

    def check(model, times=1, **feeds):
        after = apply(PASS, model)
        assert (after.rewrites, after.again, after.journal.missed) == (times, 0, [])
        assert after.model.graph.output == model.graph.output
        for want, have in zip(run_ort(model, feeds), run_ort(after.model, feeds), strict=True):
            assert relative_difference(want, have) <= PASS.bound
        return after

    return check


def test_before_and_after(model_of, unfused, x, held):
    after = unfused(model_of(f"{PRODUCT}".replace("Y =", "p =") + " Y = Add (p, b)"), X=x)
    assert after.wiring == [
        "q = QuantizeLinear (X, s, z)",
        "q/Dequantize:0 = DequantizeLinear (q, s, z)",
        "C/Dequantize:0 = DequantizeLinear (C, t)",
        "p = MatMul (q/Dequantize:0, C/Dequantize:0)",
        "k = Mul (s, t)",
        "Y = Add (p, b)",
    ]
    product = next(node for node in after.model.graph.node if node.op_type == "MatMul")
    assert product.name == "mm"
    assert {p.key: p.value for p in product.metadata_props} == {
        "sardonyx.pass": "unfuse-matmul-integer"
    }
    assert after.constants["C"].tobytes() == held["C"].tobytes()


FORMS = {
    "one scale": (PRODUCT.replace("(s, t)", "(s, one)"), "C, one"),
    "factors turned": (
        PRODUCT.replace("(s, t)", "(t, s)").replace("(f, k)", "(k, f)"),
        "C, t",
    ),
    "both factors one number, the weight's first": (
        PRODUCT.replace("(s, t)", "(one, s)"),
        "C, one",
    ),
    "a row of scales": (PRODUCT.replace("(s, t)", "(s, row)"), "C, row/Columns"),
    "vectors of one": (
        PRODUCT.replace("(s, t)", "(s1, t)").replace("(q, C, z)", "(q, C, z1)"),
        "C, t",
    ),
    "axes of one": (PRODUCT.replace("(s, t)", "(s3, t)"), "C, t"),
    "zero": (PRODUCT.replace("C, z", "C, z, zero"), "C, t"),
    "zeros": (PRODUCT.replace("C, z", "C, z, zeros"), "C, t"),
    "a zero point": (PRODUCT.replace("C, z", "U, z, u"), "U, t, u/Columns"),
    "a zero point and one scale": (
        PRODUCT.replace("C, z", "U, z, u").replace("(s, t)", "(s, one)"),
        "U, one, u",
    ),
    "zero points": (PRODUCT.replace("C, z", "U, z, us"), "U, t, us"),
    "zero points and one scale": (
        PRODUCT.replace("C, z", "U, z, us").replace("(s, t)", "(s, one)"),
        "U, one/Columns, us",
    ),
    "unsigned, from 0": (PRODUCT.replace("C, z", "U, z"), "U, t"),
    "through Identity": (
        PRODUCT.replace("(s, t)", "(s, w)").replace("k =", "w = Identity (t) k ="),
        "C, t",
    ),
}


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("case", FORMS)
def test_forms(model_of, unfused, x, case, opset):
    body, wanted = FORMS[case]
    after = unfused(model_of(body, opset), X=x)
    read = [", ".join(n.input) for n in after.model.graph.node if n.op_type == "DequantizeLinear"]
    assert read[1] == wanted
    assert read[0].startswith("q, s")
    assert after.wiring[3] == f"Y = MatMul (q/Dequantize:0, {wanted.split(',')[0]}/Dequantize:0)"


def test_signed_codes(model_of, unfused, x):
    body = PRODUCT.replace("(X, s, z)", "(X, si, zi)").replace("C, z", "C, zi")
    after = unfused(model_of(body.replace("(s, t)", "(si, t)")), X=x)
    assert "q/Dequantize:0 = DequantizeLinear (q, si, zi)" in after.wiring


def test_codes_without_zero_point(model_of, unfused, x):
    body = "q = QuantizeLinear (X, s)" + PRODUCT.removeprefix(QUANTIZE).replace("C, z", "C")
    assert "q/Dequantize:0 = DequantizeLinear (q, s)" in unfused(model_of(body), X=x).wiring


def test_one_scale_in_an_old_opset(model_of, unfused, x):
    unfused(model_of(PRODUCT.replace("(s, t)", "(s, one)"), 12), X=x)


def test_two_activations(model_of, unfused, x):
    body = (
        f"{QUANTIZE} h = Transpose <perm = [0, 2, 1]> (X) r = QuantizeLinear (h, si, zi) "
        "i = MatMulInteger (q, r, z, zi) f = Cast <to = 1> (i) k = Mul (si, s) Y = Mul (f, k)"
    )
    after = unfused(model_of(body, outputs="float[B,S,S] Y"), X=x)
    assert {"q/Dequantize:0 = DequantizeLinear (q, s, z)"} <= set(after.wiring)
    assert "r/Dequantize:0 = DequantizeLinear (r, si, zi)" in after.wiring


def test_what_several_products_read_is_dequantized_once(model_of, unfused, x):
    second = (
        "j = MatMulInteger (q, C, z) g = Cast <to = 1> (j) l = Mul (s, t) v = Mul (g, l) "
        "Y = Add (p, v)"
    )
    after = unfused(model_of(PRODUCT.replace("Y =", "p =") + second), 2, X=x)
    assert after.ops.count("DequantizeLinear") == 2


@pytest.mark.parametrize("chosen", [True, False])
def test_in_bodies(model_of, apply, run_ort, x, chosen):
    branch = (
        "{0} () => (float[B,S,24] {0}Y) {{ {0}i = MatMulInteger (q, C, z) "
        "{0}f = Cast <to = 1> ({0}i) {0}k = Mul (s, t) {0}Y = Mul ({0}f, {0}k) }}"
    )
    branches = f"then_branch = {branch.format('t')}, else_branch = {branch.format('e')}"
    model = model_of(f"{QUANTIZE} Y = If (c) <{branches}>", inputs=f"{INPUTS}, bool c")
    after = apply(PASS, model)
    assert (after.rewrites, after.again) == (2, 0)
    feeds = {"X": x, "c": np.array(chosen)}
    (want,), (have,) = (run_ort(m, feeds) for m in (model, after.model))
    assert relative_difference(want, have) <= PASS.bound


MISSES = {
    "1 sums that are read as they are": (
        f"{QUANTIZE} [mm] i = MatMulInteger (q, C, z) o = Neg (i) Y = Cast <to = 1> (o)",
        "its sums are not cast to float32 and scaled at once",
    ),
    "1 sums that are read twice": (
        f"{QUANTIZE} {SUMS} k = Mul (s, t) p = Mul (f, k) Y = Add (p, f)",
        "its sums are not cast to float32 and scaled at once",
    ),
    "1 a cast to another type": (
        f"{QUANTIZE} [mm] i = MatMulInteger (q, C, z) f = Cast <to = 11> (i) "
        "k = Mul (double, doubles) p = Mul (f, k) Y = Cast <to = 1> (p)",
        "its sums are not cast to float32 and scaled at once",
    ),
    "1 one scale": (
        f"{QUANTIZE} {SUMS} Y = Mul (f, t)",
        "the constant 't' is not the product of both scales",
    ),
    "1 a scale that is computed": (
        f"{QUANTIZE} {SUMS} e = ReduceMax <keepdims = 0> (X) k = Mul (e, t) Y = Mul (f, k)",
        "its scale 'e' is no constant of float32",
    ),
    "2 scales for rows": (
        f"{QUANTIZE} {SUMS} k = Mul (s, column) Y = Mul (f, k)",
        "'column' [24, 1] is not one number for 'C'",
    ),
    "2 two scales of the activation": (
        f"{QUANTIZE} {SUMS} k = Mul (row, t) Y = Mul (f, k)",
        "'row' [1, 24] is not one number for 'q'",
    ),
    "2 more axes": (
        f"{QUANTIZE} {SUMS} k = Mul (s4, t) p = Mul (f, k) Y = Squeeze (p, no)",
        "its scale 's4' may give the product more axes",
    ),
}


@pytest.mark.parametrize("case", MISSES)
def test_near_misses(model_of, apply, case):
    body, reason = MISSES[case]
    rows = f"float[{N},{K}] X" if "column" in body else INPUTS
    model = model_of(body, inputs=rows, outputs=f"float[{N},{N}] Y" if rows != INPUTS else OUTPUTS)
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "no"))
    after = apply(PASS, model)
    assert after.rewrites == 0
    assert [(m.by, m.node, m.reason) for m in after.journal.missed] == [(PASS.name, "mm", reason)]


def test_3_columns_in_an_old_opset(model_of, apply):
    after = apply(PASS, model_of(PRODUCT, 12))
    (miss,) = after.journal.missed
    assert miss.reason == "opset 12 has no DequantizeLinear by columns: it needs 13"


def test_2_scales_for_columns_of_an_activation(model_of, apply):
    body = (
        f"{QUANTIZE} h = Transpose <perm = [0, 2, 1]> (X) r = QuantizeLinear (h, si, zi) "
        "[mm] i = MatMulInteger (q, r, z, zi) f = Cast <to = 1> (i) k = Mul (s, each) "
        "Y = Mul (f, k)"
    )
    after = apply(PASS, model_of(body, inputs="float[B,2,32] X", outputs="float[B,2,2] Y"))
    (miss,) = after.journal.missed
    assert miss.reason == "'each' [2] is not one number for 'r'"


DYNAMIC = (
    "[mm] i = MatMulInteger (q, C, {zero}) f = Cast <to = 1> (i) k = Mul (e, t) Y = Mul (f, k)"
)


@pytest.mark.parametrize("zero", ["y", "w", "z"])
def test_what_is_found_at_run_time_is_passed_over(model_of, apply, zero):
    body = "q, e, y = DynamicQuantizeLinear (X) w = Identity (y)" + DYNAMIC.format(zero=zero)
    after = apply(PASS, model_of(body))
    assert (after.rewrites, after.journal.missed) == (0, [])


def test_onnxruntime_makes_one_op_of_it(model_of, apply, tmp_path):
    """Which it does not of the four before."""
    before = model_of(PRODUCT.replace("Y =", "p =") + " Y = Add (p, b)")
    ran = {}
    for name, model in (("before", before), ("after", apply(PASS, before).model)):
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{name}.onnx")
        options.log_severity_level = 3
        ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        ran[name] = [n.op_type for n in onnx.load(options.optimized_model_filepath).graph.node]
    assert ran["before"] == ["QuantizeLinear", "MatMulInteger", "Cast", "Mul", "Add"]
    assert ran["after"] == ["QuantizeLinear", "MatMulIntegerToFloat", "Add"]


def test_our_own_lowering_takes_it_up(model_of, apply):
    after = apply(PASS, model_of(PRODUCT))
    lowered = apply(LowerIntegerLinear(vnni=True), after.model)
    assert (lowered.rewrites, lowered.journal.missed) == (1, [])
