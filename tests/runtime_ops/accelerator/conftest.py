"""The definition of a whole product, from a weight in the form of the file; BERT as layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sardonyx.runtime_ops.accelerator.scalar import output
from sardonyx.runtime_ops.accelerator.work import Layer, Product, Value, Vector
from sardonyx.runtime_ops.gobo import GoboTensor

Multiply = Callable[[NDArray[Any], GoboTensor], NDArray[np.float32]]


@pytest.fixture(scope="session")
def scalar_product() -> Multiply:
    """``A @ W`` of float32 [M, K], output by output."""

    def run(a: NDArray[Any], tensor: GoboTensor) -> NDArray[np.float32]:
        indices, (k, n) = tensor.unpacked(), tensor.outlier_places()
        out = np.empty((len(a), tensor.columns), np.float32)
        for column in range(tensor.columns):
            own = n == column
            outliers = dict(zip(k[own].tolist(), tensor.values[own], strict=True))
            table = tensor.centroids[tensor.tables[column]]
            for row in range(len(a)):
                with np.errstate(over="ignore", invalid="ignore"):
                    out[row, column] = output(a[row], indices[:, column], table, outliers)
        return out

    return run


class Encoders:
    """Adds layer after layer; values are FP32 [tokens, width]."""

    def __init__(self, tokens: int, width: int, bits: int, outliers: int) -> None:
        self.tokens, self.width, self.bits, self.outliers = tokens, width, bits, outliers
        self.layers: list[Layer] = []

    def value(self, name: str, elements: int) -> Value:
        return Value(name, 4 * elements)

    def dense(self, name: str, x: Value, k: int, n: int) -> Value:
        """A weight, quantized unless ``bits`` is 32."""
        codebook = self.bits < 32
        out = self.value(name, self.tokens * n)
        work = Product(
            self.tokens,
            k,
            n,
            True,
            "codebook" if codebook else "float32",
            self.bits,
            outliers=(self.outliers,) * -(-n // 16) if codebook else (),
            table_bytes=4 << self.bits if codebook else 0,
        )
        self.layers.append(Layer(name, "GoboMatMul", "", work, "array", (x,), (out,)))
        return out

    def batched(self, name: str, a: Value, b: Value, shape: tuple[int, int, int, int]) -> Value:
        count, m, k, n = shape
        out = self.value(name, count * m * n)
        work = Product(m, k, n, False, "float32", 32, count=count)
        self.layers.append(Layer(name, "MatMul", "", work, "array", (a, b), (out,)))
        return out

    def vector(self, name: str, each: int, *values: Value, special: bool = False) -> Value:
        elements = values[0].nbytes // 4
        out = self.value(name, elements)
        work = Vector(
            each * elements,
            sum(value.nbytes for value in values),
            out.nbytes,
            "special" if special else "arithmetic",
        )
        op = name.rpartition("/")[2]
        self.layers.append(Layer(name, op, "", work, "vector", values, (out,)))
        return out

    def encoder(self, name: str, x: Value) -> Value:
        width, tokens, heads = self.width, self.tokens, self.width // 64
        q, k, v = (self.dense(f"{name}/{part}", x, width, width) for part in "qkv")
        scores = self.batched(f"{name}/scores", q, k, (heads, tokens, 64, tokens))
        shares = self.vector(f"{name}/softmax", 2, scores, special=True)
        mixed = self.batched(f"{name}/context", shares, v, (heads, tokens, tokens, 64))
        out = self.dense(f"{name}/out", mixed, width, width)
        x = self.vector(f"{name}/norm1", 8, out, x)
        wide = self.dense(f"{name}/in", x, width, 4 * width)
        wide = self.vector(f"{name}/gelu", 1, wide, special=True)
        narrow = self.dense(f"{name}/ffn", wide, 4 * width, width)
        return self.vector(f"{name}/norm2", 8, narrow, x)


@pytest.fixture
def bert():
    """``bert(tokens, bits=3, width=768, encoders=12)``: layers of all encoders."""

    def layers(tokens: int, bits: int = 3, width: int = 768, encoders: int = 12) -> list[Layer]:
        made = Encoders(tokens, width, bits, outliers=width // 64)
        x = made.value("embeddings", tokens * width)
        for number in range(encoders):
            x = made.encoder(f"encoder{number}", x)
        return made.layers

    return layers
