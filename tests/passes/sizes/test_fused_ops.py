"""Sizes behind ops that stand for several: quantized products, attention."""

import numpy as np
import onnx

from sardonyx.compiler.load import load
from sardonyx.passes.sizes import Sizes


def floats(*shape):
    return np.zeros(shape, np.float32)


def test_products_with_4_bit_weights(told, text_model):
    model = text_model(
        """g (float[batch,length,32] X) => (float[B,L,N] Y) {
          Y = com.microsoft.MatMulNBits <K = 32, N = 4, bits = 4, block_size = 16> (X, Q, s)
        }""",
        Q=np.ones((4, 2, 8), np.uint8),
        s=np.ones(8, np.float32),
    )
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    assert told(model, X=floats(2, 3, 32)).shapes["Y"] == "batch, length, 4"


QUANTIZED = """g (float[batch,length,32] X) => (float[B,L,N] Y) {
  Q, s, z = DynamicQuantizeLinear (X)
  I = MatMulInteger (Q, C, z)
  F = com.microsoft.MatMulIntegerToFloat (Q, C, s, t, z)
  D = com.microsoft.DynamicQuantizeMatMul (X, C, t)
  q = QuantizeLinear (X, t, w)
  r = DequantizeLinear (q, t, w)
  p = com.microsoft.QuantizeLinear (X, t, w)
  o = com.microsoft.DequantizeLinear (p, t, w)
  i = Cast <to = 1> (I)
  Y = Sum (i, F, D)
}"""


def test_quantized_products(told, text_model):
    constants = {"C": np.ones((32, 4), np.int8), "t": np.float32(1), "w": np.uint8(3)}
    model = text_model(QUANTIZED, **constants)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    shapes = told(model, X=floats(2, 3, 32)).shapes
    assert {shapes[name] for name in "IFDY"} == {"batch, length, 4"}
    assert {shapes[name] for name in "Qqrpo"} == {"batch, length, 32"}
    assert shapes["s"] == shapes["z"] == ""


ATTENTION = """g (float[batch,query,8] Q, float[batch,key,8] K, float[batch,key,12] V)
    => (float[?,?,?] Y) {
  Y = Attention <q_num_heads = 4, kv_num_heads = HEADS> (Q, K, V)
}"""


def test_attention_of_flat_heads(told, text_model):
    """As wide as its values, where each head of the queries has one of the values."""
    model = text_model(ATTENTION.replace("HEADS", "4"), 23)
    sizes = {"Q": floats(2, 3, 8), "K": floats(2, 5, 8), "V": floats(2, 5, 12)}
    assert told(model, **sizes).shapes["Y"] == "batch, query, 12"


def test_attention_of_shared_heads(text_model):
    _, graph = load(text_model(ATTENTION.replace("HEADS", "2"), 23))
    assert "12" not in str(Sizes(graph).shape(graph.outputs[0]))
