"""Cycles of systolic arrays against SCALE-Sim's, on BERT-base's products at 128 tokens."""

from __future__ import annotations

import argparse
import json
import runpy
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

from common import Target, console, show, workspace

from sardonyx.runtime_ops.accelerator.arrays import Tile, compute_cycles
from sardonyx.runtime_ops.accelerator.machine import Machine, Memory, PerBuffer, Systolic
from sardonyx.runtime_ops.accelerator.work import Product

PINNED = "tests/runtime_ops/accelerator/test_scale_sim.py"
FREE = PerBuffer(1 << 20, 1 << 20, 1 << 20)
"""Ports that never stall, as SCALE-Sim's bandwidth CALC."""

LEAST = 128

Shape = tuple[int, int, int]


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Ours and theirs for each array and product, and the largest difference.

    SCALE-Sim runs on arrays of `LEAST` rows or more: on smaller ones it takes many minutes and much
    memory, and its cycles are those that the tests keep.
    """
    here = Path(__file__)
    kept = runpy.run_path(str(here.parents[2] / PINNED))
    shapes: dict[str, Shape] = kept["SHAPES"]
    probe = [options.scalesim, "-c", "from importlib.metadata import version as v; v('scalesim')"]
    installed = subprocess.run(probe, check=False, capture_output=True).returncode == 0
    rows, results, worst = [], {}, 0.0
    for side, pinned in kept["SCALE_SIM"].items():
        live = installed and side[0] >= LEAST
        source = "run now" if live else f"as {Path(PINNED).name} keeps it"
        console.print(f"systolic: {side[0]} x {side[1]} against SCALE-Sim, {source}")
        theirs = scale_sim(options.scalesim, side, list(shapes.values())) if live else pinned
        for (name, shape), last in zip(shapes.items(), theirs, strict=True):
            mine = cycles(side, shape)
            difference = mine / last - 1
            worst = max(worst, abs(difference))
            label = f"{side[0]} x {side[1]}"
            results[f"{label} {name}"] = {"cycles": mine, "scale_sim": last, "source": source}
            sizes = " x ".join(map(str, shape))
            figures = (f"{mine:,}", f"{last:,}", f"{difference:+.3%}")
            rows.append((label, name, sizes, *figures, source))
    columns = ("array", "product", "M x K x N", "cycles", "theirs", "difference", "SCALE-Sim 3.0")
    show("Systolic arrays against SCALE-Sim 3.0", columns, rows)
    console.print("SCALE-Sim numbers cycles from 0 and reports the last one: one less than ours.")
    target = Target("largest difference to SCALE-Sim", worst, "<=", 0.05)
    return results, [target]


def cycles(side: tuple[int, int], shape: Shape) -> int:
    """Our cycles of a product whose weights wait for the array."""
    m, k, n = shape
    machine = Machine(Systolic(*side, ahead=False), FREE, FREE, Memory(64, Fraction(64), 0))
    product = Product(m, k, n, True, "float32", 32)
    return compute_cycles(machine, product, Tile(m, k, n, (0,) * -(-n // 16)), 1)


def scale_sim(python: str, side: tuple[int, int], shapes: list[Shape]) -> list[int]:
    """SCALE-Sim's cycles of some products on an array."""
    script = Path(__file__).with_name("scale_sim.py").resolve()
    products = [",".join(map(str, shape)) for shape in shapes]
    with workspace() as folder:
        command = [python, str(script), *map(str, side), *products]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    found: list[int] = json.loads(answer.stdout.splitlines()[-1])
    return found
