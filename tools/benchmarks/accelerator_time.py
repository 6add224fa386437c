"""How long simulating BERT-base at 128 tokens takes on this machine: its values, its cycles."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from accelerator_models import compiled
from common import SEED, Cost, Target, console, cost_of, show, workspace

from sardonyx.compiler.simulate import Workload
from sardonyx.runtime_ops.accelerator.chip_file import load_chip

TOKENS = 128
CHIPS = ("gobo", "tensorcore-like", "tensorcore-like+gobo-memory", "tpu-like", "eyeriss-like")
PROGRAM = "from sardonyx.compiler.cli import main; main()"


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Seconds on the clock, and of processors: what they would be with nothing else to do."""
    with workspace() as folder:
        path = compiled("bert-base", options.compiled or folder)
        console.print("time: the values of BERT-base")
        run = functional(path, folder)
        timings = {name: timing(path, name) for name in CHIPS}
    rows = [("run --backend accelerator", f"{run.seconds:.1f}", f"{run.cpu_seconds:.1f}")]
    for name, (seconds, cpu) in timings.items():
        rows.append((f"cycles on {name}, from file to timeline", f"{seconds:.2f}", f"{cpu:.2f}"))
    show(f"BERT-base, {TOKENS} tokens", ("what", "seconds", "of processors"), rows)
    targets = [Target("values of BERT-base, seconds", run.seconds, "<=", 60)]
    for name, (seconds, _) in timings.items():
        targets.append(Target(f"cycles on {name}, seconds", seconds, "<=", 2))
    results = {
        "functional": {"seconds": run.seconds, "cpu_seconds": run.cpu_seconds},
        "timing": {n: {"seconds": s, "cpu_seconds": c} for n, (s, c) in timings.items()},
    }
    return results, targets


def functional(path: Path, folder: Path) -> Cost:
    """The whole command, its start included."""
    generator = np.random.default_rng(SEED)
    arrays = {
        "input_ids": generator.integers(1, 30000, (1, TOKENS)),
        "attention_mask": np.ones((1, TOKENS), np.int64),
        "token_type_ids": np.zeros((1, TOKENS), np.int64),
    }
    given = folder / "in.npz"
    np.savez(given, **arrays)
    command = [sys.executable, "-c", PROGRAM, "run", path, "--input", given]
    return cost_of([*command, "--backend", "accelerator", "-o", folder / "out.npz"])


def timing(path: Path, name: str) -> tuple[float, float]:
    """A model that was not read before on a chip that was not used before."""
    chip = load_chip(name)
    wall, cpu = time.perf_counter(), time.process_time()
    Workload(path).on(chip, 1, TOKENS)
    return time.perf_counter() - wall, time.process_time() - cpu
