"""Run stored models of native ops, with nothing but onnxruntime, numpy and the library itself.

``child.py LIBRARY FOLDER``: FOLDER holds NAME.onnx and NAME.npz with x and y. LIBRARY may be
``none``: then the ops' bodies run, which know no int8.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

library, folder = sys.argv[1:]
count = 0
for path in sorted(Path(folder).glob("*.onnx")):
    options = ort.SessionOptions()
    if library != "none":
        options.register_custom_ops_library(library)
    elif path.name.startswith("int8"):
        continue
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    case = np.load(path.with_suffix(".npz"))
    (y,) = session.run(None, {"x": case["x"]})
    np.testing.assert_array_equal(y, case["y"], path.name, strict=True)
    count += 1
sys.stdout.write(f"{ort.__version__} {count}\n")
