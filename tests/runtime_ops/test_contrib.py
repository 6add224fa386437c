"""Meanings of contrib ops, against onnxruntime's kernels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from sardonyx.runtime_ops.contrib import MEANINGS
from sardonyx.runtime_ops.reference import reference_session

BOUND = 2e-6
"""Relative to the largest output: sums of tens of float32 products in another order."""

B, S, T, P, H, N = 2, 3, 5, 4, 16, 2
X, V, VV = (B, S, H), (H,), (3 * H,)
IDS = np.array([[1, 0, 7], [4, 4, 2]], np.int32)
SEGMENTS = np.array([[0, 1, 1], [1, 0, 0]], np.int32)
MASK = np.array([[1, 1, 0], [0, 1, 2]], np.int32)
LENGTHS = np.array([3, 1], np.int32)
KEYS = np.array([[1, 1, 0, 1, 1], [1, 0, 0, 1, 0]], np.int32)
TABLES = [(8, H), (6, H), (2, H), V, V]
HEADS = {"num_heads": N}
PAST = (B, N, P, H // N)

CASES = {
    "Gelu": ("Gelu", [X], 1, {}),
    "BiasGelu": ("BiasGelu", [X, V], 1, {}),
    "FastGelu": ("FastGelu", [X], 1, {}),
    "FastGelu, bias": ("FastGelu", [X, V], 1, {}),
    "QuickGelu": ("QuickGelu", [X], 1, {}),
    "QuickGelu, alpha": ("QuickGelu", [X], 1, {"alpha": 1.3}),
    "Gelu, two axes": ("Gelu", [(S, H)], 1, {}),
    "BiasGelu, four axes": ("BiasGelu", [(B, N, S, H), V], 1, {}),
    "QuickGelu, alpha of 1": ("QuickGelu", [X], 1, {"alpha": 1.0}),
    "SkipLayerNormalization": ("SkipLayerNormalization", [X, X, V, V], 1, {"epsilon": 1e-5}),
    "SkipLayerNormalization, bias and sum": ("SkipLayerNormalization", [X, X, V, V, V], 4, {}),
    "SkipLayerNormalization, no beta": ("SkipLayerNormalization", [X, (S, H), V], 1, {}),
    "SkipLayerNormalization, bias but no beta": (
        "SkipLayerNormalization",
        [X, (1, S, H), V, None, V],
        4,
        {"epsilon": 1e-5},
    ),
    "SkipLayerNormalization, two axes": (
        "SkipLayerNormalization",
        [(S, H), (S, H), V, V, V],
        4,
        {"epsilon": 0.0},
    ),
    "SkipSimplified, skip of one batch": (
        "SkipSimplifiedLayerNormalization",
        [X, (1, S, H), V],
        4,
        {"epsilon": 1e-3},
    ),
    "SkipSimplified, two axes": ("SkipSimplifiedLayerNormalization", [(S, H), (S, H), V], 1, {}),
    "SkipSimplified": ("SkipSimplifiedLayerNormalization", [X, X, V, V], 4, {"epsilon": 1e-6}),
    "embeddings": ("EmbedLayerNormalization", [IDS, SEGMENTS, *TABLES], 2, {}),
    "embeddings, all": (
        "EmbedLayerNormalization",
        [IDS, SEGMENTS, *TABLES, MASK, IDS % 6],
        3,
        {"epsilon": 1e-5},
    ),
    "embeddings, no segments": (
        "EmbedLayerNormalization",
        [IDS, None, (8, H), (6, H), None, V, V],
        2,
        {},
    ),
    "Attention": ("Attention", [X, (H, 3 * H), VV], 1, HEADS),
    "Attention, lengths": ("Attention", [X, (H, 3 * H), VV, LENGTHS], 1, HEADS),
    "Attention, mask": ("Attention", [X, (H, 3 * H), VV, MASK], 1, HEADS),
    "Attention, past": (
        "Attention",
        [X, (H, 3 * H), VV, None, (2, *PAST)],
        2,
        HEADS | {"unidirectional": 1},
    ),
    "Attention, narrow values": (
        "Attention",
        [X, (H, 40), (40,)],
        1,
        HEADS | {"qkv_hidden_sizes": [16, 16, 8]},
    ),
    "MultiHeadAttention": ("MultiHeadAttention", [X, (B, T, H), (B, T, H)], 1, HEADS),
    "MultiHeadAttention, all": (
        "MultiHeadAttention",
        [X, (B, T, H), (B, T, H), VV, KEYS, (B, N, S, T)],
        1,
        HEADS | {"scale": 0.3, "mask_filter_value": -1e4},
    ),
    "MultiHeadAttention, past": (
        "MultiHeadAttention",
        [X, X, X, VV, None, None, PAST, PAST],
        3,
        HEADS | {"unidirectional": 1},
    ),
    "MultiHeadAttention, keys in heads": (
        "MultiHeadAttention",
        [X, (B, N, T, H // N), (B, N, T, H // N)],
        1,
        HEADS,
    ),
    "MultiHeadAttention, causal on other keys": (
        "MultiHeadAttention",
        [X, (B, T, H), (B, T, H)],
        1,
        HEADS | {"unidirectional": 1},
    ),
    "MultiHeadAttention, causal behind a past": (
        "MultiHeadAttention",
        [X, (B, T, H), (B, T, H), None, None, None, PAST, PAST],
        3,
        HEADS | {"unidirectional": 1},
    ),
    "MultiHeadAttention, a mask below 0": (
        "MultiHeadAttention",
        [X, (B, T, H), (B, T, H), None, KEYS - 1 + (KEYS > 0)],
        1,
        HEADS,
    ),
    "FusedMatMul": ("FusedMatMul", [X, (H, 7)], 1, {"alpha": 0.5}),
    "FusedMatMul, turned": ("FusedMatMul", [(B, H, S), (7, H)], 1, {"transA": 1, "transB": 1}),
    "FusedMatMul, a turned vector": ("FusedMatMul", [(H,), (H, 7)], 1, {"transA": 1}),
    "FusedMatMul, a turned batch": (
        "FusedMatMul",
        [(H, B, S), (B, H, 7)],
        1,
        {"transA": 1, "transBatchA": 1},
    ),
}


def values(item, generator):
    if isinstance(item, tuple):
        return generator.standard_normal(item).astype(np.float32)
    return item


def single_node(op, inputs, outputs, attributes, domain="com.microsoft"):
    """A model of one node."""
    names = [f"i{place}" if item is not None else "" for place, item in enumerate(inputs)]
    results = [f"o{place}" for place in range(outputs)]
    if "Skip" in op and outputs == 4:
        results[1:3] = ["", ""]
    node = helper.make_node(op, names, results, domain=domain, **attributes)
    fed = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(item.dtype), item.shape)
        for name, item in zip(names, inputs, strict=True)
        if item is not None
    ]
    made = [onnx.ValueInfoProto(name=name) for name in results if name]
    for place, value in enumerate(made):
        kind = onnx.TensorProto.INT32 if (op[:5], place) == ("Embed", 1) else onnx.TensorProto.FLOAT
        value.type.tensor_type.elem_type = kind
    graph = helper.make_graph([node], "g", fed, made)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def check(op, inputs, outputs, attributes, run_ort, domain="com.microsoft"):
    model = single_node(op, inputs, outputs, attributes, domain)
    feeds = {f"i{place}": item for place, item in enumerate(inputs) if item is not None}
    wanted, have = run_ort(model, feeds), reference_session(model).run(None, feeds)
    for want, got in zip(wanted, have, strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        assert np.max(np.abs(got - want)) <= BOUND * np.max(np.abs(want))


@pytest.mark.parametrize("case", CASES)
def test_as_onnxruntime(case, run_ort):
    op, inputs, outputs, attributes = CASES[case]
    generator = np.random.default_rng(0)
    check(op, [values(item, generator) for item in inputs], outputs, attributes, run_ort)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", [False, True])
def test_matmul_nbits(bits, zeros, run_ort):
    generator = np.random.default_rng(0)
    k, n, block = 70, 6, 32
    blocks, size = -(-k // block), block * bits // 8
    codes = generator.integers(0, 256, (n, blocks, size)).astype(np.uint8)
    scales = values((n * blocks,), generator)
    packed = generator.integers(0, 256, n * -(-blocks * bits // 8)).astype(np.uint8)
    inputs = [values((3, k), generator), codes, scales, *([packed] if zeros else [])]
    attributes = {"K": k, "N": n, "bits": bits, "block_size": block}
    check("MatMulNBits", inputs, 1, attributes, run_ort)


def test_an_op_that_onnxruntime_writes_into_the_standard_domain(run_ort):
    generator = np.random.default_rng(0)
    inputs = [values(X, generator), values(V, generator)]
    check("SimplifiedLayerNormalization", inputs, 1, {"epsilon": 1e-5}, run_ort, domain="")


INTEGER = "DequantizeLinear DynamicQuantizeMatMul MatMulIntegerToFloat QuantizeLinear"
"""Tested in test_contrib_integer."""


def test_every_meaning_is_tested():
    tested = {op for op, *_ in CASES.values()} | set(INTEGER.split())
    assert tested | {"MatMulNBits", "SimplifiedLayerNormalization"} == MEANINGS.keys()
