"""unfuse-gemm: the same outputs from a MatMul and what it needs around it."""

import numpy as np
import pytest

from sardonyx.passes.quantize.insert_qdq import InsertQdq
from sardonyx.passes.unfuse.gemm import UnfuseGemm

PASS = UnfuseGemm()

SHIFTS = {"": None, "5": (5,), "1": (1,), "scalar": (), "1,5": (1, 5), "3,1": (3, 1), "3,5": (3, 5)}
"""Shapes of C that broadcast to [3, 5]."""


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize(
    ("attrs", "a", "w", "ops"),
    [
        ("", (3, 4), (4, 5), "MatMul"),
        ("transA = 1", (4, 3), (4, 5), "Transpose MatMul"),
        ("transB = 1", (3, 4), (5, 4), "Transpose MatMul"),
        ("alpha = 0.5", (3, 4), (4, 5), "MatMul Mul"),
        ("beta = 2.0", (3, 4), (4, 5), "MatMul"),
        ("alpha = 1.0, beta = 1.0, transA = 0, transB = 0", (3, 4), (4, 5), "MatMul"),
        (
            "alpha = -1.5, beta = 0.25, transA = 1, transB = 1",
            (4, 3),
            (5, 4),
            "Transpose Transpose MatMul Mul",
        ),
    ],
)
def test_every_gemm(unfuse, text_model, normal, attrs, a, w, ops, shift):
    held = {"W": normal(*w)}
    if shift:
        held["c"] = normal(*SHIFTS[shift], seed=2)
    text = f"""g (float[{a[0]},{a[1]}] A) => (float[3,5] Y) {{
      Y = Gemm {f"<{attrs}>" if attrs else ""} (A, W{", c" if shift else ""}) }}"""
    after = unfuse(PASS, text_model(text, **held), {"A": normal(*a, seed=1)})
    scaled = " Mul" * ("beta = 2" in attrs or "beta = 0" in attrs)
    assert [n.op_type for n in after.graph.node] == (ops + f"{scaled} Add" * bool(shift)).split()


def test_before_and_after(unfuse, text_model, normal):
    before = text_model(
        """g (float[4,3] A, float[5] c) => (float[3,5] Y) {
             [product] Y = Gemm <alpha = 2.0, beta = 3.0, transA = 1, transB = 1> (A, W, c)
           }""",
        W=normal(5, 4),
    )
    after = unfuse(PASS, before, {"A": normal(4, 3), "c": normal(5)})
    wiring = [(n.op_type, n.name, " ".join(n.input), " ".join(n.output)) for n in after.graph.node]
    assert wiring == [
        ("Transpose", "product/TransB", "W", "product/TransB:0"),
        ("Transpose", "product/TransA", "A", "product/TransA:0"),
        ("MatMul", "product", "product/TransA:0 product/TransB:0", "product/MatMul:0"),
        ("Mul", "product/Alpha", "product/MatMul:0 product/Alpha/factor", "product/Alpha:0"),
        ("Mul", "product/Beta", "c product/Beta/factor", "product/Beta:0"),
        ("Add", "product/Bias", "product/Alpha:0 product/Beta:0", "Y"),
    ]
    notes = [{p.key: p.value for p in node.metadata_props} for node in after.graph.node]
    assert notes == [{"sardonyx.pass": "unfuse-gemm"}] * 6


def test_a_beta_of_0_leaves_c_out(unfuse, text_model, normal):
    before = text_model(
        "g (float[3,4] A) => (float[3,5] Y) { Y = Gemm <beta = 0.0> (A, W, c) }",
        W=normal(4, 5),
        c=normal(5),
    )
    after = unfuse(PASS, before, {"A": normal(3, 4)})
    assert [node.op_type for node in after.graph.node] == ["MatMul"]


def test_the_doc_string_stays(unfuse, text_model, normal):
    before = text_model(
        "g (float[3,4] A) => (float[3,5] Y) { Y = Gemm (A, W, c) }", W=normal(4, 5), c=normal(5)
    )
    before.graph.node[0].doc_string = "a line"
    after = unfuse(PASS, before, {"A": normal(3, 4)})
    assert [node.doc_string for node in after.graph.node] == ["a line", ""]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats(unfuse, text_model, normal, dtype):
    kind = {np.float16: "float16", np.float64: "double"}[dtype]
    before = text_model(
        f"g ({kind}[3,4] A) => ({kind}[3,5] Y) {{ Y = Gemm <alpha = 0.3, beta = 0.7> (A, W, c) }}",
        W=normal(4, 5, dtype=dtype),
        c=normal(5, dtype=dtype),
    )
    bound = 2e-3 if dtype == np.float16 else 0  # float16 rounds to 1e-3
    unfuse(PASS, before, {"A": normal(3, 4, seed=1, dtype=dtype)}, bound)


def test_a_weight_behind_others(unfuse, text_model, normal):
    before = text_model(
        """g (float[3,4] A) => (float[3,5] Y) {
             V = Cast <to = 1> (W)
             U = Transpose (V)
             T = Identity (U)
             Y = Gemm <transB = 1> (A, T)
           }""",
        W=normal(4, 5, dtype=np.float16),
    )
    unfuse(PASS, before, {"A": normal(3, 4)})


def test_two_gemms_of_one_weight_inside_and_out(apply, text_model, normal, run_ort):
    before = text_model(
        """g (float[3,4] A, bool c) => (float[3,5] Y) {
             Z = Gemm (A, W)
             Y = If (c) <
               then_branch = t () => (float[3,5] T) { T = Gemm <alpha = 0.5> (A, W) },
               else_branch = e () => (float[3,5] E) { E = Add (Z, Z) }>
           }""",
        W=normal(4, 5),
    )
    after = apply(PASS, before)
    assert (after.rewrites, after.again) == (2, 0)
    for c in (True, False):
        feeds = {"A": normal(3, 4), "c": np.array(c)}
        (want,), (have,) = run_ort(before, feeds), run_ort(after.model, feeds)
        assert np.abs(want - have).max() <= PASS.bound * np.abs(want).max()


@pytest.mark.parametrize(
    ("inputs", "call", "held"),
    [
        ("float[3,4] A, float[4,5] B", "Gemm (A, B)", {}),
        ("float[4,5] B", "Gemm (W, B)", {"W": (3, 4)}),
        ("float[3,4] A, float[4,5] W", "Gemm (A, W)", {"W": (4, 5)}),
    ],
)
def test_near_miss_1_no_constant_matrix(apply, text_model, normal, inputs, call, held):
    constants = {name: normal(*shape) for name, shape in held.items()}
    before = text_model(f"g ({inputs}) => (float[3,5] Y) {{ Y = {call} }}", **constants)
    after = apply(PASS, before)
    assert (after.rewrites, after.model.graph.node[0].op_type) == (0, "Gemm")


def test_near_miss_1_integers(apply, text_model):
    before = text_model(
        "g (int32[3,4] A) => (int32[3,5] Y) { Y = Gemm (A, W) }", W=np.ones((4, 5), np.int32)
    )
    assert apply(PASS, before).rewrites == 0


def test_the_weight_can_be_encoded(apply, text_model, normal):
    before = text_model(
        "g (float[3,64] A) => (float[3,96] Y) { Y = Gemm <transB = 1> (A, W, c) }",
        W=normal(96, 64),
        c=normal(96),
    )
    done = apply(InsertQdq(activations="dynamic"), apply(PASS, before).model)
    assert [entry.name for entry in done.journal.encoded] == ["W"]
