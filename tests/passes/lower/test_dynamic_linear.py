"""lower-dynamic-linear: MatMulIntegerToFloat behind DynamicQuantizeLinear -> one op."""

import numpy as np
import pytest

from sardonyx.passes.lower.dynamic_linear import LowerDynamicLinear
from sardonyx.runtime_ops.reference import reference_session

PASS = LowerDynamicLinear()
K, N = 16, 8
ENDS = f"(float[B,{K}] X) => (float[B,{N}] Y"
LINEAR = "com.microsoft.MatMulIntegerToFloat"


@pytest.fixture(scope="module")
def held():
    generator = np.random.default_rng(0)
    return {
        "C": generator.integers(-63, 64, (K, N)).astype(np.int8),
        "D": generator.integers(-63, 64, (K, N)).astype(np.int8),
        "t": generator.random(N, np.float32),
        "b": generator.random(N, np.float32),
        "s1": np.float32(0.1),
        "w": np.int8(0),
    }


@pytest.fixture
def model_of(contrib, held):
    def make(body, others=""):
        words = set(body.replace(",", " ").replace(")", " ").replace("(", " ").split())
        given = {name: value for name, value in held.items() if name in words}
        text = f"g {ENDS}{others}) {{ q, s, z = DynamicQuantizeLinear (X) {body} }}"
        return contrib(text, **given)

    return make


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((5, K)).astype(np.float32)


OPERANDS = {
    "bias": ("q, C, s, t, z, , b", ["X", "C", "t", "", "b"]),
    "none": ("q, C, s, t, z", ["X", "C", "t"]),
    "zero point": ("q, C, s, t, z, w", ["X", "C", "t", "w"]),
    "all": ("q, C, s, t, z, w, b", ["X", "C", "t", "w", "b"]),
}


@pytest.mark.parametrize("case", OPERANDS)
def test_text(model_of, apply, run_ort, x, case):
    """Bit for bit."""
    given, wanted = OPERANDS[case]
    model = model_of(f"[mm] Y = {LINEAR} ({given})")
    after = apply(PASS, model)
    assert (after.rewrites, after.again) == (1, 0)
    (node,) = after.model.graph.node
    assert (node.domain, node.op_type) == ("com.microsoft", "DynamicQuantizeMatMul")
    assert (node.name, list(node.input)) == ("mm", wanted)
    (entry,) = after.journal.fused
    assert (entry.node, entry.op, entry.replaced) == ("mm", node.op_type, 2)
    assert entry.reason.startswith("dynamic range of one product")
    (want,), (have,) = (run_ort(m, {"X": x}) for m in (model, after.model))
    np.testing.assert_array_equal(have, want)
    np.testing.assert_array_equal(reference_session(after.model).run(None, {"X": x})[0], want)


LEFT = {
    "1 two products": (
        f"v = {LINEAR} (q, C, s, t, z) u = {LINEAR} (q, D, s, t, z) Y = Add (v, u)", "",
    ),
    "1 its scale is read": (f"v = {LINEAR} (q, C, s, t, z) Y = Mul (v, s)", ""),
    "1 its zero point is an output": (f"Y = {LINEAR} (q, C, s, t, z)", ", uint8 z"),
    "another scale": (f"Y = {LINEAR} (q, C, s1, t, z)", ""),
    "no zero point": (f"Y = {LINEAR} (q, C, s, t)", ""),
    "2 in a body": (
        f"c = Cast <to = 9> (z) Y = If (c) <then_branch = a () => (float[B,{N}] A) "
        f"{{ A = {LINEAR} (q, C, s, t, z) }}, else_branch = e () => (float[B,{N}] E) "
        f"{{ E = {LINEAR} (q, D, s, t, z) }}>",
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT)
def test_near_misses(model_of, apply, case):
    assert apply(PASS, model_of(*LEFT[case])).rewrites == 0


def test_in_a_body_of_its_own(contrib, held, apply, run_ort, x):
    body = f"q, s, z = DynamicQuantizeLinear (X) {{0}} = {LINEAR} (q, C, s, t, z)"
    text = f"""g (float[B,{K}] X, bool c) => (float[B,{N}] Y) {{
      Y = If (c) <then_branch = a () => (float[B,{N}] A) {{ {body.format("A")} }},
                  else_branch = e () => (float[B,{N}] E) {{ {body.format("E")} }}>
    }}"""
    model = contrib(text, C=held["C"], t=held["t"])
    after = apply(PASS, model)
    assert (after.rewrites, after.again) == (2, 0)
    feeds = {"X": x, "c": np.array(True)}
    np.testing.assert_array_equal(*(run_ort(m, feeds)[0] for m in (model, after.model)))
