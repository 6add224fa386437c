"""How long simulating BERT-base at 128 tokens takes on this machine: its values, its cycles."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from accelerator_models import compiled
from common import SEED, Target, console, cost_of, show, workspace

from sardonyx.compiler.simulate import Workload
from sardonyx.runtime_ops.accelerator.chip_file import load_chip
from sardonyx.runtime_ops.accelerator.schedule import forget

TOKENS = 128
CHIPS = ("gobo", "tensorcore-like", "tensorcore-like+gobo-memory", "tpu-like", "eyeriss-like")
RUNS = 3


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Seconds of each."""
    with workspace() as folder:
        path = compiled("bert-base", options.compiled or folder)
        console.print("time: the values of BERT-base")
        values = functional(path, folder)
        work = Workload(path)
        timings = {name: timing(work, name) for name in CHIPS}
