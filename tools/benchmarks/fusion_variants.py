"""The files that the fusion benchmark makes of a real model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import SUBJECTS
from numpy.typing import NDArray
from peers import optimizer

from sardonyx.compiler import compile
from sardonyx.compiler.recipe import Recipe
from sardonyx.compiler.targets import TARGETS
from sardonyx.passes import Pass
from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.fuse.attention import FuseAttention
from sardonyx.passes.fuse.skip_layer_norm import FuseSkipLayerNorm
from sardonyx.passes.lower.raise_opset import RaiseOpset

SHAPES = {"minilm-l6": (12, 384), "mpnet": (12, 768)}
"""Heads and width of the subjects."""

Make = Callable[[Path, Path], None]
Feed = dict[str, NDArray[np.int64]]


def recipe(name: str, target: str) -> Make:
    """A compile by a preset."""
    return lambda path, output: compile(path, name, target=target).save(output)


def passes(*listed: Pass) -> Make:
    """A compile by the passes alone, for a target that adds none to a plain graph."""
    made = Recipe("mine", "", listed)
    return lambda path, output: compile(path, made).save(output)


def cpu_with(**others: Pass) -> Make:
    """The passes of the target, some replaced; ``others``: by name, with underscores."""
    names = {name.replace("_", "-"): a_pass for name, a_pass in others.items()}
    return passes(*(names.get(a_pass.name, a_pass) for a_pass in TARGETS["cpu"].finish))


VARIANTS: dict[str, Make] = {
    "float": recipe("float", "cpu"),
    "float, SkipLayerNormalization": cpu_with(keep_layer_norm=FuseSkipLayerNorm()),
    "float, MultiHeadAttention": cpu_with(fuse_attention=FuseAttention(standard=False)),
    "float, attention alone": passes(RaiseOpset(), FuseAttention(), RemoveUnused()),
    "gobo, portable": recipe("gobo", "portable"),
    "gobo": recipe("gobo", "cpu"),
}
"""Ours, by name; for target cpu where nothing else is said."""

PEERS = ("plain", "optimizer")


def build(name: str, folder: Path) -> dict[str, Path]:
    """The file of a subject, what the optimizer makes of it, and every variant of ours."""
    files = {"plain": SUBJECTS[name].write(folder), "optimizer": folder / "optimizer.onnx"}
    optimizer(files["plain"], files["optimizer"], "bert", *SHAPES[name])
    for number, (variant, make) in enumerate(VARIANTS.items()):
        files[variant] = folder / f"{number}.onnx"
        make(files["plain"], files[variant])
    return files


def padded(name: str, sentences: list[str], batch: int, length: int) -> Feed:
    """Sentences of exactly ``length`` tokens: a first one cut there, made of all, the others padded
    or cut."""
    tokenizer = SUBJECTS[name].tokenizer
    assert tokenizer is not None
    made = tokenizer()
    made.enable_truncation(length)
    made.enable_padding(**made.padding | {"length": length})
    rows = made.encode_batch([" ".join(sentences), *sentences[1:batch]])
    ids = np.array([row.ids for row in rows], np.int64)
    mask = np.array([row.attention_mask for row in rows], np.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
