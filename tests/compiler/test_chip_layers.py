"""Graphs as layers: products in every form, and all that is not free."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.compiler.chip_layers import layers_of
from sardonyx.compiler.chip_sizes import OpenSizes
from sardonyx.compiler.chip_values import ChipValues
from sardonyx.compiler.load import load
from sardonyx.compiler.pipeline import compile
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.journal import Journal
from sardonyx.runtime_ops.accelerator.work import Product, Value, Vector
from sardonyx.runtime_ops.errors import InputError


@pytest.fixture
def layers():
    """Layers of a model at batch 2 and sequence 8."""

    def make(model):
        _, graph = load(model)
        LiftConstants().run(graph, Journal())
        sizes = OpenSizes(graph)
        return layers_of(ChipValues(graph, sizes.at(2, 8)))

    return make


def codes(*shape, dtype=np.int8):
    return np.ones(shape, dtype)


def test_a_weight_in_floats(layers, text_model, normal):
    model = text_model(
        "g (float[B,S,64] X) => (float[B,S,96] Y) { Y = MatMul (X, W) }", W=normal(64, 96)
    )
    (layer,) = layers(model)
    assert layer.work == Product(16, 64, 96, True, "float32", 32)
    assert (layer.op, layer.on, layer.shape) == ("MatMul", "array", "16x64 * 64x96")
    assert layer.reads == (Value("X", 4 * 16 * 64),)
    assert layer.writes == (Value("Y", 4 * 16 * 96),)


def test_a_weight_in_gobo_form(layers, text_model, normal):
    weights = normal(128, 40)
    weights[3, [0, 17, 18]] = 9
    model = text_model("g (float[B,S,128] X) => (float[B,S,40] Y) { Y = MatMul (X, W) }", W=weights)
    (layer,) = layers(compile(model, "gobo").model)
    assert layer.op == "GoboMatMul3"
    assert layer.work == Product(
        16, 128, 40, True, "codebook", 3, outliers=(1, 2, 0), table_bytes=32
    )


def test_products_of_activations(layers, text_model):
    model = text_model(
        "g (float[B,3,S,4] Q, float[B,3,4,S] K) => (float[B,3,S,S] Y) { Y = MatMul (Q, K) }"
    )
    (layer,) = layers(model)
    assert layer.work == Product(8, 4, 8, False, "float32", 32, count=6)
    assert [value.name for value in layer.reads] == ["Q", "K"]


def test_gemm_turns_its_operands_and_adds(layers, text_model, normal):
    model = text_model(
        "g (float[B,64] X) => (float[B,96] Y) { Y = Gemm <transB = 1> (X, W, C) }",
        W=normal(96, 64),
        C=normal(96),
    )
    product, bias = layers(model)
    assert product.work == Product(2, 64, 96, True, "float32", 32)
    assert bias.op == "Bias"
    assert bias.work == Vector(2 * 96, 4 * 192, 4 * 192, "arithmetic", 4 * 96, 4 * 96)
    assert product.writes == bias.reads != bias.writes


QDQ = """g (float[B,S,64] X) => (float[B,S,96] Y) {
    A = QuantizeLinear (X, s, z)
    B = DequantizeLinear (A, s, z)
    V = DequantizeLinear (W, t)
    Y = MatMul (B, V)
}"""
SCALES = {"s": np.float32(0.1), "t": np.float32(0.1)}


@pytest.mark.parametrize(
    ("zero", "weight", "form", "bits"),
    [
        (np.uint8(3), np.int8, "int8", 8),
        (np.uint16(3), np.int8, "int16", 8),
        (np.uint16(3), np.int16, "int16", 16),
    ],
)
def test_quantized_operands_are_a_product_of_integers(layers, text_model, zero, weight, form, bits):
    """Decoding them is no work; turning sums into floats is."""
    model = text_model(QDQ, opset=21, W=codes(64, 96, dtype=weight), z=zero, **SCALES)
    quantize, product, rescale = layers(model)
    assert (quantize.op, quantize.work.operations) == ("QuantizeLinear", 3 * 16 * 64)
    assert quantize.work.bytes_out == 16 * 64 * zero.itemsize
    assert product.work == Product(16, 64, 96, True, form, bits)
    assert product.reads == quantize.writes
    assert (rescale.op, rescale.work.operations) == ("Rescale", 2 * 16 * 96)
    assert rescale.writes == (Value("Y", 4 * 16 * 96),)


def test_a_decoded_activation_that_others_read_is_work(layers, text_model):
    text = QDQ.replace("=> (", "=> (float[B,S,64] Z, ").replace("Y = ", "Z = Neg (B)\n    Y = ")
    model = text_model(text, opset=21, W=codes(64, 96), z=np.uint8(3), **SCALES)
    assert [layer.op for layer in layers(model)] == [
        "QuantizeLinear",
        "DequantizeLinear",
        "Neg",
        "MatMul",
        "Rescale",
    ]


def test_a_weight_alone_in_integers_is_stored_as_floats(layers, text_model):
    model = text_model(
        """g (float[B,S,64] X) => (float[B,S,96] Y) {
            V = DequantizeLinear (W, t)
            Y = MatMul (X, V)
        }""",
        W=codes(64, 96),
        t=np.float32(0.1),
    )
    (layer,) = layers(model)
    assert layer.work == Product(16, 64, 96, True, "float32", 32)


def test_integer_ops(layers, contrib):
    model = contrib(
        """g (float[B,S,64] X) => (float[B,S,96] Y, int32[B,S,96] Z) {
            A, s, z = DynamicQuantizeLinear (X)
            Z = MatMulInteger (A, W, z)
            Y = com.microsoft.MatMulIntegerToFloat (A, W, s, t, z)
        }""",
        W=codes(64, 96),
        t=np.float32(0.1),
    )
    quantize, integer, scaled, rescale = layers(model)
    assert quantize.work.operations == 5 * 16 * 64
    assert integer.work == scaled.work == Product(16, 64, 96, True, "int8", 8)
    assert rescale.work.operations == 2 * 16 * 96


def test_dynamic_quantization_inside_an_op(layers, contrib):
    model = contrib(
        "g (float[B,S,64] X) => (float[B,S,96] Y)"
        "{ Y = com.microsoft.DynamicQuantizeMatMul (X, W, t) }",
        W=codes(64, 96),
        t=np.float32(0.1),
    )
    quantize, product, rescale = layers(model)
    assert (quantize.op, quantize.work.operations) == ("DynamicQuantizeLinear", 5 * 16 * 64)
    assert product.work == Product(16, 64, 96, True, "int8", 8)
    assert product.reads == quantize.writes
    assert product.reads[0].nbytes == 16 * 64
    assert rescale.reads == product.writes


def test_a_convolution_is_unfolded(layers, text_model, normal):
    model = text_model(
        """g (float[B,6,S] X) => (float[B,10,S] Y) {
            Y = Conv <group = 2, pads = [1, 1], kernel_shape = [3]> (X, W, C)
        }""",
        W=normal(10, 3, 3),
        C=normal(10),
    )
    product, bias = layers(model)
    assert product.work == Product(16, 9, 5, True, "float32", 32, count=2)
    assert bias.work.operations == 2 * 10 * 8


def test_lookups_read_the_rows_they_take(layers, text_model, normal):
    text = "g (int64[B,S] I) => (float[B,S,64] Y) { Y = Gather (W, I) }"
    (layer,) = layers(text_model(text, W=normal(1000, 64)))
    row = 16 * 64 * 4
    assert layer.work == Vector(0, 16 * 8, row, "lookup", row, row)
    weights = normal(1000, 64)
    weights[:7, 1] = 9
    (layer,) = layers(compile(text_model(text, W=weights), "gobo").model)
    assert layer.op == "GoboGather4"
    assert layer.work == Vector(16 * 64, 16 * 8, row, "lookup", 16 * (32 + 5), row)


def test_what_is_taken_of_an_activation(layers, text_model):
    model = text_model(
        "g (float[B,S,64] X) => (float[B,64] Y) { Y = Gather <axis = 1> (X, I) }",
        I=np.int64(0),
    )
    (layer,) = layers(model)
    assert layer.work == Vector(0, 4 * 128, 4 * 128, "lookup")
    assert layer.reads == (Value("X", 4 * 128),)


def test_what_is_known_before_the_run_is_stored(layers, text_model, normal):
    model = text_model(
        """g (float[B,S,64] X) => (float[B,S,64] Y) {
            D = Shape (X)
            O = ConstantOfShape (D)
            P = Exp (O)
            Z = Add (X, P)
            Y = Mul (Z, c)
        }""",
        c=np.float32(2),
    )
    add, multiply = layers(model)
    assert (add.work.bytes_in, add.work.stored_bytes) == (4 * 1024, 4 * 1024)
    assert multiply.work.stored_bytes == 0  # a lone number
    assert add.reads == (Value("X", 4 * 1024),)


def test_reshape_is_free_and_keeps_its_place(layers, text_model):
    model = text_model(
        """g (float[B,S,64] X) => (float[B,S,8,8] Y) {
            Z = Exp (X)
            R = Reshape (Z, n)
            Y = Transpose <perm = [0, 1, 3, 2]> (R)
        }""",
        n=np.array([0, 0, 8, 8]),
    )
    special, move = layers(model)
    assert (special.work.kind, special.work.operations) == ("special", 1024)
    assert (move.work.kind, move.work.operations) == ("move", 0)
    assert move.reads == special.writes == (Value("Z", 4096),)


def test_an_output_that_is_read_too_leaves_the_chip(layers, text_model):
    model = text_model(
        "g (float[B,S] X) => (float[B,S] Y, float[B,S] Z) { Y = Abs (X) Z = Neg (Y) }"
    )
    _, left, _ = layers(model)
    assert left.op == "Output"
    assert left.work == Vector(0, 64, 64, "move")
    assert (left.reads, left.writes) == ((Value("Y", 64),), (Value("Y (output)", 64),))


def test_what_nobody_reads_is_no_work(layers, text_model, normal):
    model = text_model(
        "g (float[B,S,64] X) => (float[B,S,64] Y) { Z = MatMul (X, W) Y = Abs (X) }",
        W=normal(64, 96),
    )
    assert [layer.op for layer in layers(model)] == ["Abs"]


def test_ops_without_a_unit_are_the_hosts(layers, text_model):
    model = text_model("g (float[B,S] X) => (float[B,S] Y) { Y = Acosh (X) }")
    (layer,) = layers(model)
    assert (layer.op, layer.on) == ("Acosh", "host")
    assert layer.work == Vector(16, 64, 64, "arithmetic")


ATTENTION = """g (float[B,S,8] Q, float[B,S,8] K, float[B,S,8] V, float[S,S] M)
    => (float[B,S,8] Y) {{ Y = {op} (Q, K, V{mask}) }}"""


@pytest.mark.parametrize(
    ("op", "mask", "opset"),
    [
        ("Attention <q_num_heads = 2, kv_num_heads = 2>", ", M", 23),
        ("com.microsoft.MultiHeadAttention <num_heads = 2>", "", 17),
    ],
)
def test_fused_attention_is_two_products_and_a_softmax(layers, contrib, op, mask, opset):
    model = contrib(ATTENTION.format(op=op, mask=mask), opset)
    scores, masked, softmax, context = layers(model)
    assert scores.work == Product(8, 4, 8, False, "float32", 32, count=4)
    assert context.work == Product(8, 8, 4, False, "float32", 32, count=4)
    assert masked.work.operations == 2 * 4 * 64
    assert (softmax.op, softmax.work.operations) == ("Softmax", 3 * 4 * 64)
    assert softmax.work.kind == "special"
    assert context.writes == (Value("Y", 4 * 16 * 8),)
    assert ("M" in [value.name for value in masked.reads]) == bool(mask)


def test_work_that_cannot_be_counted_is_refused(layers, contrib, text_model, normal):
    packed = contrib(
        """g (float[B,S,8] X) => (float[B,S,8] Y) {
            Y = com.microsoft.Attention <num_heads = 2> (X, W, C)
        }""",
        W=normal(8, 24),
        C=normal(24),
    )
    with pytest.raises(InputError, match=r"com\.microsoft\.Attention.* target portable"):
        layers(packed)
    chosen = text_model(
        """g (float[B,S] X, bool[1] c) => (float[B,S] Y) {
            Y = If (c) <then_branch = t () => (float[B,S] P) { P = Abs (X) },
                        else_branch = e () => (float[B,S] Q) { Q = Neg (X) }>
        }"""
    )
    with pytest.raises(InputError, match="only running it tells what it does"):
        layers(chosen)
