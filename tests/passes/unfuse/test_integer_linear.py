"""unfuse-integer-linear: onnxruntime's products of 8 bits as standard ops."""

import numpy as np
import pytest

from sardonyx.compiler import compile
from sardonyx.passes.unfuse.integer_linear import UnfuseIntegerLinear

PASS = UnfuseIntegerLinear()
K, N = 32, 24
INPUTS, OUTPUTS = f"float[B,S,{K}] X", f"float[B,S,{N}] Y"
LINEAR = "com.microsoft.MatMulIntegerToFloat"
DYNAMIC = "com.microsoft.DynamicQuantizeMatMul"


@pytest.fixture(scope="module")
def held():
    """Constants that the texts name."""
    generator = np.random.default_rng(0)
    codes = generator.integers(-63, 64, (K, N)).astype(np.int8)
    return {
        "s": np.float32(0.03),
        "s1": np.array([0.03], np.float32),
        "z": np.uint8(120),
        "C": codes,
        "U": (codes.astype(int) + 128).astype(np.uint8),
        "u": np.uint8(128),
        "us": generator.integers(100, 150, N).astype(np.uint8),
        "t": (generator.random(N) * 0.01 + 0.001).astype(np.float32),
        "one": np.float32(0.007),
        "b": generator.standard_normal(N).astype(np.float32),
        "each": np.full(K, 0.03, np.float32),
    }


STATIC = "q = QuantizeLinear (X, s, z) [mm] Y = "
TEXTS = {
    "static": (f"{STATIC}{LINEAR} (q, C, s, t, z)", "q, C, z", False),
    "static, bias": (f"{STATIC}{LINEAR} (q, C, s, t, z, , b)", "q, C, z", True),
    "static, a zero point": (f"{STATIC}{LINEAR} (q, U, s, t, z, u, b)", "q, U, z, u", True),
    "static, zero points": (f"{STATIC}{LINEAR} (q, U, s, one, z, us)", "q, U, z, us", False),
    "static, a vector of one": (f"{STATIC}{LINEAR} (q, C, s1, t, z)", "q, C, z", False),
    "dynamic": (f"[mm] Y = {DYNAMIC} (X, C, t)", "Q, C, Z", False),
    "dynamic, one scale": (f"[mm] Y = {DYNAMIC} (X, C, one)", "Q, C, Z", False),
    "dynamic, bias": (f"[mm] Y = {DYNAMIC} (X, C, t, , b)", "Q, C, Z", True),
    "dynamic, zero point": (f"[mm] Y = {DYNAMIC} (X, U, t, u, b)", "Q, U, Z, u", True),
}


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("case", TEXTS)
def test_before_and_after(unfuse, model_of, x, case, opset):
    body, product, biased = TEXTS[case]
    after = unfuse(PASS, model_of(body, opset), {"X": x})
    ops = ["MatMulInteger", "Mul", "Cast", "Mul", *(["Add"] if biased else [])]
    first = "DynamicQuantizeLinear" if "dynamic" in case else "QuantizeLinear"
    assert [node.op_type for node in after.graph.node] == [first, *ops]
    names = {"mm/Quantize:0": "Q", "mm/Quantize/ZeroPoint:0": "Z"}
    read = [names.get(name, name) for name in after.graph.node[1].input]
    assert ", ".join(read) == product
    assert after.graph.node[-1].output[0] == "Y"


STAYS = {
    "2 scales for channels": (f"{STATIC}{LINEAR} (q, C, each, t, z)", 17),
    "2 a scale of unknown size": (f"{STATIC}{LINEAR} (q, C, given, t, z)", 17),
    "3 an old opset": (f"[mm] Y = {DYNAMIC} (X, C, t)", 12),
}


@pytest.mark.parametrize("case", STAYS)
def test_near_misses(apply, model_of, case):
    body, opset = STAYS[case]
    inputs = f"{INPUTS}, float[G] given" if "given" in body else INPUTS
    assert apply(PASS, model_of(body, opset, inputs)).rewrites == 0


def test_1_another_type(apply, contrib, held):
    text = f"g (uint8[B,S,{K}] X) => (float16[B,S,{N}] Y) {{ Y = {LINEAR} (X, C, s, h) }}"
    halves = {"s": np.float16(0.03), "h": held["t"].astype(np.float16)}
    assert apply(PASS, contrib(text, C=held["C"], **halves)).rewrites == 0


def test_its_range_can_be_frozen(model_of, census, x):
    """By the recipe, on both targets."""
    model = model_of(f"[mm] Y = {DYNAMIC} (X, C, t, , b)")
    for target, op in (("portable", "MatMul"), ("cpu", "MatMulIntegerToFloat")):
        made = compile(model, "static", [{"X": x}], target, verify="full")
        counted = census(made.model)
        assert (counted["QuantizeLinear"], counted[op]) == (1, 1)
        assert "DynamicQuantizeMatMul" not in counted
        assert made.report.verification.outputs[0].cosine > 0.999
