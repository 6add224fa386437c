"""lower-integer-linear: what standard quantized products become, what stays, and why."""

from types import SimpleNamespace

import numpy as np
import pytest
from onnx import helper, numpy_helper

from sardonyx.compiler.load import load
from sardonyx.compiler.verify import relative_difference
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.journal import Journal
from sardonyx.passes.lower.integer_linear import LowerIntegerLinear
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.reference import reference_session

PASS = LowerIntegerLinear()
K, N = 32, 24
INPUTS, OUTPUTS = f"float[B,S,{K}] X", f"float[B,S,{N}] Y"

READ = "q = QuantizeLinear (X, s, z) d = DequantizeLinear (q, s, z)"
WEIGHT = "w = DequantizeLinear <axis = 1> (C, t)"
STATIC = f"{READ} {WEIGHT} [mm] p = MatMul (d, w)"
DYNAMIC = """
  q, e, y = DynamicQuantizeLinear (X)
  [mm] i = MatMulInteger (q, C, y) f = Cast <to = 1> (i) k = Mul (e, t) p = Mul (f, k)
"""


@pytest.fixture(scope="module")
def held():
    """Constants that the texts name."""
    generator = np.random.default_rng(0)
    scale = (generator.random(N) * 0.01 + 0.001).astype(np.float32)
    codes = generator.integers(-63, 64, (K, N)).astype(np.int8)
    return {
        "s": np.float32(0.03),
        "z": np.uint8(120),
        "n": np.int8(-8),
        "C": codes,
        "R": np.ascontiguousarray(codes.T),
        "U": (codes.astype(int) + 128).astype(np.uint8),
        "u": np.uint8(128),
        "uu": np.full(N, 128, np.uint8),
        "t": scale,
        "one": scale[0],
        "zero": np.int8(0),
        "zeros": np.zeros(N, np.int8),
        "ints": np.zeros(N, np.int32),
        "b": generator.standard_normal(N).astype(np.float32),
        "i32": generator.integers(-5000, 5000, N).astype(np.int32),
        "st": np.float32(0.03) * scale,
        "row": np.ones((1, N), np.float32),
        "each": np.full(K, 0.03, np.float32),
        "zs": np.full(K, 120, np.uint8),
        "C8": np.where(codes == codes.max(), 65, codes).astype(np.int8),
        "C16": codes.astype(np.int16),
        "z16": np.uint16(9),
    }


def nodes_of(model):
    return [
        f"{node.domain}.{node.op_type}".lstrip(".") + f" {' '.join(node.input)}".rstrip()
        for node in model.graph.node
    ]


def constant(model, name):
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


@pytest.fixture
def lowered(apply, run_ort):
    """A model after the pass: once, and computing the same, here and in the reference executor;
    bit for bit what onnxruntime makes of the model before where it also multiplies integers."""

    def check(model, a_pass=PASS, times=1, **feeds):
        after = apply(a_pass, model)
        assert (after.rewrites, after.again, after.journal.missed) == (times, 0, [])
        assert after.model.graph.output == model.graph.output
        (want, *_), (have, *_) = (run_ort(m, feeds) for m in (model, after.model))
        assert relative_difference(want, have) <= a_pass.bound
        np.testing.assert_array_equal(run_ort(model, feeds, optimize=True)[0], have)
        np.testing.assert_array_equal(run_ort(after.model, feeds, optimize=True)[0], have)
        np.testing.assert_array_equal(reference_session(after.model).run(None, feeds)[0], have)
        return after

    return check


QUANTIZE = "com.microsoft.QuantizeLinear X s z"
LINEAR = "com.microsoft.MatMulIntegerToFloat"

STATIC_TEXTS = {
    "no bias": (f"{STATIC} Y = Identity (p)", [QUANTIZE, f"{LINEAR} q/Unsigned C s t z"]),
    "bias": (f"{STATIC} Y = Add (p, b)", [QUANTIZE, f"{LINEAR} q/Unsigned C s t z  b"]),
    "bias first": (f"{STATIC} Y = Add (b, p)", [QUANTIZE, f"{LINEAR} q/Unsigned C s t z  b"]),
    "integer bias": (
        f"{STATIC} r = DequantizeLinear <axis = 0> (i32, st) Y = Add (p, r)",
        [QUANTIZE, f"{LINEAR} q/Unsigned C s t z  i32/Float"],
    ),
    "integer bias with zero points": (
        f"{STATIC} r = DequantizeLinear <axis = 0> (i32, st, ints) Y = Add (p, r)",
        [QUANTIZE, f"{LINEAR} q/Unsigned C s t z  i32/Float"],
    ),
    "per tensor": (
        f"{READ} w = DequantizeLinear (C, one) [mm] Y = MatMul (d, w)",
        [QUANTIZE, f"{LINEAR} q/Unsigned C s one z"],
    ),
    "a zero point of 0": (
        f"{READ} w = DequantizeLinear (C, one, zero) [mm] Y = MatMul (d, w)",
        [QUANTIZE, f"{LINEAR} q/Unsigned C s one z"],
    ),
    "zero points of 0": (
        f"{READ} w = DequantizeLinear <axis = -1> (C, t, zeros) [mm] Y = MatMul (d, w)",
        [QUANTIZE, f"{LINEAR} q/Unsigned C s t z"],
    ),
    "unsigned weights": (
        f"{READ} w = DequantizeLinear <axis = 1> (U, t, uu) [mm] Y = MatMul (d, w)",
        [QUANTIZE, f"{LINEAR} q/Unsigned U s t z uu/One"],
    ),
    "codes turned": (
        f"{READ} c = Transpose <perm = [1, 0]> (R) w = DequantizeLinear <axis = 1> (c, t) "
        "[mm] Y = MatMul (d, w)",
        [QUANTIZE, "Transpose R", f"{LINEAR} q/Unsigned c s t z"],
    ),
}


@pytest.mark.parametrize("opset", [13, 17, 21, 23])
@pytest.mark.parametrize("case", STATIC_TEXTS)
def test_static_text(model_of, lowered, x, case, opset):
    body, wanted = STATIC_TEXTS[case]
    after = lowered(model_of(body, opset), X=x).model
    assert [line for line in nodes_of(after) if not line.startswith("Identity")] == wanted
    assert [n.name for n in after.graph.node if LINEAR.endswith(n.op_type)] == ["mm"]


def test_turned_behind_its_scales(model_of, apply, run_ort, x):
    """onnxruntime takes this one up from opset 21 on only; the pass in all."""
    body = f"{READ} w = DequantizeLinear <axis = 0> (R, t) v = Transpose (w) [mm] Y = MatMul (d, v)"
    model = model_of(body)
    after = apply(PASS, model)
    wanted = [QUANTIZE, "Transpose R", f"{LINEAR} q/Unsigned mm/Codes s t z"]
    assert nodes_of(after.model) == wanted
    (want,), (have,) = (run_ort(m, {"X": x}) for m in (model, after.model))
    assert relative_difference(want, have) <= PASS.bound
    (again,) = run_ort(after.model, {"X": x}, optimize=True)
    np.testing.assert_array_equal(again, have)


def test_signed_activations_become_unsigned(model_of, lowered, x):
    after = lowered(model_of(f"{STATIC} Y = Add (p, b)".replace(", z)", ", n)")), X=x).model
    quantize, product = nodes_of(after)
    assert quantize == "com.microsoft.QuantizeLinear X s n/Unsigned"
    assert product == f"{LINEAR} q/Unsigned C s t n/Unsigned  b"
    assert constant(after, "n/Unsigned") == np.uint8(120)


@pytest.mark.parametrize("zero", ["z", "n"])
def test_another_reader_of_the_activation(model_of, apply, run_ort, x, zero):
    """It is rounded once, and reads the unsigned codes."""
    body = f"{STATIC} e = ReduceSum <keepdims = 1> (d) Y = Add (p, e)".replace(", z)", f", {zero})")
    model = model_of(body)
    after = apply(PASS, model)
    assert [n.op_type for n in after.model.graph.node].count("QuantizeLinear") == 1
    (want,), (have,) = (run_ort(m, {"X": x}) for m in (model, after.model))
    assert relative_difference(want, have) <= PASS.bound


def test_another_reader_of_the_codes(model_of, apply, run_ort, x):
    """One that is no DequantizeLinear reads the codes as they were."""
    model = model_of(
        f"{STATIC} o = Cast <to = 1> (q) e = ReduceSum <keepdims = 1> (o) Y = Add (p, e)".replace(
            ", z)", ", n)"
        )
    )
    after = apply(PASS, model)
    (want,), (have,) = (run_ort(m, {"X": x}) for m in (model, after.model))
    assert relative_difference(want, have) <= PASS.bound
    kinds = [(n.domain, n.op_type) for n in after.model.graph.node]
    assert {("", "QuantizeLinear"), ("com.microsoft", "QuantizeLinear")} <= set(kinds)


def test_codes_that_moved(model_of, lowered, x):
    """Unsigned codes may come from anywhere."""
    body = "q = QuantizeLinear (X, s, z) m = Identity (q) d = DequantizeLinear (m, s, z)"
    after = lowered(model_of(f"{body} {WEIGHT} Y = MatMul (d, w)"), X=x).model
    assert nodes_of(after) == ["QuantizeLinear X s z", "Identity q", f"{LINEAR} m C s t z"]


DYNAMIC_TEXTS = {
    "bias": (f"{DYNAMIC} Y = Add (p, b)", f"{LINEAR} q C e t y  b"),
    "no bias": (f"{DYNAMIC} Y = Identity (p)", f"{LINEAR} q C e t y"),
    "factors turned": (
        f"{DYNAMIC} Y = Add (b, p)".replace("(e, t)", "(t, e)").replace("(f, k)", "(k, f)"),
        f"{LINEAR} q C e t y  b",
    ),
    "zero point": (
        f"{DYNAMIC} Y = Add (p, b)".replace("(q, C, y)", "(q, U, y, u)"),
        f"{LINEAR} q U e t y u/One b",
    ),
    "one scale": (
        f"{DYNAMIC} Y = Add (p, b)".replace("(e, t)", "(e, one)"),
        f"{LINEAR} q C e one y  b",
    ),
}


@pytest.mark.parametrize("opset", [13, 17, 23])
@pytest.mark.parametrize("case", DYNAMIC_TEXTS)
def test_dynamic_text(model_of, lowered, x, case, opset):
    body, wanted = DYNAMIC_TEXTS[case]
    after = lowered(model_of(body, opset), X=x)
    assert nodes_of(after.model)[:2] == ["DynamicQuantizeLinear X", wanted]


def test_reasons(model_of, lowered, x):
    static, dynamic = (
        lowered(model_of(f"{body} Y = Add (p, b)"), X=x).journal.fused for body in (STATIC, DYNAMIC)
    )
    assert [(f.node, f.op, f.replaced) for f in (*static, *dynamic)] == [
        ("mm", "MatMulIntegerToFloat", 2),
        ("mm", "MatMulIntegerToFloat", 4),
    ]
    assert [f.reason.partition(":")[0] for f in (*static, *dynamic)] == [
        "static range",
        "dynamic range",
    ]


def test_three_products_of_one_activation(model_of, lowered, x):
    body = f"{STATIC} o = MatMul (d, w) m = Add (p, o) h = MatMul (d, w) Y = Add (m, h)"
    after = lowered(model_of(body), times=3, X=x).model
    assert [n.op_type for n in after.graph.node].count("QuantizeLinear") == 1


BRANCH = "{0} () => (float[B,S,24] {0}Y) {{ {0}p = MatMul (d, w) {0}Y = Add ({0}p, b) }}"


@pytest.mark.parametrize("chosen", [True, False])
def test_in_two_branches(model_of, apply, run_ort, x, chosen):
    branches = f"then_branch = {BRANCH.format('t')}, else_branch = {BRANCH.format('e')}"
    body = f"{READ} {WEIGHT} Y = If (c) <{branches}>"
    model = model_of(body, inputs=f"{INPUTS}, bool c")
    after = apply(PASS, model)
    assert (after.rewrites, after.again) == (2, 0)
    feeds = {"X": x, "c": np.array(chosen)}
    (want,), (have,) = (run_ort(m, feeds) for m in (model, after.model))
    assert relative_difference(want, have) <= PASS.bound


STAYS_OUTSIDE = {
    "another reader": f"{STATIC} a = Add (p, b) Y = Mul (a, p)",
    "no vector": f"{STATIC} Y = Add (p, row)",
    "no constant": f"{STATIC} e = ReduceMax <keepdims = 1> (X) Y = Add (p, e)",
    "twice itself": f"{STATIC} Y = Add (p, p)",
}


@pytest.mark.parametrize("case", STAYS_OUTSIDE)
def test_sums_that_stay(model_of, lowered, x, case):
    after = lowered(model_of(STAYS_OUTSIDE[case]), X=x).model
    assert "Add" in [node.op_type for node in after.graph.node]
    assert nodes_of(after)[1] == f"{LINEAR} q/Unsigned C s t z"


def test_a_product_that_is_an_output(model_of, lowered, x):
    model = model_of(f"{STATIC} Y = Add (p, b)", outputs=f"{OUTPUTS}, float[B,S,{N}] p")
    assert nodes_of(lowered(model, X=x).model)[-1] == "Add p b"


MISSES = {
    "1 no constant": (
        f"{READ} e = DequantizeLinear (q, s, z) v = Transpose <perm = [0, 2, 1]> (e) "
        "[mm] Y = MatMul (d, v)",
        None,
    ),
    "1 codes that are computed": (
        f"{READ} c = Relu (C) w = DequantizeLinear <axis = 1> (c, t) [mm] Y = MatMul (d, w)",
        "its second operand comes from Relu, and is no constant matrix",
    ),
    "1 scales of rows": (
        f"{READ} w = DequantizeLinear <axis = 0> (C, each) [mm] Y = MatMul (d, w)",
        "'each' has a scale for each row",
    ),
    "1 of 16 bits": (
        f"{READ} w = DequantizeLinear <axis = 1> (C16, t) [mm] Y = MatMul (d, w)",
        "'C16' is int16: not of 8 bits",
    ),
    "2 a scale for each channel": (
        "q = QuantizeLinear <axis = 2> (X, each, zs) d = DequantizeLinear <axis = 2> (q, each, zs) "
        f"{WEIGHT} [mm] Y = MatMul (d, w)",
        "'each' is not one number for the whole activation",
    ),
    "2 activations of 16 bits": (
        "q = QuantizeLinear (X, s, z16) d = DequantizeLinear (q, s, z16) "
        f"{WEIGHT} [mm] Y = MatMul (d, w)",
        "the activation 'q' is uint16, and products take 8 bits",
    ),
    "3 signed codes that moved": (
        f"q = QuantizeLinear (X, s, n) m = Identity (q) d = DequantizeLinear (m, s, n) {WEIGHT} "
        "[mm] Y = MatMul (d, w)",
        "the activation 'm' is signed, and not straight from a QuantizeLinear",
    ),
    "4 8 bits": (
        f"{STATIC} Y = Add (p, b)".replace("C,", "C8,"),
        "the weight 'C8' has codes beyond +-64, whose sums saturate on a processor without VNNI",
    ),
    "4 8 bits, dynamic": (
        f"{DYNAMIC} Y = Add (p, b)".replace("C,", "C8,"),
        "the weight 'C8' has codes beyond +-64, whose sums saturate on a processor without VNNI",
    ),
    "sums read as integers": (
        "q, e, y = DynamicQuantizeLinear (X) [mm] i = MatMulInteger (q, C, y) "
        "o = Neg (i) Y = Cast <to = 1> (o)",
        "its sums are not cast to float32 and scaled at once",
    ),
    "a scale of something else": (
        f"{DYNAMIC} Y = Add (p, b)".replace("Mul (e, t)", "Mul (one, t)"),
        "Mul 'k' is not the product of both scales",
    ),
}


@pytest.mark.parametrize("case", MISSES)
def test_near_misses(model_of, apply, case):
    body, reason = MISSES[case]
    outputs = OUTPUTS if reason else "float[B,S,S] Y"
    after = apply(PASS, model_of(body, opset=21, outputs=outputs))
    assert after.rewrites == 0
    (miss,) = after.journal.missed
    assert (miss.by, miss.node) == ("lower-integer-linear", "mm")
    assert miss.reason == (reason or "Transpose 'v' is no DequantizeLinear of constant codes")


@pytest.mark.parametrize("body", [STATIC, DYNAMIC])
def test_8_bits_with_vnni(model_of, apply, body):
    """The sums are exact there; here they may not be, so nothing is run."""
    model = model_of(f"{body} Y = Add (p, b)".replace("C,", "C8,"))
    assert apply(LowerIntegerLinear(vnni=True), model).rewrites == 1


@pytest.mark.parametrize("body", ["Y = MatMul (X, W)", f"{WEIGHT} Y = MatMul (X, w)"])
def test_products_of_floats_are_passed_over(text_model, held, apply, body):
    held = {name: held[name] for name in ("C", "t")} | {"W": np.ones((K, N), np.float32)}
    after = apply(PASS, text_model(f"g ({INPUTS}) => ({OUTPUTS}) {{ {body} }}", **held))
    assert (after.rewrites, after.journal.missed) == (0, [])


REFUSED = {
    "8 bits": (
        f"{STATIC} Y = Add (p, b)".replace("C,", "C8,"),
        "MatMul 'mm': the weight 'C8' has codes beyond .*; set insert-qdq.weight_bits=7, or "
        "compile for the target cpu-vnni",
    ),
    "8 bits, dynamic": (
        f"{DYNAMIC} Y = Add (p, b)".replace("C,", "C8,"),
        "MatMulInteger 'mm': the weight 'C8' has codes beyond .*; set insert-qdq.weight_bits=7",
    ),
    "16 bits": (MISSES["2 activations of 16 bits"][0], "MatMul 'mm': .* is uint16, and products"),
    "signed": (MISSES["3 signed codes that moved"][0], "; set insert-qdq.signed=false"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_recipe_made_is_refused(model_of, case):
    """Unless another compile made it: its notes stay in the file, and no entry in the journal."""
    body, message = REFUSED[case]
    model = model_of(body, opset=21)
    (node,) = (node for node in model.graph.node if node.name == "mm")
    helper.set_model_props(node, {"sardonyx.pass": "insert-qdq"})
    for kind in ("uniform", "codebook", None):
        _, graph = load(model)
        LiftConstants().run(graph, Journal())
        journal = Journal()
        if kind:
            journal.encoded.append(SimpleNamespace(format=SimpleNamespace(kind=kind)))
        if kind == "uniform":
            with pytest.raises(InputError, match=message):
                PASS.run(graph, journal)
        else:
            assert PASS.run(graph, journal) == 0
            assert len(journal.missed) == 1
