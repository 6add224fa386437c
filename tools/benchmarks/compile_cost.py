"""Compile cost: `sardonyx compile MODEL --recipe gobo`, from the command's start to its exit.

- *seconds*, *CPU seconds* and *peak memory* (VmHWM) of the whole command with default verification,
  median; memory also as a multiple of the FP32 file.
- where the time goes: one more process with a clock around each stage (that of `probes.py`); inside
  the gobo pass the seconds of its threads are added up.
- the same bytes: all those runs have another hash seed and must write equal files.

A seeded BERT-base and the real all-mpnet-base-v2, both of 110 M parameters.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from common import (
    SUBJECTS,
    Cost,
    Target,
    arguments,
    console,
    cost_of,
    finish,
    interleaved,
    medians,
    probe,
    show,
    workspace,
)

COMMAND = [sys.executable, "-c", "from sardonyx.compiler.cli import main; main()", "compile"]
MOST_SECONDS = 8.0
MOST_MEMORY = 2.0


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, tuple(SUBJECTS))
    parser.set_defaults(models=["bert-base", "mpnet"])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with workspace() as folder:
        paths = {name: SUBJECTS[name].write(folder) for name in options.models}
        digests: dict[str, list[str]] = {name: [] for name in paths}
        jobs = {
            name: partial(run_once, path, folder / "out.onnx", digests[name])
            for name, path in paths.items()
        }
        costs = interleaved(jobs, options.runs)
        profiles = {
            name: probe("compile_stages", path, folder / "out.onnx") for name, path in paths.items()
        }
        sizes = {name: path.stat().st_size for name, path in paths.items()}
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for name in options.models:
        title = SUBJECTS[name].title
        rows = [asdict(cost) for cost in costs[name]]
        median = medians(rows)
        same = len(set(digests[name])) == 1
        memory = median["peak_rss"] / sizes[name]
        results[name] = {
            "fp32_file_bytes": sizes[name],
            "median": median,
            "runs": rows,
            "sha256": sorted(set(digests[name])),
            "profile": profiles[name],
        }
        print_figures(title, rows, median, memory, same)
        print_profile(title, profiles[name])
        targets += [
            Target(f"{title}: seconds", median["seconds"], "<=", MOST_SECONDS),
            Target(f"{title}: peak memory / FP32 file", memory, "<=", MOST_MEMORY),
            Target(f"{title}: different files", float(len(set(digests[name]))), "<=", 1.0),
        ]
    finish("compile_cost", results, targets, options.json)


def run_once(path: Path, output: Path, digests: list[str]) -> Cost:
    """One command; the digest of what it wrote is added to ``digests``."""
    cost = cost_of(
        [*COMMAND, path, "--recipe", "gobo", "-o", output], PYTHONHASHSEED=str(len(digests))
    )
    digests.append(hashlib.sha256(output.read_bytes()).hexdigest())
    output.unlink()
    return cost


def print_figures(
    title: str, rows: list[dict[str, float]], median: dict[str, float], memory: float, same: bool
) -> None:
    """A row for each run and the median."""
    table = [
        (
            label,
            f"{row['seconds']:.2f}",
            f"{row['cpu_seconds']:.2f}",
            f"{row['peak_rss'] / 1e6:,.0f} MB",
        )
        for label, row in [*((str(i + 1), r) for i, r in enumerate(rows)), ("median", median)]
    ]
    show(f"{title}: the command", ("run", "seconds", "CPU seconds", "peak memory"), table)
    bytes_said = "the same bytes" if same else "DIFFERENT bytes"
    console.print(f"Peak memory is {memory:.2f} times the FP32 file; all runs wrote {bytes_said}.")


def print_profile(title: str, profile: dict[str, dict[str, float]]) -> None:
    """Where the time of one more run went."""
    for part, name in (("stages", "where time goes"), ("encoding", "in pass gobo, thread-seconds")):
        total = sum(profile[part].values())
        rows = [
            (stage, f"{seconds:.2f}", f"{seconds / total:.1%}")
            for stage, seconds in [*profile[part].items(), ("total", total)]
        ]
        show(f"{title}: {name}", ("stage", "seconds", "share"), rows)


if __name__ == "__main__":
    main()
