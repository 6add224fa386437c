"""Weights and other constants: what a model learned is encoded, or it is said why not."""

import ml_dtypes
import numpy as np
import pytest

from sardonyx.compiler.load import load
from sardonyx.models import TINY_BERT, TINY_MPNET, minilm_l3_onnx, seeded_bert
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.gobo.encode import Gobo
from sardonyx.passes.journal import Journal
from sardonyx.passes.scopes import all_constants
from sardonyx.passes.weights import weight_uses

VECTOR = "a vector (bias or normalisation parameter), not a weight matrix"


def floats(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def other(op):
    return f"read by {op}: only weights of MatMul, Gemm and Gather are encoded"


def codes(op, dtype="int8"):
    return f"already quantized: {dtype} read by {op}"


def belongs(op):
    return f"already quantized: belongs to the codes that {op} reads"


def fused(op, why="nothing is known of its parts"):
    return f"inside {op}, which stays fused: {why}"


OTHERS = {
    "Conv": (
        "float[1,8,T] X",
        "Y = Conv (X, W, b)",
        {"W": (floats(8, 8, 3), other("Conv")), "b": (floats(8), VECTOR)},
    ),
    "LSTM": (
        "float[T,1,8] X",
        "Y = LSTM <hidden_size = 4> (X, W, R, b)",
        {
            "W": (floats(1, 16, 8), other("LSTM")),
            "R": (floats(1, 16, 4), other("LSTM")),
            "b": (floats(1, 32), other("LSTM")),
        },
    ),
    "Einsum": (
        "float[1,T,8] X",
        'Y = Einsum <equation = "bth,hk->btk"> (X, W)',
        {"W": (floats(8, 8), other("Einsum"))},
    ),
    "a table that is added": (
        "float[1,T,8] X",
        "Y = Add (X, W)",
        {"W": (floats(5, 8), other("Add"))},
    ),
    "through carriers": (
        "float[1,T,8] X",
        "A = Transpose <perm = [1, 0]> (W)\n B = Identity (A)\n Y = Add (X, B)",
        {"W": (floats(8, 5), other("Add"))},
    ),
    "vectors": (
        "float[1,T,8] X",
        "N = LayerNormalization (X, s, b)\n Y = Mul (N, one)",
        {"s": (floats(8), VECTOR), "b": (floats(8), VECTOR), "one": (np.float32(1), "")},
    ),
    "DequantizeLinear": (
        "float[T,8] X",
        "W = DequantizeLinear <axis = 1> (Q, s, z)\n Y = MatMul (X, W)",
        {
            "Q": (np.ones((8, 4), np.int8), codes("DequantizeLinear")),
            "s": (floats(4), belongs("DequantizeLinear")),
            "z": (np.zeros(4, np.int8), ""),
        },
    ),
    "DequantizeLinear, then Transpose and Gather": (
        "int64[T] X",
        """D = DequantizeLinear (Q, s, z)
           E = Transpose <perm = [1, 0]> (D)
           Y = Gather (E, X)""",
        {
            "Q": (np.ones((8, 4), np.uint8), codes("DequantizeLinear", "uint8")),
            "s": (np.float32(0.5), ""),
            "z": (np.uint8(3), ""),
        },
    ),
    "MatMulInteger": (
        "uint8[T,8] X",
        "I = MatMulInteger (X, Q, z, z)\n F = Cast <to = 1> (I)\n Y = Mul (F, s)",
        {
            "Q": (np.ones((8, 4), np.uint8), codes("MatMulInteger", "uint8")),
            "z": (np.uint8(3), ""),
            "s": (floats(4), VECTOR),
        },
    ),
    "MatMulNBits": (
        "float[T,32] X",
        "Y = com.microsoft.MatMulNBits <K = 32, N = 4, bits = 4, block_size = 16> (X, Q, s)",
        {
            "Q": (np.ones((4, 2, 8), np.uint8), codes("MatMulNBits", "uint8")),
            "s": (floats(8), belongs("MatMulNBits")),
        },
    ),
    "QAttention": (
        "uint8[1,T,8] X",
        "Y = com.microsoft.QAttention <num_heads = 2> (X, Q, b, one, s)",
        {
            "Q": (np.ones((8, 24), np.int8), codes("QAttention")),
            "b": (floats(24), belongs("QAttention")),
            "one": (np.float32(1), ""),
            "s": (floats(24), belongs("QAttention")),
        },
    ),
    "FusedMatMul": (
        "float[T,8] X",
        "Y = com.microsoft.FusedMatMul <transB = 1> (X, W)",
        {"W": (floats(4, 8), fused("FusedMatMul", "no pass took it apart"))},
    ),
    "FusedGemm": (
        "float[T,8] X",
        'Y = com.microsoft.FusedGemm <activation = "Relu"> (X, W, b)',
        {
            "W": (floats(8, 4), fused("FusedGemm", "no pass took it apart")),
            "b": (floats(4), VECTOR),
        },
    ),
    "GemmFastGelu": (
        "float[T,8] X",
        "Y = com.microsoft.GemmFastGelu (X, W, b)",
        {"W": (floats(8, 4), fused("GemmFastGelu")), "b": (floats(4), VECTOR)},
    ),
    "Attention": (
        "float[1,T,8] X",
        "Y = com.microsoft.Attention <num_heads = 2> (X, W, b)",
        {
            "W": (floats(8, 24), fused("Attention", "no pass took it apart")),
            "b": (floats(24), VECTOR),
        },
    ),
    "an op nobody knows": (
        "float[T,8] X",
        "Y = com.microsoft.Mystery (X, W)",
        {"W": (floats(8, 4), other("Mystery"))},
    ),
    "a MatMul of another domain": (
        "float[T,8] X",
        "Y = com.microsoft.MatMul (X, W)",
        {"W": (floats(8, 4), other("MatMul"))},
    ),
}
"""Input, nodes, and for each constant its value and why it stays; no reason: it is not listed."""


@pytest.fixture(scope="module")
def model(contrib):
    """A model of a case above."""

    def make(name):
        declared, text, constants = OTHERS[name]
        values = {key: value for key, (value, _) in constants.items()}
        return contrib(f"g ({declared}) => (float[I,J] Y) {{ {text} }}", **values)

    return make


@pytest.mark.parametrize("name", OTHERS)
def test_why_others_stay(apply, model, name):
    after = apply(Gobo(min_weights=1), model(name))
    assert (after.rewrites, after.journal.encoded) == (0, [])
    reasons = {key: reason for key, (_, reason) in OTHERS[name][2].items() if reason}
    assert after.reasons == reasons
    eligible = {skip.name for skip in after.journal.skipped if skip.eligible}
    assert eligible == {key for key, reason in reasons.items() if reason.startswith("inside")}


@pytest.mark.parametrize("dtype", ["int4", "uint4", "float8_e4m3fn"])
def test_codes_of_newer_types(apply, text_model, dtype):
    text = "g (float[T,8] X) => (float[I,J] Y) { W = DequantizeLinear (Q, s)\n Y = MatMul (X, W) }"
    held = np.ones((8, 4), getattr(ml_dtypes, dtype))
    made = text_model(text, 21, 10, Q=held, s=np.float32(0.5))
    assert apply(Gobo(), made).reasons == {"Q": codes("DequantizeLinear", dtype)}


def test_a_file_that_is_compiled_already(apply, text_model):
    made = text_model(
        "g (float[T,64] X, int64[B] I) => (float[T,96] Y, float[B,64] Z) "
        "{ Y = MatMul (X, W)\n Z = Gather (E, I) }",
        W=floats(64, 96),
        E=floats(100, 64),
    )
    once = apply(Gobo(), made).model
    again = apply(Gobo(min_weights=1), once)
    assert (again.rewrites, again.journal.weights) == (0, 0)
    for name, op in (("W", "GoboMatMul3"), ("E", "GoboGather4")):
        assert again.reasons[f"{name}.indices"] == codes(op, "uint8")
        assert again.reasons[f"{name}.centroids"] == belongs(op)
        assert again.reasons[f"{name}.values"] == belongs(op)
    assert not any(skip.eligible for skip in again.journal.skipped)


def test_a_constant_that_two_read_is_listed_once(apply, contrib):
    made = contrib(
        "g (float[T,8] X) => (float[I,8] Y) { Z = Add (X, W)\n Y = Mul (Z, W) }", W=floats(4, 8)
    )
    skips = apply(Gobo(), made).journal.skipped
    assert [(skip.name, skip.reason) for skip in skips] == [("W", other("Add"))]


def learned(graph):
    """Constants of rank 2 or more whose numbers may be weights: floats, or at most 8 bits."""
    for constant in all_constants(graph):
        name = np.dtype(constant.dtype).name
        narrow = np.dtype(constant.dtype).itemsize == 1 and name != "bool"
        if len(constant.shape) > 1 and (narrow or "float" in name):
            yield constant


def uncovered(model):
    """Names of those that gobo neither encodes nor explains, once equal ones are taken as one."""
    _, graph = load(model)
    LiftConstants().run(graph, Journal())
    held = {constant.name: constant.values.tobytes() for constant in learned(graph)}
    journal = Journal()
    Gobo().run(graph, journal)
    told = {view.constant.name for entry in journal.encoded for view in entry.views}
    told |= {skip.name for skip in journal.skipped}
    contents = {held[name] for name in told & held.keys()}
    return [name for name, values in held.items() if values not in contents]


@pytest.mark.parametrize("name", OTHERS)
def test_every_constant_of_a_case_is_covered(model, name):
    assert uncovered(model(name)) == []


@pytest.mark.parametrize("config", [TINY_BERT, TINY_MPNET], ids=["BERT", "MPNet"])
@pytest.mark.parametrize("opset", [13, 17])
def test_every_constant_of_an_encoder_is_covered(config, opset):
    assert uncovered(seeded_bert(config, 0, pooler=True, opset=opset)) == []


def test_every_constant_of_a_real_model_is_covered():
    assert uncovered(minilm_l3_onnx()) == []


def test_weights_are_all_uses_in_all_bodies(text_model):
    made = text_model(
        """g (float[T,8] X, bool c) => (float[T,8] Y) {
             Z = MatMul (X, W)
             Y = If (c) <
               then_branch = t () => (float[T,8] P) { P = Gemm (Z, W) },
               else_branch = e () => (float[T,8] Q) { Q = MatMul (Z, V) }>
           }""",
        W=floats(8, 8),
        V=floats(8, 8),
    )
    uses = [(use.node.op, use.view.constant.name) for use in weight_uses(load(made)[1])]
    assert uses == [("MatMul", "W"), ("Gemm", "W"), ("MatMul", "V")]
