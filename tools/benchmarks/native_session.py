"""Session: seconds and memory of the native session of a compiled BERT-base, in fresh processes.

Recipe gobo on the seeded model, for target cpu; *packed* is what its encoded weights take in the
file. Beside it stand the FP32 file and *portable*: the same file, which stock onnxruntime decodes.
Medians.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from common import SUBJECTS, Target, console, interleaved, medians, probe, show, workspace
from native_kinds import available
from native_variants import FP32, NATIVE, Variant, ours

SUBJECT = SUBJECTS["bert-base"]
MOST_SECONDS = 0.5
MOST_GROWTH = 1.1
"""Times the packed bytes, and besides:"""

MORE_GROWTH = 15e6


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all variants, and the targets."""
    native = available()
    with workspace() as folder:
        plain = SUBJECT.write(folder)
        packed, made = ours(plain, folder, bool(native))
        variants = {FP32[0]: Variant(plain), **made}
        console.log("session: files made")
        jobs = {
            name: partial(probe, "create_session", variant.path, "native" if variant.native else "")
            for name, variant in variants.items()
        }
        results = {
            name: {"bytes": variants[name].path.stat().st_size, "median": medians(rows)}
            | {"runs": rows}
            for name, rows in interleaved(jobs, options.rounds).items()
        }
    print_figures(results, packed, options.rounds)
    return {"native": native, "packed_bytes": packed} | results, targets_of(results, packed)


def print_figures(results: dict[str, Any], packed: int, runs: int) -> None:
    """A row for each variant."""
    rows = []
    for name, figures in results.items():
        median = figures["median"]
        grown = (f"{median[key] / 1e6:,.0f}" for key in ("peak_growth", "growth"))
        share = f"{median['growth'] / packed:.2f}"
        rows.append((name, f"{figures['bytes']:,}", f"{median['seconds']:.3f}", *grown, share))
    show(
        f"{SUBJECT.title}: session creation, median of {runs}; packed weights {packed:,} bytes",
        ("file", "bytes", "seconds", "peak growth, MB", "growth, MB", "growth / packed"),
        rows,
    )


def targets_of(results: dict[str, Any], packed: int) -> list[Target]:
    """Seconds, and growth beyond the fixed part."""
    targets = []
    for name in (name for name in NATIVE if name in results):
        median = results[name]["median"]
        growth = (median["growth"] - MORE_GROWTH) / packed
        targets.append(Target(f"{name}: seconds", median["seconds"], "<=", MOST_SECONDS))
        what = f"{name}: (growth - {MORE_GROWTH / 1e6:.0f} MB) / packed"
        targets.append(Target(what, growth, "<=", MOST_GROWTH))
    return targets
