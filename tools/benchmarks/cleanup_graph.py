"""A Transformer encoder of any length that holds, in every layer, what cleanup passes remove."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from sardonyx.models.graph_writer import GraphWriter

WIDTH = 16
HEADS = 2
ROWS = 32

OPSET = 17


def redundant_encoder(nodes: int) -> onnx.ModelProto:
    """As many layers as make at least ``nodes`` nodes, Constant nodes aside."""
    graph = _Encoder()
    while graph.count < nodes:
        graph.layer()
    return graph.model()


class _Encoder:
    """Values are passed around by name."""

    def __init__(self) -> None:
        self.graph = GraphWriter(OPSET)
        self.values = np.random.default_rng(0)
        self.count = 0
        self.layers = 0
        self.input = self.graph.input("input_ids", ("batch", "sequence"))
        self.module = "embeddings"
        self.state = self.op("Gather", self.weights(ROWS, WIDTH), self.input)

    def model(self) -> onnx.ModelProto:
        """The model of the layers so far."""
        self.graph.output(self.state, "last_hidden_state", ("batch", "sequence", WIDTH))
        return self.graph.model(ir_version=8)

    def layer(self) -> None:
        """Attention and a linear with Relu, each added to the state: QDQ before every product."""
        self.module = f"encoder.layer.{self.layers}"
        self.layers += 1
        query, key, value = (self.heads(self.linear(self.state)) for _ in range(3))
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))
        scores = self.op("Softmax", self.op("Identity", scores), axis=-1)
        context = self.op("Transpose", self.op("MatMul", scores, value), perm=[0, 2, 1, 3])
        context = self.op("Reshape", context, self.shape([WIDTH]))
        attended = self.op("Add", self.no_ops(self.linear(context)), self.state)
        inner = self.linear(self.op("Relu", self.linear(attended)))
        self.op("Neg", inner)  # nothing reads it
        self.state = self.op("LayerNormalization", self.op("Add", inner, attended), self.ones())

    def linear(self, value: str) -> str:
        """A product by a weight, both quantized and dequantized."""
        product = self.op("MatMul", self.qdq(value), self.weight())
        return self.op("Add", product, self.weights(WIDTH))

    def heads(self, value: str) -> str:
        """[batch, sequence, width] -> [batch, heads, sequence, head width], by computed sizes."""
        split = self.op("Reshape", value, self.shape([HEADS, WIDTH // HEADS]))
        return self.op("Transpose", split, perm=[0, 2, 1, 3])

    def shape(self, ends: list[int]) -> str:
        """Batch, sequence and further sizes: computed anew each time, as exporters do."""
        sizes = []
        for axis in range(2):
            length = self.op("Gather", self.op("Shape", self.input), self.constant(axis))
            sizes.append(self.op("Unsqueeze", length, self.constant([0])))
        return self.op("Concat", *sizes, *(self.constant([end]) for end in ends), axis=0)

    def qdq(self, value: str) -> str:
        """Through 8 bits and back, twice."""
        for _ in range(2):
            scale = self.constant(0.05, np.float32), self.constant(128, np.uint8)
            value = self.op("QuantizeLinear", value, *scale)
            value = self.op("DequantizeLinear", value, *scale)
        return value

    def weight(self) -> str:
        """A square weight as 8-bit integers."""
        held = self.values.integers(-127, 128, (WIDTH, WIDTH)).astype(np.int8)
        integers = self.graph.initializer(f"{self.module}.weight.{self.count}", held)
        scale = self.constant(0.002, np.float32), self.constant(0, np.int8)
        return self.op("DequantizeLinear", integers, *scale)

    def no_ops(self, value: str) -> str:
        """What changes nothing."""
        value = self.op("Cast", self.op("Dropout", value), to=TensorProto.FLOAT)
        there = self.op("Transpose", value, perm=[1, 0, 2])
        back = self.op("Transpose", there, perm=[1, 0, 2])
        tall = self.op("Unsqueeze", back, self.constant([1]))
        return self.op("Squeeze", tall, self.constant([1]))

    def ones(self) -> str:
        """A scale, computed from constants."""
        return self.op("Add", self.weights(WIDTH), self.constant(1, np.float32))

    def weights(self, *shape: int) -> str:
        """A new initializer."""
        held = 0.1 * self.values.standard_normal(shape, np.float32)
        return self.graph.initializer(f"{self.module}.values.{self.count}.{shape[0]}", held)

    def constant(self, value: object, dtype: type = np.int64) -> str:
        """A Constant node."""
        return self.graph.constant(self.module, value, dtype)

    def op(self, op: str, *operands: str, **attributes: object) -> str:
        """A node that counts."""
        self.count += 1
        return self.graph.node(self.module, op, *operands, **attributes)
