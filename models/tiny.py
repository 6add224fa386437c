"""Tiny Hugging Face model directories with seeded random weights, one an architecture.

Their matrices are small but large enough to be compressed, and every architecture has the layers,
ties and head of its real kin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sardonyx.models.optional import optional
from sardonyx.models.quiet import quiet
from sardonyx.models.seeded import seeded_values


@dataclass(frozen=True)
class Tiny:
    """A transformers model class and the fields of its configuration that are not the default."""

    model: str
    config: str
    fields: Mapping[str, Any]


def _tiny(model: str, config: str, **fields: Any) -> Tiny:
    return Tiny(model, config, MappingProxyType(fields))


def _encoder(model: str, config: str, **fields: Any) -> Tiny:
    shape = {
        "vocab_size": 512,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "max_position_embeddings": 64,
    }
    return _tiny(model, config, **shape | fields)


ARCHITECTURES: Mapping[str, Tiny] = MappingProxyType(
    {
        "bert": _encoder("BertModel", "BertConfig", num_hidden_layers=3),
        "roberta": _encoder(
            "RobertaForSequenceClassification",
            "RobertaConfig",
            type_vocab_size=1,
            max_position_embeddings=66,
        ),
        "distilbert": _tiny(
            "DistilBertForTokenClassification",
            "DistilBertConfig",
            vocab_size=512,
            dim=64,
            n_layers=2,
            n_heads=4,
            hidden_dim=128,
            max_position_embeddings=64,
            num_labels=5,
        ),
        "albert": _encoder("AlbertForMaskedLM", "AlbertConfig", hidden_size=128, embedding_size=64),
        "electra": _encoder(
            "ElectraForSequenceClassification",
            "ElectraConfig",
            hidden_size=128,
            embedding_size=64,
        ),
        "mpnet": _encoder("MPNetModel", "MPNetConfig", max_position_embeddings=66),
        "deberta-v2": _encoder(
            "DebertaV2ForSequenceClassification",
            "DebertaV2Config",
            relative_attention=True,
            position_buckets=32,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            pos_att_type=["p2c", "c2p"],
            position_biased_input=False,
            type_vocab_size=0,
        ),
        "spanbert": _encoder("BertForQuestionAnswering", "BertConfig", num_hidden_layers=3),
        "gpt2": _tiny(
            "GPT2LMHeadModel",
            "GPT2Config",
            vocab_size=512,
            n_embd=64,
            n_layer=2,
            n_head=4,
            n_positions=64,
            bos_token_id=511,
            eos_token_id=511,
        ),
        "t5": _tiny(
            "T5ForConditionalGeneration",
            "T5Config",
            vocab_size=512,
            d_model=64,
            d_kv=16,
            d_ff=128,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=0,
        ),
        "marian": _tiny(
            "MarianMTModel",
            "MarianConfig",
            vocab_size=512,
            d_model=64,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            max_position_embeddings=64,
            pad_token_id=511,
            decoder_start_token_id=511,
            scale_embedding=True,
        ),
        "whisper": _tiny(
            "WhisperForConditionalGeneration",
            "WhisperConfig",
            vocab_size=512,
            d_model=64,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            max_source_positions=100,
            max_target_positions=64,
            pad_token_id=510,
            bos_token_id=510,
            eos_token_id=510,
            decoder_start_token_id=511,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        ),
    }
)
"""By name; `spanbert` is BERT with SpanBERT's question answering head."""


def tiny_directory(architecture: str, folder: Path, seed: int = 0) -> Path:
    """Write `config.json` and `model.safetensors` of an architecture to `folder`; return that.

    The same architecture and seed give the same weights. Needs torch and transformers.
    """
    transformers, torch = optional("transformers"), optional("torch")
    tiny = ARCHITECTURES[architecture]
    with quiet():
        config = getattr(transformers, tiny.config)(**tiny.fields)
        model = getattr(transformers, tiny.model)(config)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.data = torch.from_numpy(seeded_values(name, tuple(parameter.shape), seed))
        model.save_pretrained(folder)
    return folder
