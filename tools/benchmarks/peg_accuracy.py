"""Accuracy: embeddings of files with activations in groups, or some in 16 bits, beside FP32 ones,
and what the kept head makes of them.

*Weights alone*: 8 bits a channel, activations as they are. Recipe peg has weights of 7 bits, whose
products no processor's 16-bit sums saturate; with 8 bits those without VNNI lose more than is told.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from typing import Any

from common import SUBJECTS, Target
from int8_accuracy import Rows, measure_variants
from int8_data import Sentences
from int8_variants import Make
from peg_variants import EIGHT_BITS, GROUPED, PAPER, PER_TENSOR, compiled, weights_alone

LEAST_COSINE = {"minilm-l6": 0.995, "minilm-l3": 0.995, "mpnet": 0.95}
LEAST_WIDE_COSINE = {"mpnet": 0.99}
WIDE_G = "W8A{8,16}, g in 16 bits"


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all subjects, and the targets."""
    return measure_variants(options, variants, targets_of)


def variants(sentences: Sentences) -> dict[str, Make]:
    """Everything that is measured."""
    eight = compiled(sentences, PER_TENSOR, EIGHT_BITS)
    xhy = "peg.tensors=x,h,y"
    mse = ("insert-qdq.per=tensor", "insert-qdq.weight_range=mse", EIGHT_BITS)
    wide = partial(compiled, sentences, recipe="mixed-precision")
    return {
        "weights alone": partial(weights_alone, make=eight),
        "all a tensor": compiled(sentences, PER_TENSOR),
        "all a tensor, 8-bit weights": eight,
        "{x,h,y}, equal, layer (paper)": compiled(sentences, *PAPER),
        "{x,h,y}": compiled(sentences, xhy),
        f"{GROUPED}": compiled(sentences),
        f"{GROUPED}, 8-bit weights": compiled(sentences, EIGHT_BITS),
        f"{GROUPED}, weights a tensor, MSE": compiled(sentences, *mse),
        f"{GROUPED}, order a layer": compiled(sentences, "peg.order=layer"),
        f"{GROUPED}, tensors=auto": compiled(sentences, "peg.tensors=auto"),
        "all a tensor, cpu": compiled(sentences, PER_TENSOR, target="cpu"),
        f"{GROUPED}, cpu": compiled(sentences, target="cpu"),
        "W8A{8,16}, x, h, y in 16 bits (paper)": wide("quantize-values.wide=x,h,y"),
        WIDE_G: wide("quantize-values.wide=g"),
        "W8A{8,16}, x, g, h, y in 16 bits": wide("quantize-values.wide=x,g,h,y"),
        "W8A{8,16}, auto": wide("quantize-values.wide=auto"),
        "int8-kl": compiled(sentences, recipe="int8-kl"),
    }


def targets_of(name: str, rows: Rows) -> list[Target]:
    """Near FP32; a file that is missing misses."""
    bounds = {GROUPED: LEAST_COSINE, WIDE_G: LEAST_WIDE_COSINE}
    return [
        Target(f"{SUBJECTS[name].title}, {variant}: cosine", cosine, ">=", least[name])
        for variant, least in bounds.items()
        if name in least
        for cosine in [rows[variant]["cosine"] if variant in rows else math.nan]
    ]
