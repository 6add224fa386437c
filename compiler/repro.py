"""A failed check, saved so that anybody can see it fail again with nothing but onnxruntime."""

import tempfile
from pathlib import Path

import numpy as np
import onnx

from sardonyx.compiler.cut import Feeds, Pair

_SCRIPT = """{purpose!r}

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

here = Path(__file__).parent
feeds = dict(np.load(here / "inputs.npz"))
options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
outputs = []
for side in ("before", "after"):
    session = ort.InferenceSession(here / f"{{side}}.onnx", options)
    named = {{info.name: feeds[info.name] for info in session.get_inputs()}}
    outputs.append(session.run(None, named))
worst = 0.0
for before, after in zip(*outputs):
    if (before.shape, before.dtype) != (after.shape, after.dtype):
        sys.exit(f"{{before.shape}} of {{before.dtype}}, {{after.shape}} of {{after.dtype}}")
    before, after = before.astype("f8"), after.astype("f8")
    finite = np.isfinite(before) & np.isfinite(after)
    if not np.array_equal(before[~finite], after[~finite], equal_nan=True):
        sys.exit("one is infinite or not a number where the other is not")
    before, after = before[finite], after[finite]
    difference = np.max(np.abs(before - after), initial=0.0)
    worst = max(worst, difference / max(np.max(np.abs(before), initial=0.0), 1e-30))
print(f"largest relative difference {{worst:.3g}}, allowed {bound:g}")
sys.exit(not worst <= {bound:g})
"""


def save_repro(pair: Pair, feeds: Feeds, name: str, label: str, bound: float) -> Path:
    """Write both models, their inputs and a script that compares them to a new folder."""
    folder = Path(tempfile.mkdtemp(prefix=f"sardonyx-{name}-"))
    onnx.save(pair.before, folder / "before.onnx")
    onnx.save(pair.after, folder / "after.onnx")
    needed = {info.name for model in (pair.before, pair.after) for info in model.graph.input}
    np.savez(folder / "inputs.npz", **{key: feeds[key] for key in needed})  # type: ignore[arg-type]
    purpose = f"Shows that pass {name} changed {label}. Exits 1 while before and after differ."
    (folder / "reproduce.py").write_text(_SCRIPT.format(purpose=purpose, bound=bound))
    return folder
