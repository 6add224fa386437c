"""Encoder graphs without PyTorch: what its TorchScript exporter writes for an eager BERT.

Same operators, order and names; the exporter's Shape/Concat chains before a Reshape become
constant shapes `[0, 0, …]`, which keep batch and sequence symbolic. The meaning is that of the
`transformers` classes BertModel, RobertaModel and MPNetModel; the tests compare with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from sardonyx.models.config import EncoderConfig, parameter_shapes
from sardonyx.models.graph_writer import GraphWriter

Weights: TypeAlias = Callable[[str], NDArray[Any]]
"""PyTorch parameter name -> float array of its PyTorch shape (linears are `[out, in]`)."""

RELATIVE_MAX_DISTANCE = 128
"""Distances from here on share MPNet's last bucket."""


def build_encoder(
    config: EncoderConfig,
    weights: Weights,
    *,
    pooler: bool = False,
    opset: int = 17,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """Build an encoder in the standard ONNX domain.

    Inputs: `config.inputs`, int64 `[batch, sequence]`. Outputs, float32: `last_hidden_state`
    `[batch, sequence, hidden]` and, with `pooler`, `pooler_output` `[batch, hidden]`.
    MatMul weights are stored `[in, out]` under the name of the PyTorch parameter.

    Raises:
        ValueError: the opset is not 13 to 26, or a weight has another shape than the config says.
    """
    if not 13 <= opset <= 26:
        raise ValueError(f"opset {opset} is not between 13 and 26")
    graph = GraphWriter(opset)
    inputs = [graph.input(name, ("batch", "sequence")) for name in config.inputs]
    encoder = _Encoder(config, weights, graph, pooler)
    hidden_state = encoder.encode(*inputs)
    pooled = encoder.pool(hidden_state) if pooler else None
    graph.output(hidden_state, "last_hidden_state", ("batch", "sequence", config.hidden))
    if pooled is not None:
        graph.output(pooled, "pooler_output", ("batch", config.hidden))
    return graph.model(ir_version)


def relative_position_buckets(buckets: int, max_positions: int) -> NDArray[np.int64]:
    """MPNet's bucket of each distance key - query from `1 - max_positions` on, int64 `[2 max - 1]`.

    T5's bidirectional scheme: half of the buckets for each sign; of those, half for the exact
    distances 0, 1, 2, … and the rest logarithmic up to `RELATIVE_MAX_DISTANCE`. Computed in
    float32, as transformers' `MPNetEncoder.relative_position_bucket` does.
    """
    distance = np.arange(1 - max_positions, max_positions)
    half, exact = buckets // 2, buckets // 4
    ratio = np.maximum(np.abs(distance), 1).astype(np.float32) / np.float32(exact)
    scale = np.float32(math.log(RELATIVE_MAX_DISTANCE / exact))
    far = exact + (np.log(ratio) / scale * np.float32(half - exact)).astype(np.int64)
    near = np.abs(distance) < exact
    bucket = np.where(near, np.abs(distance), np.minimum(far, half - 1))
    return np.asarray(bucket + half * (distance > 0), np.int64)


@dataclass(frozen=True)
class _Encoder:
    """Appends an encoder to `graph`; values are passed around by name."""

    config: EncoderConfig
    weights: Weights
    graph: GraphWriter
    pooler: bool

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return parameter_shapes(self.config, pooler=self.pooler)

    def encode(self, input_ids: str, attention_mask: str, token_types: str | None = None) -> str:
        hidden_state = self._embeddings(input_ids, token_types)
        biases = [self._mask_bias(attention_mask)]
        if self.config.relative_buckets:
            biases.insert(0, self._relative_bias(input_ids))
        for index in range(self.config.layers):
            layer, parts = f"encoder.layer.{index}", self.config.parts
            context = self._attention(layer, hidden_state, biases)
            context = self._linear(f"{layer}.{parts.attention_output}", context)
            attended = self._add_norm(f"{layer}.{parts.attention_norm}", context, hidden_state)
            inner = self._linear(f"{layer}.{parts.intermediate}", attended)
            inner = self._gelu(f"{layer}.intermediate.intermediate_act_fn", inner)
            inner = self._linear(f"{layer}.{parts.output}", inner)
            hidden_state = self._add_norm(f"{layer}.{parts.output_norm}", inner, attended)
        return hidden_state

    def pool(self, hidden_state: str) -> str:
        graph = self.graph
        index = graph.constant("pooler", 0)
        first = graph.node("pooler", "Gather", hidden_state, index, axis=1)
        weight, bias = (self._parameter(f"pooler.dense.{kind}") for kind in ("weight", "bias"))
        dense = graph.node("pooler.dense", "Gemm", first, weight, bias, transB=1)
        return graph.node("pooler.activation", "Tanh", dense)

    def _embeddings(self, input_ids: str, token_types: str | None) -> str:
        words = self._lookup("embeddings.word_embeddings", input_ids)
        if token_types is not None:
            types = self._lookup("embeddings.token_type_embeddings", token_types)
            words = self.graph.node("embeddings", "Add", words, types)
        offset = self.config.position_offset
        ids = (
            self._counted_positions(input_ids, offset - 1) if offset else self._positions(input_ids)
        )
        positions = self._lookup("embeddings.position_embeddings", ids)
        return self._add_norm("embeddings.LayerNorm", words, positions)

    def _positions(self, input_ids: str) -> str:
        """0, 1, 2, …: int64 `[1, sequence]`."""
        graph, module = self.graph, "embeddings"
        every = np.arange(self.config.max_positions, dtype=np.int64)[None]
        table = graph.initializer("embeddings.position_ids", every)
        zero, one = (graph.constant(module, [value]) for value in (0, 1))
        length = graph.node(module, "Unsqueeze", self._length(module, input_ids), zero)
        return graph.node(module, "Slice", table, zero, length, one, one)

    def _counted_positions(self, input_ids: str, padding: int) -> str:
        """padding + (1, 2, 3, … over the tokens), padding elsewhere: int64 `[batch, sequence]`.

        As transformers' `create_position_ids_from_input_ids`.
        """
        graph, module = self.graph, "embeddings"
        padding_id = graph.constant(module, padding)
        is_padding = graph.node(module, "Equal", input_ids, padding_id)
        is_token = graph.node(module, "Not", is_padding)
        token = graph.node(module, "Cast", is_token, to=onnx.TensorProto.INT64)
        count = graph.node(module, "CumSum", token, graph.constant(module, 1))
        return graph.node(module, "Add", graph.node(module, "Mul", count, token), padding_id)

    def _mask_bias(self, attention_mask: str) -> str:
        """0 where the mask is 1, the lowest float32 where it is 0: `[batch, 1, 1, sequence]`."""
        graph = self.graph
        mask = attention_mask
        for axis in (1, 2):
            mask = graph.node("", "Unsqueeze", mask, graph.constant("", [axis]))
        mask = graph.node("", "Cast", mask, to=onnx.TensorProto.FLOAT)
        masked = graph.node("", "Sub", graph.constant("", 1, np.float32), mask)
        lowest = graph.constant("", np.finfo(np.float32).min, np.float32)
        return graph.node("", "Mul", masked, lowest)

    def _relative_bias(self, input_ids: str) -> str:
        """MPNet's learned bias of each (query, key) distance: `[1, heads, sequence, sequence]`."""
        graph, module, limit = self.graph, "encoder", self.config.max_positions
        table = relative_position_buckets(self.config.relative_buckets, limit)
        buckets = graph.initializer("encoder.relative_position_buckets", table)
        zero, one = (graph.constant(module, value) for value in (0, 1))
        index = graph.node(module, "Range", zero, self._length(module, input_ids), one)
        key = graph.node(module, "Unsqueeze", index, graph.constant(module, [0]))
        query = graph.node(module, "Unsqueeze", index, graph.constant(module, [1]))
        distance = graph.node(module, "Sub", key, query)
        row = graph.node(module, "Add", distance, graph.constant(module, limit - 1))
        bucket = graph.node(module, "Gather", buckets, row)
        bias = self._lookup("encoder.relative_attention_bias", bucket)
        bias = graph.node(module, "Transpose", bias, perm=[2, 0, 1])
        return graph.node(module, "Unsqueeze", bias, graph.constant(module, [0]))

    def _attention(self, layer: str, hidden_state: str, biases: list[str]) -> str:
        """Context before its output linear, `[batch, sequence, hidden]`."""
        graph, parts = self.graph, self.config.parts
        module = f"{layer}.{parts.query.rpartition('.')[0]}"
        query = self._heads(
            module, self._linear(f"{layer}.{parts.query}", hidden_state), [0, 2, 1, 3]
        )
        key = self._heads(module, self._linear(f"{layer}.{parts.key}", hidden_state), [0, 2, 3, 1])
        value = self._heads(
            module, self._linear(f"{layer}.{parts.value}", hidden_state), [0, 2, 1, 3]
        )
        scores = graph.node(module, "MatMul", query, key)
        root = graph.constant(module, math.sqrt(self.config.head_dim), np.float32)
        scores = graph.node(module, "Div", scores, root)
        for bias in biases:
            scores = graph.node(module, "Add", scores, bias)
        probabilities = graph.node(module, "Softmax", scores, axis=-1)
        context = graph.node(module, "MatMul", probabilities, value)
        context = graph.node(module, "Transpose", context, perm=[0, 2, 1, 3])
        return graph.node(
            module, "Reshape", context, graph.constant(module, [0, 0, self.config.hidden])
        )

    def _heads(self, module: str, value: str, perm: list[int]) -> str:
        shape = self.graph.constant(module, [0, 0, self.config.heads, self.config.head_dim])
        split = self.graph.node(module, "Reshape", value, shape)
        return self.graph.node(module, "Transpose", split, perm=perm)

    def _linear(self, module: str, value: str) -> str:
        weight = self._parameter(f"{module}.weight", transposed=True)
        product = self.graph.node(module, "MatMul", value, weight)
        return self.graph.node(module, "Add", self._parameter(f"{module}.bias"), product)

    def _gelu(self, module: str, value: str) -> str:
        """x (1 + erf(x / √2)) / 2."""
        graph = self.graph
        root, one, half = (graph.constant(module, c, np.float32) for c in (math.sqrt(2), 1, 0.5))
        erf = graph.node(module, "Erf", graph.node(module, "Div", value, root))
        doubled = graph.node(module, "Mul", value, graph.node(module, "Add", erf, one))
        return graph.node(module, "Mul", doubled, half)

    def _add_norm(self, module: str, value: str, residual: str) -> str:
        """LayerNorm(value + residual); the sum belongs to the parent module."""
        total = self.graph.node(module.rpartition(".")[0], "Add", value, residual)
        scale, bias = (self._parameter(f"{module}.{kind}") for kind in ("weight", "bias"))
        if self.graph.opset < 17:
            return self._decomposed_norm(module, total, scale, bias)
        epsilon = self.config.layer_norm_eps
        return self.graph.node(
            module, "LayerNormalization", total, scale, bias, axis=-1, epsilon=epsilon
        )

    def _decomposed_norm(self, module: str, value: str, scale: str, bias: str) -> str:
        graph = self.graph
        two, epsilon = (
            graph.constant(module, c, np.float32) for c in (2, self.config.layer_norm_eps)
        )
        mean = graph.node(module, "ReduceMean", value, axes=[-1])
        centred = graph.node(module, "Sub", value, mean)
        square = graph.node(module, "Pow", centred, two)
        variance = graph.node(module, "ReduceMean", square, axes=[-1])
        deviation = graph.node(module, "Sqrt", graph.node(module, "Add", variance, epsilon))
        normed = graph.node(module, "Div", centred, deviation)
        return graph.node(module, "Add", graph.node(module, "Mul", normed, scale), bias)

    def _length(self, module: str, input_ids: str) -> str:
        """The sequence length, an int64 scalar."""
        shape = self.graph.node(module, "Shape", input_ids)
        return self.graph.node(module, "Gather", shape, self.graph.constant(module, 1), axis=0)

    def _lookup(self, module: str, ids: str) -> str:
        return self.graph.node(module, "Gather", self._parameter(f"{module}.weight"), ids)

    def _parameter(self, name: str, *, transposed: bool = False) -> str:
        value = np.asarray(self.weights(name), dtype=np.float32)
        if value.shape != self._shapes[name]:
            raise ValueError(f"{name} has shape {value.shape}, not {self._shapes[name]}")
        return self.graph.initializer(name, value.T if transposed else value)
