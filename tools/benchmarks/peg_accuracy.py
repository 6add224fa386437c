"""Accuracy: embeddings of files with activations in groups, or some in 16 bits, beside FP32 ones,
and what the kept head makes of them.

Weights have 8 bits a channel where a row does not say otherwise, for processors with VNNI. Recipe
peg itself gives them 7, with which no processor's 16-bit sums saturate. *Weights alone*:
activations as they are. PEG: {x,h,y,g,r}, sizes optimal, one order.
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
from peg_variants import (
    BY_LAYER,
    EIGHT_BITS,
    GROUPED,
    PAPER,
    PER_TENSOR,
    TENSOR,
    compiled,
    weights_alone,
)

LEAST_COSINE = {"minilm-l6": 0.995, "minilm-l3": 0.995, "mpnet": 0.95}
LEAST_WIDE_COSINE = {"mpnet": 0.99}
WIDE = "W8A{8,16}, {x,h,y,g} in 16 bits"


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all subjects, and the targets."""
    return measure_variants(options, variants, targets_of)


def variants(sentences: Sentences) -> dict[str, Make]:
    """Everything that is measured; W8A8 unless it says otherwise."""
    make = partial(compiled, sentences, EIGHT_BITS)
    mse = ("insert-qdq.per=tensor", "insert-qdq.weight_range=mse")
    wide = partial(make, recipe="mixed-precision")
    return {
        "weights alone": partial(weights_alone, make=make(PER_TENSOR)),
        TENSOR: make(PER_TENSOR),
        "{x,h,y}, equal, order a layer (paper)": make(*PAPER),
        "{x,h,y}": make("peg.tensors=x,h,y"),
        "{x,h,y,g}": make("peg.tensors=x,h,y,g"),
        GROUPED: make(),
        f"{BY_LAYER}": make("peg.order=layer"),
        f"{GROUPED}, weights a tensor, MSE": make(*mse),
        f"{GROUPED}, 7-bit weights": compiled(sentences),
        f"{TENSOR}, cpu": compiled(sentences, PER_TENSOR, target="cpu"),
        f"{GROUPED}, cpu": compiled(sentences, target="cpu"),
        "W8A{8,16}, {x,h,y} in 16 bits (paper)": wide("quantize-values.wide=x,h,y"),
        WIDE: wide(),
        "W8A{8,16}, auto": wide("quantize-values.wide=auto"),
        "int8-kl": compiled(sentences, recipe="int8-kl"),
    }


def targets_of(name: str, rows: Rows) -> list[Target]:
    """Near FP32; a file that is missing misses."""
    bounds = {"{x,h,y,g}": LEAST_COSINE, GROUPED: LEAST_COSINE, WIDE: LEAST_WIDE_COSINE}
    return [
        Target(f"{SUBJECTS[name].title}, {variant}: cosine", cosine, ">=", least[name])
        for variant, least in bounds.items()
        if name in least
        for cosine in [rows[variant]["cosine"] if variant in rows else math.nan]
    ]
