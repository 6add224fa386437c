"""Session: what it takes to create a stock onnxruntime session of the compiled file.

A fresh process imports onnxruntime, notes VmHWM and VmRSS, creates an InferenceSession with default
options, and notes them again: seconds, *peak growth* (VmHWM) and *growth* (VmRSS). The compiled
file (recipe gobo, nothing registered) and the FP32 file take turns; medians. Growth is also given
as a multiple of the FP32 file's size.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from common import (
    SUBJECTS,
    Target,
    arguments,
    finish,
    interleaved,
    medians,
    probe,
    show,
    workspace,
)

from sardonyx.compiler import compile

MOST_SECONDS = 6.0
MOST_GROWTH = 3.2


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, tuple(SUBJECTS))
    parser.set_defaults(models=["bert-base", "mpnet"])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for name in options.models:
        title = SUBJECTS[name].title
        with workspace() as folder:
            results[name] = measure(SUBJECTS[name].write(folder), folder, options.runs)
        print_figures(title, results[name], options.runs)
        figures = results[name]["compiled"]["median"]
        growth = figures["peak_growth"] / results[name]["fp32"]["bytes"]
        targets.append(Target(f"{title}: seconds", figures["seconds"], "<=", MOST_SECONDS))
        targets.append(Target(f"{title}: peak growth / FP32 file", growth, "<=", MOST_GROWTH))
    finish("session", results, targets, options.json)


def measure(path: Path, folder: Path, runs: int) -> dict[str, Any]:
    """Figures of the FP32 file and of its compiled form."""
    output = folder / "compiled.onnx"
    compile(path, "gobo").save(output)
    files = {"fp32": path, "compiled": output}
    jobs = {name: partial(probe, "create_session", file) for name, file in files.items()}
    return {
        name: {"bytes": files[name].stat().st_size, "median": medians(rows), "runs": rows}
        for name, rows in interleaved(jobs, runs).items()
    }


def print_figures(title: str, results: dict[str, Any], runs: int) -> None:
    """A table of both files."""
    plain = results["fp32"]["bytes"]
    rows = []
    for name, figures in results.items():
        median = figures["median"]
        seconds = [row["seconds"] for row in figures["runs"]]
        rows.append(
            (name, f"{figures['bytes']:,}", f"{median['seconds']:.2f}")
            + (f"{min(seconds):.2f} to {max(seconds):.2f}",)
            + tuple(
                f"{median[key] / 1e6:,.0f} MB = {median[key] / plain:.2f} x"
                for key in ("peak_growth", "growth")
            )
        )
    columns = ("file", "bytes", "seconds", "of all runs", "peak growth", "growth kept")
    show(f"{title}: session creation, median of {runs}", columns, rows)


if __name__ == "__main__":
    main()
