"""Run stored models of native ops, with nothing but onnxruntime, numpy and the library itself.

``child.py LIBRARY FOLDER``: FOLDER holds NAME.onnx and NAME.npz with x, y and the tolerance.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

library, folder = sys.argv[1:]
count = 0
for path in sorted(Path(folder).glob("*.onnx")):
    options = ort.SessionOptions()
    options.register_custom_ops_library(library)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    case = np.load(path.with_suffix(".npz"))
    (y,) = session.run(None, {"x": case["x"]})
    assert y.shape == case["y"].shape, path.name
    assert np.all(np.abs(y - case["y"]) <= case["tolerance"]), path.name
    count += 1
sys.stdout.write(f"{ort.__version__} {count}\n")
