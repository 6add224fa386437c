"""The builder against transformers' own models, where torch and transformers are installed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sardonyx.models import (
    TINY_BERT,
    TINY_MPNET,
    encoder_from_directory,
    minilm_tokenizer,
    mpnet_tokenizer,
    seeded_bert,
    seeded_weights,
)
from sardonyx.models.config import parameter_shapes
from sardonyx.models.real_models import minilm_l6_directory, mpnet_directory
from sardonyx.models.transformer import relative_position_buckets

pytestmark = pytest.mark.heavy
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SENTENCES = ["Sardonyx.", "Cameos are cut from banded stones.", "Layer after layer. " * 60]
TOLERANCE = 1e-5
"""FP32 rounding of 6 to 12 layers, each re-normalised to unit variance."""


def torch_outputs(model, feed):
    with torch.no_grad():
        outputs = model.eval()(**{name: torch.from_numpy(array) for name, array in feed.items()})
    return outputs.last_hidden_state.numpy(), outputs.pooler_output.numpy()


def largest_difference(outputs, expected, mask):
    tokens = mask.astype(bool)
    hidden = np.abs(outputs[0][tokens] - expected[0][tokens]).max()
    return max(hidden, np.abs(outputs[1] - expected[1]).max())


def encode(tokenizer, names):
    encodings = tokenizer.encode_batch(SENTENCES)
    ids, mask = (
        np.array([getattr(e, field) for e in encodings]) for field in ("ids", "attention_mask")
    )
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: feed[name] for name in names}


def check_directory(directory, model_class, tokenizer, run_model):
    model = encoder_from_directory(directory, pooler=True)
    feed = encode(tokenizer, [value.name for value in model.graph.input])
    reference = model_class.from_pretrained(directory, attn_implementation="eager")
    expected = torch_outputs(reference, feed)
    outputs = run_model(model, feed)
    assert largest_difference(outputs, expected, feed["attention_mask"]) < TOLERANCE


def test_minilm_l6_is_transformers_bert(run_model):
    directory, model_class = minilm_l6_directory(), transformers.BertModel
    check_directory(directory, model_class, minilm_tokenizer(), run_model)


def test_mpnet_base_is_transformers_mpnet(run_model):
    with mpnet_directory() as directory:
        model_class = transformers.MPNetModel
        check_directory(directory, model_class, mpnet_tokenizer(), run_model)


TINY_ROBERTA = replace(TINY_BERT, type_vocab=1, position_offset=2)
TINY = {"Bert": TINY_BERT, "Roberta": TINY_ROBERTA, "MPNet": TINY_MPNET}


def tiny_reference(family, config):
    """A transformers model of this family and shape with the seeded weights."""
    sizes = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.intermediate,
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": config.type_vocab,
        "layer_norm_eps": config.layer_norm_eps,
        "pad_token_id": max(config.position_offset - 1, 0),
        "relative_attention_num_buckets": config.relative_buckets,
    }
    settings = getattr(transformers, f"{family}Config")(**sizes, attn_implementation="eager")
    reference = getattr(transformers, f"{family}Model")(settings)
    weights, names = seeded_weights(config, 0), parameter_shapes(config, pooler=True)
    state = {name: torch.from_numpy(weights(name)) for name in names}
    keys = reference.load_state_dict(state, strict=False)
    assert not keys.unexpected_keys
    assert all(name.endswith("_ids") for name in keys.missing_keys)
    return reference


@pytest.mark.parametrize("family", TINY)
def test_tiny(family, run_model, padded_feed):
    config = TINY[family]
    feed = {name: padded_feed(config)[name] for name in config.inputs}
    expected = torch_outputs(tiny_reference(family, config), feed)
    for opset in (13, 17):
        outputs = run_model(seeded_bert(config, 0, pooler=True, opset=opset), feed)
        assert largest_difference(outputs, expected, feed["attention_mask"]) < TOLERANCE


@pytest.mark.parametrize("buckets", [32, 16])
def test_relative_position_buckets(buckets):
    distance = torch.arange(-513, 514)
    encoder = transformers.models.mpnet.modeling_mpnet.MPNetEncoder
    expected = encoder.relative_position_bucket(distance, num_buckets=buckets).numpy()
    np.testing.assert_array_equal(relative_position_buckets(buckets, 514), expected)
