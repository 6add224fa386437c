"""Movement: a decoder's cache in the order of its beams, as INT8 codes and as floats.

Each model moves keys and values by the beams' indices, as a step of beam search does, and nothing
else: Gather along the first axis, or GatherND. ``one tensor`` is one of them, ``6 layers`` all keys
and values of a decoder. FP32 and INT8 take turns on two threads of stock onnxruntime; *speed* is
the time of FP32 / INT8 in the same round. Bhandare et al. report 5 for GatherNd.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
from common import SEED, Target, arguments, finish, show
from fusion_latency import THREADS, Seconds, load_average, quartiles, time_rounds
from pool import pooled

CACHE = (8, 8, 256, 64)
"""Beams, heads, tokens, numbers a head."""

TENSORS = {"one tensor": 1, "6 layers": 12}
KINDS = {"FP32": "float", "INT8": "int8"}
MOVES = {"Gather": ("", "Gather <axis = 0>"), "GatherND": (",1", "GatherND")}
"""By op: what its indices' shape has more, and how it is written."""

LEAST_SPEED = 2.0


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    results, targets = measure(options)
    finish("cleanup_movement", results, targets, options.json)


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of both ops for one tensor and for a decoder's, and the targets."""
    results: dict[str, Any] = {"load_before": load_average(), "shape": CACHE}
    moves = {
        f"{op}, {title}": figures(measure_move(op, count, options.rounds))
        for op in MOVES
        for title, count in TENSORS.items()
    }
    print_figures(moves)
    targets = [Target(name, row["speed"][1], ">=", LEAST_SPEED) for name, row in moves.items()]
    return results | {"moves": moves, "load_after": load_average()}, targets


def measure_move(op: str, count: int, rounds: int) -> Seconds:
    """Seconds of a move of so many tensors, of floats and of codes."""
    makers = {name: partial(session, op, name, count) for name in KINDS}
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(time_rounds, makers, feed(op, count), rounds).result()


def session(op: str, kind: str, count: int) -> ort.InferenceSession:
    """A session that moves so many tensors; it gives one number of each, so that no time is spent
    on handing over what was moved."""
    more, move = MOVES[op]
    shape, corner = ",".join(map(str, CACHE)), "{0,0,0,0}"
    names = range(count)
    inputs = ", ".join(f"{KINDS[kind]}[{shape}] {kind}{n}" for n in names)
    outputs = ", ".join(f"{KINDS[kind]}[1,1,1,1] y{n}" for n in names)
    lines = "\n".join(
        f"moved{n} = {move} ({kind}{n}, beams)\ny{n} = Slice (moved{n}, start, end)" for n in names
    )
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        g (int64[{CACHE[0]}{more}] beams, {inputs}) => ({outputs})
        <int64[4] start = {corner}, int64[4] end = {{1,1,1,1}}> {{ {lines} }}"""
    )
    stored = model.SerializeToString()
    return ort.InferenceSession(stored, pooled(), providers=["CPUExecutionProvider"])


def feed(op: str, count: int) -> dict[str, Any]:
    """Caches of floats and of codes, and an order in which a beam goes on twice."""
    random = np.random.default_rng(SEED)
    beams = random.integers(0, CACHE[0], CACHE[0])
    feeds: dict[str, Any] = {"beams": beams[:, None] if op == "GatherND" else beams}
    for n in range(count):
        codes = random.integers(-128, 128, CACHE).astype(np.int8)
        feeds |= {f"FP32{n}": codes.astype(np.float32), f"INT8{n}": codes}
    return feeds


def figures(seconds: Seconds) -> dict[str, Any]:
    """Median milliseconds, and quartiles of the time of FP32 / INT8 in a round."""
    return {
        "milliseconds": {kind: 1e3 * float(np.median(row)) for kind, row in seconds.items()},
        "speed": quartiles(seconds["FP32"] / seconds["INT8"]),
    }


def print_figures(moves: dict[str, Any]) -> None:
    """A row for each op and number of tensors."""
    rows = []
    for name, row in moves.items():
        low, middle, high = row["speed"]
        times = [f"{row['milliseconds'][kind]:.3f}" for kind in KINDS]
        rows.append((name, *times, f"{middle:.2f} ({low:.2f} to {high:.2f})"))
    shape = " x ".join(map(str, CACHE))
    columns = ("move", *(f"{kind}, ms" for kind in KINDS), "speed (quartiles)")
    show(f"Cache of {shape} in the order of the beams, {THREADS} threads", columns, rows)


if __name__ == "__main__":
    main()
