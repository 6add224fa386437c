from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sardonyx.models import (
    TINY_BERT,
    TINY_MPNET,
    EncoderConfig,
    build_encoder,
    minilm_l3_onnx,
    minilm_l6,
    minilm_tokenizer,
    seeded_bert,
    seeded_weights,
)
from sardonyx.models.transformer import relative_position_buckets

OPSETS = (13, 17, 18, 26)
CONFIGS = pytest.mark.parametrize("config", [TINY_BERT, TINY_MPNET], ids=["bert", "mpnet"])
ROUNDING = 2e-6
"""FP32 sums of 64 to 128 unit-sized terms, taken in another order."""


@CONFIGS
def test_every_opset_computes_the_same(config, run_model, padded_feed):
    feed = padded_feed(config)
    models = [seeded_bert(config, 0, pooler=True, opset=opset) for opset in OPSETS]
    for model in models:
        onnx.checker.check_model(model, full_check=True)
    expected, *others = (run_model(model, feed) for model in models)
    assert [output.shape for output in expected] == [(3, 17, 64), (3, 64)]
    for outputs in others:
        for output, reference in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(output, reference, rtol=0, atol=ROUNDING)


@CONFIGS
def test_padding_does_not_change_the_tokens(config, run_model, padded_feed):
    model, feed = seeded_bert(config, 1), padded_feed(config)
    padded = run_model(model, feed)[0]
    for row, length in enumerate(feed["attention_mask"].sum(1)):
        alone = run_model(model, {k: v[row : row + 1, :length] for k, v in feed.items()})[0]
        np.testing.assert_allclose(padded[row, :length], alone[0], rtol=0, atol=ROUNDING)


@CONFIGS
def test_longest_sequence_runs(config, run_model):
    length = config.max_positions - config.position_offset
    ids = np.full((1, length), 7, np.int64)
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids * 0}
    assert np.isfinite(run_model(seeded_bert(config, 0), feed)[0]).all()


def test_graph_reads_as_an_export():
    model = seeded_bert(TINY_BERT, 0, pooler=True)
    names = [node.name for node in model.graph.node]
    assert len(names) == len(set(names))
    assert "/encoder/layer.0/attention/self/query/MatMul" in names
    assert "/encoder/layer.1/intermediate/intermediate_act_fn/Erf" in names
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    assert shapes["encoder.layer.0.intermediate.dense.weight"] == (64, 128)
    assert shapes["encoder.layer.0.output.dense.bias"] == (64,)
    census = Counter(node.op_type for node in model.graph.node)
    assert census["MatMul"] == 2 * 8
    assert census["Softmax"] == census["Erf"] == 2
    assert census["LayerNormalization"] == 5
    assert {node.domain for node in model.graph.node} == {""}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version == 8


def test_shapes_stay_symbolic():
    inferred = onnx.shape_inference.infer_shapes(seeded_bert(TINY_MPNET, 0), data_prop=True)
    dims = {v.name: v.type.tensor_type.shape.dim for v in inferred.graph.value_info}
    heads = dims["/encoder/layer.0/attention/attn/Reshape_output_0"]
    assert [dim.dim_param or dim.dim_value for dim in heads] == ["batch", "sequence", 4, 16]
    last = dims["/encoder/layer.1/attention/LayerNorm/LayerNormalization_output_0"]
    assert last[2].dim_value == 64


def test_exported_minilm_l3_rebuilt_from_its_weights(run_model):
    exported = onnx.load(minilm_l3_onnx())
    stored = {t.name: numpy_helper.to_array(t) for t in exported.graph.initializer}
    linears = {
        n.name: stored[n.input[1]]
        for n in exported.graph.node
        if n.input[1:] and n.input[1] in stored
    }

    def weight(name):
        matmul = (
            "/model/model.0/auto_model/" + name.removesuffix("weight").replace(".", "/") + "MatMul"
        )
        matmul = matmul.replace("layer/", "layer.")
        return linears[matmul].T if matmul in linears else stored[f"model.0.auto_model.{name}"]

    rebuilt = build_encoder(EncoderConfig(30522, 384, 3, 12, 1536, 512), weight)
    sentences = ["The ring is a sardonyx.", "Cameos are cut from banded stones, layer after layer."]
    encodings = minilm_tokenizer().encode_batch(sentences)
    ids = np.array([encoding.ids for encoding in encodings])
    mask = np.array([encoding.attention_mask for encoding in encodings])
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    expected = run_model(exported, feed)[2]
    np.testing.assert_array_equal(run_model(rebuilt, feed)[0], expected)


def test_minilm_l6_parameters():
    model = minilm_l6(pooler=True)
    floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    assert sum(np.prod(t.dims) for t in floats) == 22_713_216


def test_relative_buckets_near_and_far():
    buckets = relative_position_buckets(32, 300)
    at = dict(zip(range(-299, 300), buckets.tolist(), strict=True))
    assert [at[d] for d in (0, -1, -7, 1, 7)] == [0, 1, 7, 17, 23]
    assert [at[d] for d in (-8, -11, -12, -16, -127, -128, -299)] == [8, 8, 9, 10, 15, 15, 15]
    assert at[299] == 31


def test_wrong_opset_and_shape_are_refused():
    weights = seeded_weights(TINY_BERT, 0)
    with pytest.raises(ValueError, match="opset 12 is not between 13 and 26"):
        build_encoder(TINY_BERT, weights, opset=12)
    with pytest.raises(
        ValueError, match=r"word_embeddings.weight has shape \(1000, 64\), not \(999"
    ):
        build_encoder(EncoderConfig(999, 64, 2, 4, 128, 64), weights)


def test_wrong_architecture_is_refused():
    with pytest.raises(ValueError, match="model_type is 'gpt2'"):
        EncoderConfig.from_hugging_face({"model_type": "gpt2"})
    with pytest.raises(ValueError, match="65 is not a multiple of 4 heads"):
        EncoderConfig(1000, 65, 2, 4, 128, 64)
