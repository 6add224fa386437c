"""A failed check, saved so that anybody can see it fail again with nothing but onnxruntime."""

import tempfile
from pathlib import Path

import numpy as np
import onnx

from sardonyx.compiler.cut import Feeds, Pair

_SCRIPT = '''"""Shows that pass {name} changed {label}. Exits 1 while before and after differ."""

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
    if before.shape != after.shape:
        sys.exit(f"shapes differ: {{before.shape}}, {{after.shape}}")
    difference = np.max(np.abs(before.astype("f8") - after.astype("f8")), initial=0.0)
    worst = max(worst, difference / max(np.max(np.abs(before.astype("f8")), initial=0.0), 1e-30))
print(f"largest relative difference {{worst:.3g}}, allowed {bound:g}")
sys.exit(not worst <= {bound:g})
'''


def save_repro(pair: Pair, feeds: Feeds, name: str, label: str, bound: float) -> Path:
    """Write both models, their inputs and a script that compares them to a new folder."""
    folder = Path(tempfile.mkdtemp(prefix=f"sardonyx-{name}-"))
    onnx.save(pair.before, folder / "before.onnx")
    onnx.save(pair.after, folder / "after.onnx")
    needed = {info.name for model in (pair.before, pair.after) for info in model.graph.input}
    np.savez(folder / "inputs.npz", **{key: feeds[key] for key in needed})  # type: ignore[arg-type]
    script = _SCRIPT.format(name=name, label=label, bound=bound)
    (folder / "reproduce.py").write_text(script)
    return folder
