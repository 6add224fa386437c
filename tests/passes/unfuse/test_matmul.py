"""unfuse-matmul: the same outputs from standard products; what stays fused, and why."""

import numpy as np
import onnx
import pytest

from sardonyx.passes.fused import ACTIVATIONS
from sardonyx.passes.gobo.encode import Gobo
from sardonyx.passes.unfuse.matmul import UnfuseMatMul

PASS = UnfuseMatMul()

BOUND = 1e-6
"""Relative to the largest output: sums of tens of products in another order."""

PRODUCTS = {
    "": ("2,3,4", "4,5", "2,3,5", "MatMul"),
    "alpha = 0.5": ("2,3,4", "4,5", "2,3,5", "MatMul Mul"),
    "transA = 1": ("2,4,3", "2,4,5", "2,3,5", "Transpose MatMul"),
    "transB = 1, alpha = 3.0": ("2,3,4", "5,4", "2,3,5", "Transpose MatMul Mul"),
    "transA = 1, transB = 1": ("4,3", "5,4", "3,5", "Transpose Transpose MatMul"),
    "transA = 1, alpha = 1.0": ("4", "2,4,5", "2,5", "MatMul"),
    "transB = 1": ("3,4", "4", "3", "MatMul"),
    "transBatchA = 1": ("3,2,4", "2,4,5", "2,3,5", "Transpose MatMul"),
    "transBatchA = 1, transA = 1": ("4,2,6,3", "2,6,4,5", "2,6,3,5", "Transpose MatMul"),
    "transBatchB = 1": ("2,3,4", "4,2,5", "2,3,5", "Transpose MatMul"),
    "transBatchB = 1, transB = 1": ("2,3,4", "5,2,4", "2,3,5", "Transpose MatMul"),
}
"""By attributes: sizes of A, B and the product, and the ops that take its place."""


def sizes(text):
    return [int(size) for size in text.split(",")]


@pytest.mark.parametrize("attrs", PRODUCTS)
@pytest.mark.parametrize("constant", [False, True])
def test_every_product(unfuse, contrib, normal, attrs, constant):
    a, b, y, ops = PRODUCTS[attrs]
    second = "" if constant else f", float[{b}] B"
    text = (
        f"g (float[{a}] A{second}) => (float[{y}] Y) {{ "
        f"Y = com.microsoft.FusedMatMul {f'<{attrs}>' if attrs else ''} (A, B) }}"
    )
    values = {"A": normal(*sizes(a)), "B": normal(*sizes(b), seed=1)}
    held = {"B": values.pop("B")} if constant else {}
    after = unfuse(PASS, contrib(text, **held), values, BOUND)
    assert [node.op_type for node in after.graph.node] == ops.split()
    assert all(node.domain == "" for node in after.graph.node)


GEMM = "alpha = 0.5, beta = 2.0, transA = 1, transB = 1"
ARGUMENTS = "activation_alpha = 0.3, activation_beta = 0.4, activation_gamma = 1.2"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shift", ["", ", c"])
def test_every_gemm(unfuse, contrib, normal, activation, shift):
    text = (
        f"g (float[16,3] A) => (float[3,5] Y) {{ Y = com.microsoft.FusedGemm "
        f'<activation = "{activation}", {GEMM}, {ARGUMENTS}> (A, B{shift}) }}'
    )
    scale = np.float32(25)
    held = {"B": scale * normal(5, 16, seed=1)} | ({"c": scale * normal(5)} if shift else {})
    after = unfuse(PASS, contrib(text, **held), {"A": normal(16, 3)}, BOUND)
    assert [node.op_type for node in after.graph.node] == ["Gemm", activation]


def test_names_and_notes(unfuse, contrib, normal):
    text = (
        "g (float[3,4] A) => (float[3,5] Y) { Y = com.microsoft.FusedMatMul <alpha = 2.0> (A, B) }"
    )
    model = contrib(text, B=normal(4, 5))
    model.graph.node[0].name = "product"
    model.graph.node[0].doc_string = "a line"
    after = unfuse(PASS, model, {"A": normal(3, 4)})
    assert [node.name for node in after.graph.node] == ["product/MatMul", "product/scaled"]
    assert [node.doc_string for node in after.graph.node] == ["", "a line"]
    assert {t.name for t in after.graph.initializer} == {"B", "product/alpha"}


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        ("FusedMatMul <alpha = 2.0> (A, W)", (48, 32)),
        ("FusedMatMul <transB = 1> (A, W)", (32, 48)),
        ('FusedGemm <activation = "Relu"> (A, W)', (48, 32)),
        ('FusedGemm <activation = "Tanh", transB = 1> (A, W)', (32, 48)),
    ],
)
def test_the_weight_can_be_encoded(apply, check_gobo, contrib, normal, call, shape):
    text = f"g (float[3,48] A) => (float[3,32] Y) {{ Y = com.microsoft.{call} }}"
    parts = apply(PASS, contrib(text, W=normal(*shape))).model
    done = check_gobo(parts, {"A": normal(3, 48, seed=1)}, bound=Gobo.bound)
    assert [entry.name for entry in done.journal.encoded] == ["W"]


def test_half_precision(apply, contrib, normal, run_ort):
    text = """g (float16[3,4] A) => (float16[3,5] Y) {
      Y = com.microsoft.FusedMatMul <alpha = 0.3, transB = 1> (A, B) }"""
    model = contrib(text, B=normal(5, 4, dtype=np.float16))
    after = apply(PASS, model)
    feeds = {"A": normal(3, 4, dtype=np.float16, seed=1)}
    (want,), (have,) = (run_ort(m, feeds) for m in (model, after.model))
    assert (after.rewrites, have.dtype) == (1, np.float16)
    assert np.abs(want - have).max() <= 2e-3 * np.abs(want).max()  # float16 rounds to 1e-3


def test_inside_a_branch(unfuse, contrib, normal):
    model = contrib(
        """g (float[B,S,16] X, bool c) => (float[B,S,16] Y) {
             Y = If (c) <
               then_branch = t () => (float[B,S,16] P) {
                 P = com.microsoft.FusedMatMul <transB = 1> (X, W) },
               else_branch = e () => (float[B,S,16] Q) { Q = Neg (X) }>
           }""",
        W=normal(16, 16),
    )
    for chosen in (True, False):
        unfuse(PASS, model, {"X": normal(2, 3, 16), "c": np.array(chosen)}, BOUND)


UNKNOWN = "R = my.Op (X)\n"

NEAR_MISSES = {
    "1 no type": (
        f"{UNKNOWN} P = com.microsoft.FusedMatMul (R, R)\n Y = my.Op (P)",
        "the type of its operands is not known",
    ),
    "1 no rank": (
        f"{UNKNOWN} Y = com.microsoft.FusedMatMul <transA = 1> (R, X)",
        "it turns operand A, whose rank is not known",
    ),
    "2 no batch": (
        "Y = com.microsoft.FusedMatMul <transBatchB = 1> (X, X)",
        "it turns the batch of operand B, which has none",
    ),
    "3 another activation": (
        f'Y = com.microsoft.FusedGemm <activation = "ScaledTanh", {ARGUMENTS}> (X, X)',
        "no standard op is its activation 'ScaledTanh'",
    ),
    "3 no argument": (
        'Y = com.microsoft.FusedGemm <activation = "LeakyRelu"> (X, X)',
        "its activation 'LeakyRelu' lacks an argument",
    ),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses(contrib, kept, name):
    text, reason = NEAR_MISSES[name]
    model = contrib(f"g (float[16,16] X) => (float[16,16] Y) {{ {text} }}")
    if "my." in text:
        model.opset_import.append(onnx.helper.make_opsetid("my", 1))
    assert kept(PASS, model) == reason
