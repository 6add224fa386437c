"""The files that the cleanup benchmark measures, and inputs for them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from common import console, workspace
from numpy.typing import NDArray

from sardonyx.models.export.dialects import DIALECTS
from sardonyx.models.export.directory import ExportError
from sardonyx.models.export.export_model import export_model
from sardonyx.models.optional import optional
from sardonyx.models.real_models import exported_models, minilm_l3_onnx, minilm_l6_directory
from sardonyx.models.seeded import seeded_values

Feed = dict[str, NDArray[Any]]
Sizes = dict[str, int]

SIZES: tuple[Sizes, ...] = (
    {"batch": 2, "past": 9, "encoder": 12, "": 16},
    {"batch": 3, "past": 5, "encoder": 7, "": 11},
)
"""Two sets of sizes: of an axis whose name holds the word, the first that does."""

TOKENS = 1000
"""All vocabularies are larger."""

CACHE_DIALECTS = ("torchscript-eager", "optimum", "optimum-merged")


@contextmanager
def files(options: argparse.Namespace) -> Iterator[dict[str, Path]]:
    """Files by name; those that are not kept go away."""
    with workspace() as folder:
        kept = options.exports or folder
        kept.mkdir(parents=True, exist_ok=True)
        found = exported_models() | {"MiniLM-L3, TorchScript": minilm_l3_onnx()}
        found |= dict(_minilm_l6(kept)) | dict(_decoders(kept))
        starts = tuple(options.models or [""])
        yield {name: path for name, path in found.items() if name.startswith(starts)}


def _minilm_l6(folder: Path) -> Iterator[tuple[str, Path]]:
    for dialect in (name for name, made in DIALECTS.items() if not made.merge):
        path = folder / f"minilm-l6.{dialect}.onnx"
        if path.exists() or _export(minilm_l6_directory(), path, dialect, "feature-extraction"):
            yield f"MiniLM-L6, {dialect}", path


def _decoders(folder: Path) -> Iterator[tuple[str, Path]]:
    for dialect in CACHE_DIALECTS:
        part = "decoder_merged" if DIALECTS[dialect].merge else "decoder_with_past"
        path = folder / f"marian.{dialect}.{part}.onnx"
        if not path.exists():
            try:
                directory = _marian(folder / "marian")
            except ImportError as error:
                console.log(f"Marian, {dialect}: {error}")
                continue
            _export(directory, folder / f"marian.{dialect}.onnx", dialect, "auto")
        if path.exists():
            yield f"Marian {part.replace('_', ' ')}, {dialect}", path


def _export(directory: Path, path: Path, dialect: str, task: str) -> bool:
    try:
        export_model(directory, path, replace(DIALECTS[dialect], task=task))
    except (ImportError, ExportError) as error:
        console.log(f"{path.stem}: {error}")
        return False
    return True


def _marian(directory: Path) -> Path:
    """Transformer-base with a small vocabulary and seeded weights."""
    transformers, torch = optional("transformers"), optional("torch")
    if not (directory / "config.json").exists():
        sides = ("encoder", "decoder")
        shape = {"attention_heads": 8, "layers": 6, "ffn_dim": 2048}
        model = transformers.MarianMTModel(
            transformers.MarianConfig(
                vocab_size=2000,
                d_model=512,
                max_position_embeddings=128,
                activation_function="relu",
                pad_token_id=1999,
                decoder_start_token_id=1999,
                **{f"{side}_{key}": size for side in sides for key, size in shape.items()},
            )
        )
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                values = seeded_values(name, tuple(parameter.shape), 0)
                parameter.data = torch.from_numpy(values)
        model.save_pretrained(directory)
    return directory


def feed(session: ort.InferenceSession, sizes: Sizes) -> Feed:
    """Seeded inputs: tokens, masks that pad all rows but the first, standard normal floats."""
    generator = np.random.default_rng(0)
    return {one.name: _array(one, sizes, generator) for one in session.get_inputs()}


def _array(one: Any, sizes: Sizes, generator: np.random.Generator) -> NDArray[Any]:
    shape = [dim if isinstance(dim, int) else _size(dim or "", sizes) for dim in one.shape]
    if "float" in one.type:
        return generator.standard_normal(shape, np.float32)
    if "bool" in one.type:
        return np.ones(shape, np.bool_)
    values = np.zeros(shape, np.int64)
    if "mask" in one.name:
        values[:] = 1
        values[1:, shape[-1] * 2 // 3 :] = 0
    elif "type" not in one.name:
        values = generator.integers(1, TOKENS, shape)
    return values


def _size(name: str, sizes: Sizes) -> int:
    """Of ``past_sequence_length + 1``, one more than of what is named first."""
    base, _, more = name.partition(" + ")
    return next(size for word, size in sizes.items() if word in base) + int(more or 0)
