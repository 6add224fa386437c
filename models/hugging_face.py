"""Encoders and tokenizers out of a Hugging Face model directory, without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray

from sardonyx.models.config import EncoderConfig
from sardonyx.models.optional import optional
from sardonyx.models.transformer import build_encoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FIRST_WEIGHT = "embeddings.word_embeddings.weight"


def encoder_from_directory(
    directory: Path, *, pooler: bool = False, opset: int = 17, ir_version: int = 8
) -> onnx.ModelProto:
    """Build the encoder that `config.json` and `model.safetensors` in `directory` describe.

    The weights of a model with a head (names under `bert.`, `mpnet.`, …) are found as well.
    """
    text = (directory / "config.json").read_text(encoding="utf-8")
    config = EncoderConfig.from_hugging_face(json.loads(text))
    path = directory / "model.safetensors"
    with optional("safetensors").safe_open(path, framework="numpy") as tensors:
        prefix = _prefix(path, tensors.keys())

        def weight(name: str) -> NDArray[np.float32]:
            array: NDArray[np.float32] = tensors.get_tensor(prefix + name)
            return array

        return build_encoder(config, weight, pooler=pooler, opset=opset, ir_version=ir_version)


def tokenizer_from_text(text: str, max_length: int) -> Tokenizer:
    """Read a `tokenizer.json`: cut at `max_length` tokens, pad to the longest of a batch."""
    padding = json.loads(text)["padding"]
    tokenizer: Tokenizer = optional("tokenizers").Tokenizer.from_str(text)
    tokenizer.enable_truncation(max_length)
    tokenizer.enable_padding(pad_id=padding["pad_id"], pad_token=padding["pad_token"])
    return tokenizer


def _prefix(path: Path, names: list[str]) -> str:
    for name in names:
        if name.endswith(_FIRST_WEIGHT):
            return name.removesuffix(_FIRST_WEIGHT)
    raise ValueError(f"{path} holds no {_FIRST_WEIGHT}")
