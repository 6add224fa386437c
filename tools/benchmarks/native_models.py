"""Models: real encoders end to end on two threads, beside what onnxruntime makes of them.

- *latency*: ms, and its ratio to FP32 in the same round, of sentences of so many tokens;
- *memory*: bytes that a process gains by a session and a run of one sentence of 128 tokens;
- *cosine*: mean cosine of a held-out snippet's embedding to its FP32 embedding.

Dynamic INT8 is onnxruntime's, of the exported file and of what its transformer optimizer makes of
it, 8 bits a tensor or 7 bits a channel; static INT8 has min-max ranges; MatMulNBits has accuracy
level 4. *portable* is the file of *native fp32* in stock onnxruntime.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from common import SUBJECTS, Target, console, interleaved, medians, probe, show, workspace
from fusion_latency import POINTS, THREADS, Seconds, load_average, quartiles, time_rounds
from fusion_variants import padded
from native_kinds import available
from native_variants import DYNAMIC, FP32, NATIVE, NATIVE_FP32, NATIVE_INT8, Variant, build
from numpy.typing import NDArray

from sardonyx import models

LEAST_COSINE = 0.995
LARGEST_FILE = 0.5
"""As a share of the smallest dynamic INT8 file."""

PROBES = 3
"""Processes that tell a variant's memory."""


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all subjects, and the targets."""
    native = available()
    results: dict[str, Any] = {"native": native, "load_before": load_average()}
    targets: list[Target] = []
    for name in options.models:
        with workspace() as folder:
            variants = build(name, folder, bool(native))
            results[name] = measure_model(name, folder, variants, options)
        print_figures(SUBJECTS[name].title, results[name])
        if native:
            targets += targets_of(SUBJECTS[name].title, results[name])
    return results | {"load_after": load_average()}, targets


def measure_model(
    name: str, folder: Path, variants: dict[str, Variant], options: argparse.Namespace
) -> dict[str, Any]:
    """Figures of every variant, and ratios to the peers at every point."""
    sentences = models.held_out_snippets()[0]
    rows: dict[str, dict[str, Any]] = {
        variant: {"bytes": made.path.stat().st_size, "latency": {}}
        for variant, made in variants.items()
    }
    ratios: dict[str, dict[str, list[float]]] = {}
    makers = {variant: made.pooled_session for variant, made in variants.items()}
    for batch, length in POINTS:
        feed = padded(name, sentences, batch, length)
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            seconds = process.submit(time_rounds, makers, feed, options.rounds).result()
        point = f"{batch}x{length}"
        for variant, row in rows.items():
            row["latency"][point] = latency(seconds, variant)
        ratios[point] = against_peers(seconds)
        console.log(f"{SUBJECTS[name].title}, {point}: load {load_average()}")
    for variant, row in memory(name, folder, variants).items():
        rows[variant] |= row
    console.log(f"{SUBJECTS[name].title}: memory")
    for variant, row in cosines(name, variants, sentences[: options.sentences]).items():
        rows[variant] |= row
    console.log(f"{SUBJECTS[name].title}: cosines")
    return {"variants": rows, "ratios": ratios}


def latency(seconds: Seconds, variant: str) -> dict[str, Any]:
    """Milliseconds, and quartiles of the ratio to FP32."""
    milliseconds = 1e3 * float(np.median(seconds[variant]))
    return {"milliseconds": milliseconds, "to_fp32": quartiles(seconds[variant] / seconds[FP32[0]])}


def against_peers(seconds: Seconds) -> dict[str, list[float]]:
    """Quartiles of their time / ours: the fastest FP32 and the fastest dynamic INT8."""
    return {
        ours: quartiles(seconds[fastest(seconds, peers)] / seconds[ours])
        for ours, peers in ((NATIVE_FP32, FP32), (NATIVE_INT8, DYNAMIC))
        if ours in seconds
    }


def fastest(seconds: Seconds, variants: Sequence[str]) -> str:
    """The one whose ratio to FP32 has the least median."""
    return min(variants, key=lambda variant: latency(seconds, variant)["to_fp32"][1])


def memory(name: str, folder: Path, variants: dict[str, Variant]) -> dict[str, dict[str, float]]:
    """Bytes gained by a session and a run, in processes of their own."""
    feed = folder / "feed.npz"
    np.savez(feed, **padded(name, models.held_out_snippets()[0], 1, 128))
    jobs = {
        variant: partial(probe, "create_session", made.path, "native" if made.native else "", feed)
        for variant, made in variants.items()
    }
    return {variant: medians(rows) for variant, rows in interleaved(jobs, PROBES).items()}


def cosines(
    name: str, variants: dict[str, Variant], sentences: list[str]
) -> dict[str, dict[str, float]]:
    """Mean cosines of embeddings to FP32's, and to those of native fp32."""
    tokenizer = SUBJECTS[name].tokenizer
    assert tokenizer is not None
    made = tokenizer()
    embedded: dict[str, NDArray[np.float32]] = {}
    for variant, opened in variants.items():
        session = opened.session()
        inputs = [info.name for info in session.get_inputs()]
        embedded[variant] = models.embed(partial(session.run, None), made, sentences, inputs=inputs)
    wanted = {"cosine": FP32[0]}
    if NATIVE_FP32 in variants:
        wanted["cosine_to_native_fp32"] = NATIVE_FP32
    return {
        variant: {
            key: float(np.mean(np.sum(rows.astype(float) * embedded[other], axis=1)))
            for key, other in wanted.items()
        }
        for variant, rows in embedded.items()
    }


def print_figures(title: str, results: dict[str, Any]) -> None:
    """A row for each variant."""
    rows = []
    for variant, row in results["variants"].items():
        cells = (f"{p['milliseconds']:.2f}; {p['to_fp32'][1]:.3f}" for p in row["latency"].values())
        sizes = (f"{row[key] / 1e6:.1f}" for key in ("growth_after_run", "bytes"))
        rows.append((variant, *cells, *sizes, f"{row['cosine']:.4f}"))
    show(
        f"{title}, {THREADS} threads: ms; ratio to FP32",
        ("variant", *results["ratios"], "memory, MB", "file, MB", "cosine"),
        rows,
    )


def targets_of(title: str, results: dict[str, Any]) -> list[Target]:
    """No slower than the fastest peer of its kind; small; true to the fp32 mode."""
    targets = [
        Target(f"{title}, {point}: {peer} / {ours}", row[ours][1], ">=", 1.0)
        for point, row in results["ratios"].items()
        for ours, peer in zip(NATIVE, ("fastest FP32", "fastest dynamic INT8"), strict=True)
    ]
    rows = results["variants"]
    share = rows[NATIVE_INT8]["bytes"] / min(rows[variant]["bytes"] for variant in DYNAMIC)
    targets.append(
        Target(f"{title}: {NATIVE_INT8} / dynamic INT8, file", share, "<=", LARGEST_FILE)
    )
    cosine = rows[NATIVE_INT8]["cosine_to_native_fp32"]
    what = f"{title}: cosine of {NATIVE_INT8} to {NATIVE_FP32}"
    return [*targets, Target(what, cosine, ">=", LEAST_COSINE)]
