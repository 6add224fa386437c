"""The shape of an encoder: what a BERT, RoBERTa or MPNet is, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Parts:
    """Module names inside one encoder layer, as the PyTorch model spells them."""

    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    intermediate: str = "intermediate.dense"
    output: str = "output.dense"
    output_norm: str = "output.LayerNorm"


BERT_PARTS = Parts(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
)
MPNET_PARTS = Parts(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    attention_output="attention.attn.o",
    attention_norm="attention.LayerNorm",
)


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of a post-LayerNorm Transformer encoder with erf-GELU.

    `max_positions` counts the rows of the position table. `type_vocab` 0 means no token types.
    `position_offset` 0 numbers positions 0, 1, 2, …; otherwise it is the padding id + 1 and the
    positions count the tokens that are not padding, from it on (RoBERTa, MPNet).
    `relative_buckets` 0 means no relative position bias; otherwise MPNet's, over that many buckets.
    """

    vocab_size: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    max_positions: int
    type_vocab: int = 2
    layer_norm_eps: float = 1e-12
    position_offset: int = 0
    relative_buckets: int = 0

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise ValueError(f"hidden size {self.hidden} is not a multiple of {self.heads} heads")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    @property
    def parts(self) -> Parts:
        """Module names of one layer: MPNet's where there is a relative position bias."""
        return MPNET_PARTS if self.relative_buckets else BERT_PARTS

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the graph inputs, each int64 `[batch, sequence]`."""
        return ("input_ids", "attention_mask") + ("token_type_ids",) * bool(self.type_vocab)

    @classmethod
    def from_hugging_face(cls, config: Mapping[str, Any]) -> EncoderConfig:
        """Read a Hugging Face `config.json` of type bert, roberta, xlm-roberta or mpnet.

        Raises:
            ValueError: the architecture, activation or position scheme is another one.
        """
        model_type = config.get("model_type")
        expected = {
            "model_type": ("bert", "roberta", "xlm-roberta", "mpnet"),
            "hidden_act": ("gelu",),
            "position_embedding_type": ("absolute", None),
        }
        for key, accepted in expected.items():
            if config.get(key) not in accepted:
                raise ValueError(f"{key} is {config.get(key)!r}, not one of {accepted}")
        return cls(
            vocab_size=config["vocab_size"],
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            intermediate=config["intermediate_size"],
            max_positions=config["max_position_embeddings"],
            type_vocab=0 if model_type == "mpnet" else config["type_vocab_size"],
            layer_norm_eps=config["layer_norm_eps"],
            position_offset=0 if model_type == "bert" else config["pad_token_id"] + 1,
            relative_buckets=config.get("relative_attention_num_buckets", 0),
        )


def parameter_shapes(config: EncoderConfig, *, pooler: bool = False) -> dict[str, tuple[int, ...]]:
    """Every float32 parameter by its PyTorch name, with its PyTorch shape (`[out, in]` linears).

    The order is the one in which the graph uses them.
    """
    hidden, shapes = config.hidden, dict[str, tuple[int, ...]]()

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes.update({f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)})

    def norm(name: str) -> None:
        shapes.update({f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)})

    shapes["embeddings.word_embeddings.weight"] = (config.vocab_size, hidden)
    if config.type_vocab:
        shapes["embeddings.token_type_embeddings.weight"] = (config.type_vocab, hidden)
    shapes["embeddings.position_embeddings.weight"] = (config.max_positions, hidden)
    norm("embeddings.LayerNorm")
    if config.relative_buckets:
        shapes["encoder.relative_attention_bias.weight"] = (config.relative_buckets, config.heads)
    for index in range(config.layers):
        layer, parts = f"encoder.layer.{index}", config.parts
        for part in (parts.query, parts.key, parts.value, parts.attention_output):
            linear(f"{layer}.{part}", hidden, hidden)
        norm(f"{layer}.{parts.attention_norm}")
        linear(f"{layer}.{parts.intermediate}", hidden, config.intermediate)
        linear(f"{layer}.{parts.output}", config.intermediate, hidden)
        norm(f"{layer}.{parts.output_norm}")
    if pooler:
        linear("pooler.dense", hidden, hidden)
    return shapes


BERT_BASE = EncoderConfig(30522, 768, 12, 12, 3072, 512)
TINY_BERT = EncoderConfig(1000, 64, 2, 4, 128, 64)
TINY_MPNET = EncoderConfig(
    1000,
    64,
    2,
    4,
    128,
    66,
    type_vocab=0,
    layer_norm_eps=1e-5,
    position_offset=2,
    relative_buckets=32,
)
