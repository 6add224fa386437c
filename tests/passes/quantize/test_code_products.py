"""The matrices that codes of an activation meet, as onnxruntime multiplies by them."""

import numpy as np
import pytest

from sardonyx.compiler.load import load
from sardonyx.passes.quantize.code_products import matrices
from sardonyx.passes.within import Within

K, N = 8, 6
FORMS = {
    "sums": "i = MatMulInteger (q, U, z, u) f = Cast <to = 1> (i) k = Mul (s, t) Y = Mul (f, k)",
    "floats": "d = DequantizeLinear (q, s, z) Y = MatMul (d, W)",
    "codes": "w = DequantizeLinear <axis = 1> (C, t) d = DequantizeLinear (q, s, z) "
    "Y = MatMul (d, w)",
    "codes turned": "c = Transpose <perm = [1, 0]> (R) w = DequantizeLinear <axis = 1> (c, t) "
    "d = DequantizeLinear (q, s, z) Y = MatMul (d, w)",
    "turned behind their scales": "w = DequantizeLinear <axis = 0> (R, t) v = Transpose (w) "
    "d = DequantizeLinear (q, s, z) Y = MatMul (d, v)",
    "a zero point": "w = DequantizeLinear (U, one, zero) d = DequantizeLinear (q, s, z) "
    "Y = MatMul (d, w)",
}


@pytest.fixture
def held():
    """Constants that the texts name."""
    generator = np.random.default_rng(0)
    codes = generator.integers(-127, 128, (K, N)).astype(np.int8)
    return {
        "C": codes,
        "R": np.ascontiguousarray(codes.T),
        "U": (codes.astype(int) + 128).astype(np.uint8),
        "u": generator.integers(100, 150, N).astype(np.uint8),
        "zero": np.uint8(120),
        "one": np.float32(0.02),
        "t": (generator.random(N) * 0.01 + 0.001).astype(np.float32),
        "W": generator.standard_normal((K, N)).astype(np.float32),
    }


@pytest.mark.parametrize("case", FORMS)
def test_what_a_unit_vector_is_multiplied_by(text_model, run_ort, held, case):
    """Of x = [0 .. 1 .. 0] onnxruntime gives a row of the matrix."""
    words = set(FORMS[case].replace("(", " ").replace(")", " ").replace(",", " ").split())
    given = {name: value for name, value in held.items() if name in words}
    text = f"q, s, z = DynamicQuantizeLinear (X) {FORMS[case]}"
    model = text_model(f"g (float[M,{K}] X) => (float[M,{N}] Y) {{ {text} }}", **given)
    _, graph = load(model)
    rounding = next(node for node in graph.nodes if node.op == "DynamicQuantizeLinear")
    found = list(matrices(rounding.outputs[0], rounding.outputs[1], Within.of(graph)))
    (want,) = run_ort(model, {"X": np.eye(K, dtype=np.float32)})
    assert [matrix.shape for matrix in found] == [(K, N)]
    np.testing.assert_allclose(found[0], want, rtol=0, atol=2e-6 * np.abs(want).max())
