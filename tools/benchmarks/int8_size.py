"""Size: bytes of INT8 files, embeddings included, beside onnxruntime's."""

from __future__ import annotations

import argparse
import math
from typing import Any

from common import SUBJECTS, Target, show, workspace
from int8_data import Sentences
from int8_variants import (
    DYNAMIC_PEERS,
    build,
    dynamic_ours,
    show_failures,
    static_names,
    static_ours,
)

LARGEST = {"minilm-l6": 23.3}
"""Megabytes (1e6 bytes)."""


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Sizes of all subjects, and the targets."""
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for name in options.models:
        title = SUBJECTS[name].title
        with workspace() as folder:
            plain = SUBJECTS[name].write(folder)
            sentences = Sentences.of(name, plain, options.sentences)
            makers = static_ours(sentences, options.recipe) | dynamic_ours(sentences, "portable")
            files, failures = build(makers | DYNAMIC_PEERS, plain, folder)
            sizes = {v: path.stat().st_size for v, path in ({"FP32": plain} | files).items()}
        rows = [
            (variant, f"{size / 1e6:.2f}", f"{sizes['FP32'] / size:.3f}")
            for variant, size in sizes.items()
        ]
        show(f"{title}: files", ("variant", "MB", "smaller than FP32"), rows)
        show_failures(title, failures)
        results[name] = {"bytes": sizes, "failures": failures}
        targets += [
            Target(f"{title}, {variant}: MB", sizes.get(variant, math.nan) / 1e6, "<=", bound)
            for bound in filter(None, [LARGEST.get(name)])
            for variant in static_names(options.recipe)
        ]
    return results, targets
