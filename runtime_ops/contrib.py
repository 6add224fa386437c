"""Numpy meanings of onnxruntime's contrib ops that exported Transformers hold.

Each takes a node's inputs (None where one is left out) and attributes and returns its outputs, as
onnxruntime documents them in its ContribOperators; float32 in, float32 out. Used by the reference
executor only. Shapes: B batch, S queries, T keys, H hidden, N heads, D = H / N.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sardonyx.runtime_ops.contrib_integer import (
    dequantize_linear,
    dynamic_quantize_matmul,
    matmul_integer_to_float,
    quantize_linear,
)

Array = NDArray[Any]
Optional = Array | None

_NONE: Array = np.empty(0, np.float32)
"""In place of outputs that only training reads."""

_erf = np.vectorize(math.erf, otypes=[np.float64])


def gelu(x: Array, **_: Any) -> tuple[Array]:
    """x Phi(x), with Phi the normal distribution function."""
    return ((x * 0.5 * (1.0 + _erf(x / math.sqrt(2.0)))).astype(x.dtype),)


def bias_gelu(x: Array, bias: Array) -> tuple[Array]:
    """Gelu of x [..., H] + bias [H]."""
    return gelu(x + bias)


def fast_gelu(x: Array, bias: Optional = None) -> tuple[Array]:
    """Gelu's tanh approximation of x + bias."""
    x = x if bias is None else x + bias
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
    return ((0.5 * x * (1.0 + np.tanh(inner))).astype(x.dtype),)


def quick_gelu(x: Array, *, alpha: float = 1.702) -> tuple[Array]:
    """x sigmoid(alpha x)."""
    return ((x / (1.0 + np.exp(-alpha * x))).astype(x.dtype),)


def simplified_layer_norm(x: Array, gamma: Array, **attributes: Any) -> tuple[Array]:
    """x / rms(x) gamma over the last axis."""
    epsilon = attributes.get("epsilon", 1e-5)
    scale = np.sqrt(np.mean(x.astype(np.float64) ** 2, axis=-1, keepdims=True) + epsilon)
    return ((x / scale * gamma).astype(x.dtype),)


def skip_simplified_layer_norm(
    x: Array, skip: Array, gamma: Array, bias: Optional = None, *, epsilon: float = 1e-12
) -> tuple[Array, ...]:
    """Simplified LayerNormalization of x + skip + bias, and that sum as fourth output."""
    total = x + skip if bias is None else x + skip + bias
    return *simplified_layer_norm(total, gamma, epsilon=epsilon), _NONE, _NONE, total


def skip_layer_norm(
    x: Array,
    skip: Array,
    gamma: Array,
    beta: Optional = None,
    bias: Optional = None,
    *,
    epsilon: float = 1e-12,
) -> tuple[Array, ...]:
    """LayerNormalization of x + skip + bias over the last axis, and that sum as fourth output."""
    total = x + skip if bias is None else x + skip + bias
    return _layer_norm(total, gamma, beta, epsilon), _NONE, _NONE, total


def _layer_norm(x: Array, gamma: Array, beta: Optional, epsilon: float) -> Array:
    wide = x.astype(np.float64)
    mean, variance = wide.mean(-1, keepdims=True), wide.var(-1, keepdims=True)
    normal = (wide - mean) / np.sqrt(variance + epsilon) * gamma
    shifted: Array = (normal if beta is None else normal + beta).astype(x.dtype)
    return shifted


def embed_layer_norm(
    ids: Array,
    segments: Optional,
    words: Array,
    positions: Array,
    kinds: Optional,
    gamma: Array,
    beta: Array,
    mask: Optional = None,
    places: Optional = None,
    *,
    epsilon: float = 1e-12,
    **_: Any,
) -> tuple[Array, ...]:
    """LayerNormalization of the embeddings of ids [B, S]; lengths [B] of the mask; their sum."""
    total = words[ids] + positions[np.arange(ids.shape[1]) if places is None else places]
    if kinds is not None:
        total = total + kinds[segments]
    held = np.zeros_like(ids) if mask is None else mask
    lengths = np.asarray(np.sum(held == 1, axis=1), np.int32)
    return _layer_norm(total, gamma, beta, epsilon), lengths, total


def multi_head_attention(
    query: Array,
    key: Array,
    value: Array,
    bias: Optional = None,
    mask: Optional = None,
    attention_bias: Optional = None,
    past_key: Optional = None,
    past_value: Optional = None,
    *,
    num_heads: int,
    **attributes: Any,
) -> tuple[Array, ...]:
    """Attention of query [B, S, H] on key and value [B, T, H] (or [B, N, T, D], split already).

    ``bias`` [3 H] of the three projections; ``mask``: lengths [B], or above 0 where a key counts,
    [B, T] or [B, S, T]; ``attention_bias`` [B or 1, N or 1, S, T] is added to the scores; past keys
    and values [B, N, P, D] come first. ``unidirectional``: query s sees the past and keys up to s,
    the last query all. Returns the output [B, S, H], all keys and all values.
    """
    sizes = [
        query.shape[-1],
        *(t.shape[-1] * (num_heads if t.ndim == 4 else 1) for t in (key, value)),
    ]
    biases = np.split(
        np.zeros(sum(sizes), query.dtype) if bias is None else bias, np.cumsum(sizes)[:2]
    )
    q, k, v = (
        t if t.ndim == 4 else _heads(t + b, num_heads)
        for t, b in zip((query, key, value), biases, strict=True)
    )
    if past_key is not None and past_value is not None:
        k, v = np.concatenate([past_key, k], 2), np.concatenate([past_value, v], 2)
    scores = q @ k.swapaxes(2, 3) * (attributes.get("scale") or 1.0 / math.sqrt(q.shape[-1]))
    scores = scores + _penalty(mask, k.shape[2], attributes.get("mask_filter_value", -10000.0))
    if attention_bias is not None:
        scores = scores + attention_bias
    if attributes.get("unidirectional", 0):
        before = 0 if past_key is None else past_key.shape[2]
        later = np.triu(np.ones(scores.shape[2:], np.bool_), 1 + before)
        later[-1:] = False
        scores = np.where(later, np.finfo(np.float32).min, scores)
    context = _softmax(scores) @ v
    merged = context.swapaxes(1, 2).reshape(*query.shape[:2], -1)
    return merged.astype(query.dtype), k, v


def _heads(x: Array, heads: int) -> Array:
    """[B, T, H] -> [B, N, T, D]."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def _penalty(mask: Optional, keys: int, value: float) -> Array | float:
    """What is added to the scores [B, N, S, T] of keys that do not count."""
    if mask is None:
        return 0.0
    if mask.ndim == 1:
        mask = np.arange(keys) < mask[:, None]
    mask = mask[:, None, None] if mask.ndim == 2 else mask[:, None]
    return np.where(mask > 0, np.float32(0), np.float32(value))


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    shares: Array = powers / powers.sum(-1, keepdims=True)
    return shares


def attention(
    x: Array,
    weights: Array,
    bias: Optional = None,
    mask: Optional = None,
    past: Optional = None,
    attention_bias: Optional = None,
    **attributes: Any,
) -> tuple[Array, Array]:
    """`multi_head_attention` of the three parts of x W; past and present are [2, B, N, T, D]."""
    sizes = attributes.pop("qkv_hidden_sizes", None) or [weights.shape[1] // 3] * 3
    query, key, value = np.split(x @ weights, np.cumsum(sizes)[:2], axis=-1)
    past_key, past_value = (None, None) if past is None else (past[0], past[1])
    output, keys, values = multi_head_attention(
        query, key, value, bias, mask, attention_bias, past_key, past_value, **attributes
    )
    return output, np.stack([keys, values]) if keys.shape == values.shape else keys


def fused_matmul(a: Array, b: Array, **attributes: Any) -> tuple[Array]:
    """alpha A' B', turned where an attribute says so."""
    a, b = _turned(a, "A", attributes), _turned(b, "B", attributes)
    return ((attributes.get("alpha", 1.0) * (a @ b)).astype(a.dtype),)


def _turned(x: Array, side: str, attributes: dict[str, Any]) -> Array:
    """An operand [rows, batch, columns] with its batch first; the last two axes turned, of a vector
    none."""
    if attributes.get(f"transBatch{side}"):
        x = np.moveaxis(x, 0, -2)
    return x.swapaxes(-1, -2) if attributes.get(f"trans{side}") and x.ndim > 1 else x


def matmul_nbits(
    a: Array,
    codes: Array,
    scales: Array,
    zero_points: Optional = None,
    groups: Optional = None,
    bias: Optional = None,
    **attributes: Any,
) -> tuple[Array]:
    """A W, where W [K, N] is stored by columns in blocks of codes, low bits first in each byte."""
    if groups is not None:
        raise NotImplementedError("MatMulNBits with group indices has no numpy meaning here")
    rows, columns, bits = attributes["K"], attributes["N"], attributes.get("bits", 4)
    block = attributes["block_size"]
    blocks = -(-rows // block)
    values = _unpack(codes.reshape(columns, blocks, -1), bits)[..., :block].astype(a.dtype)
    zeros: Array = np.full((columns, blocks), 1 << bits - 1)
    if zero_points is not None and zero_points.dtype == np.uint8:
        zeros = _unpack(zero_points.reshape(columns, -1), bits)[:, :blocks]
    elif zero_points is not None:
        zeros = zero_points.reshape(columns, blocks)
    values = (values - zeros[..., None].astype(a.dtype)) * scales.reshape(columns, blocks, 1)
    product = a @ values.reshape(columns, -1)[:, :rows].T.astype(a.dtype)
    return (product if bias is None else product + bias,)


def _unpack(data: Array, bits: int) -> Array:
    """Codes of ``bits`` bits in the last axis of bytes, low bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes: Array = (data[..., None] >> shifts & np.uint8((1 << bits) - 1)).reshape(
        *data.shape[:-1], -1
    )
    return codes


MEANINGS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "Attention": attention,
    "BiasGelu": bias_gelu,
    "DequantizeLinear": dequantize_linear,
    "DynamicQuantizeMatMul": dynamic_quantize_matmul,
    "EmbedLayerNormalization": embed_layer_norm,
    "FastGelu": fast_gelu,
    "FusedMatMul": fused_matmul,
    "Gelu": gelu,
    "MatMulIntegerToFloat": matmul_integer_to_float,
    "MatMulNBits": matmul_nbits,
    "MultiHeadAttention": multi_head_attention,
    "QuantizeLinear": quantize_linear,
    "QuickGelu": quick_gelu,
    "SimplifiedLayerNormalization": simplified_layer_norm,
    "SkipLayerNormalization": skip_layer_norm,
    "SkipSimplifiedLayerNormalization": skip_simplified_layer_norm,
}
"""By op of the domain ``com.microsoft``."""
