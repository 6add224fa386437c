"""Bits against energy: MiniLM-L6 in the formats of several recipes, on chips that multiply them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import embeddings
from common import SUBJECTS, Target, console, show, workspace
from int8_data import Sentences
from int8_variants import ours

from sardonyx import models
from sardonyx.compiler.simulate import Workload
from sardonyx.runtime_ops.accelerator.chip_file import load_chip

SUBJECT = "minilm-l6"
TOKENS = 128

CHIPS = {
    "float": ("tpu-like", "tensorcore-like"),
    "gobo": ("tpu-like+gobo-memory", "tensorcore-like+gobo-memory", "gobo"),
    "int8-kl": ("tpu-like-int8",),
    "peg": ("tpu-like-int8",),
    "mixed-precision": ("tpu-like-int8",),
}
"""By recipe. All for the target portable, so that the same ops stand between the products."""


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Time and energy of each recipe's file, and what its embeddings keep of FP32's."""
    results: dict[str, Any] = {}
    tokenizer = SUBJECTS[SUBJECT].tokenizer
    assert tokenizer is not None
    made, snippets = tokenizer(), models.held_out_snippets()[0][: options.sentences]
    with workspace() as folder:
        source = SUBJECTS[SUBJECT].write(folder)
        plain = embeddings(source, made, snippets).astype(float)
        sentences = Sentences.of(SUBJECT, source, None)
        for recipe, chips in CHIPS.items():
            console.print(f"formats: {recipe}")
            path = folder / f"{recipe}.onnx"
            ours(source, path, sentences, recipe, "portable")
            cosine = float(np.mean(np.sum(plain * embeddings(path, made, snippets), axis=1)))
            results[recipe] = {"bytes": path.stat().st_size, "cosine": cosine}
            results[recipe] |= {"chips": {chip: simulated(path, chip) for chip in chips}}
    show(
        f"MiniLM-L6, 1 x {TOKENS} tokens",
        ("recipe", "file, MB", "cosine", "chip", "mm2", "ms", "in array", "mJ", "DRAM, MB"),
        [row for recipe, found in results.items() for row in rows(recipe, found)],
    )
    return results, []


def simulated(path: Path, name: str) -> dict[str, float]:
    """What one run takes on a chip. ``in_array``: share of the time in which the array works."""
    timeline = Workload(path).on(load_chip(name), 1, TOKENS).timeline
    array = sum(time.cycles for time in timeline.layers if time.unit == "array")
    return {
        "area_um2": timeline.area.total,
        "seconds": timeline.seconds,
        "in_array": array / timeline.cycles,
        "energy_pj": timeline.energy.total,
        "dram_bytes": timeline.dram_bytes,
    }


def rows(recipe: str, found: dict[str, Any]) -> list[tuple[str, ...]]:
    """A line for each chip."""
    return [
        (
            recipe,
            f"{found['bytes'] / 1e6:.2f}",
            f"{found['cosine']:.4f}",
            chip,
            f"{figures['area_um2'] / 1e6:.1f}",
            f"{1e3 * figures['seconds']:.2f}",
            f"{figures['in_array']:.0%}",
            f"{figures['energy_pj'] / 1e9:.2f}",
            f"{figures['dram_bytes'] / 1e6:.1f}",
        )
        for chip, figures in found["chips"].items()
    ]
