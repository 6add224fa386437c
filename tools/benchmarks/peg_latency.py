"""Latency: groups beside a scale a tensor and FP32, on two threads, all in the same rounds.

*Speed*: the time of the file with a scale a tensor for any runtime / that of the variant, in the
same round.
"""

from __future__ import annotations

import argparse
from typing import Any

import int8_latency
from common import SUBJECTS, Target
from fusion_latency import load_average
from int8_variants import show_failures
from peg_variants import TENSOR, files


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all subjects."""
    results: dict[str, Any] = {"load_before": load_average()}
    for name in options.models:
        with files(name, options) as (made, failures):
            results[name] = int8_latency.measure_model(name, made, [TENSOR], options.rounds)
        int8_latency.print_figures(SUBJECTS[name].title, results[name])
        show_failures(SUBJECTS[name].title, failures)
        results[name]["failures"] = failures
    return results | {"load_after": load_average()}, []
