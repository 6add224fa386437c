"""Damaged models and inputs for the native ops: any answer will do but a crash.

``fuzz_child.py LIBRARY SEED COUNT`` prints how many models ran, were refused by the ops when the
session was made, were refused by them when it ran, and were refused by onnxruntime itself.
"""

import json
import sys
from collections import Counter

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from sardonyx.runtime_ops.packing import LAYOUTS

KINDS = ["GoboMatMul", "GoboLinear", "GoboGather"]
SIZES = [0, 1, -1, 2, 7, 16, 31, 32, 33, 64, 65, 1 << 20, 2**31 - 1, 2**31, 2**63 - 1, -(2**63)]
GAPS = [0, 1, -1, 31, 64, 1000, 65535, 65536, 2**31 - 1, -(2**31)]
TYPES = ["f2", "f4", "f8", "u1", "i1", "u2", "i2", "i4", "i8", "u4", "u8", "?"]


class Fuzzer:
    """Makes one damaged case after the other."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def pick(self, values):
        return values[self.rng.integers(len(values))]

    def size(self, most):
        return int(self.rng.integers(1, most))

    def case(self):
        """Op, attributes, arrays and x of a valid case."""
        bits, rows, columns = self.size(8) + 1, self.size(70), self.size(50)
        groups, kind = self.size(columns + 1), self.pick(KINDS)
        chosen = self.rng.choice(rows * columns, self.size(rows * columns + 1) // 3, replace=False)
        places = np.sort(LAYOUTS[bits].place(*np.divmod(chosen, columns), rows))
        gaps = np.diff(places, prepend=0)
        arrays = {
            "indices": self.rng.integers(0, 256, LAYOUTS[bits].shape(rows, columns)).astype("u1"),
            "centroids": self.rng.standard_normal((groups, 1 << bits)).astype("f4"),
            "positions": gaps.astype(self.pick(["u2", "i4"])),
            "values": self.rng.standard_normal(len(gaps)).astype("f4"),
        }
        if kind == "GoboLinear":
            arrays["bias"] = self.rng.standard_normal(columns).astype("f4")
        batch = [self.size(5) for _ in range(self.rng.integers(3))]
        x = self.rng.standard_normal([*batch, rows]).astype("f4")
        if kind == "GoboGather":
            x = self.rng.integers(-columns, columns, batch).astype(self.pick(["i4", "i8"]))
        attributes = {"shape": [rows, columns], "compute": self.pick(["fp32", "int8"])}
        return [f"{kind}{bits}", attributes, arrays, x]

    def damaged(self):
        case = self.case()
        for _ in range(self.rng.integers(3)):
            self.pick([self.attribute, self.array, self.array, self.array, self.x, self.op])(case)
        return case

    def op(self, case):
        case[0] = f"{self.pick(KINDS)}{self.size(8) + 1}"

    def attribute(self, case):
        attributes = case[1]
        if self.rng.random() < 0.2:
            attributes["compute"] = self.pick([b"", b"\xff", b"int", "int8" * 999, 1, [1], 0.5])
        elif self.rng.random() < 0.2:
            attributes["shape"] = self.pick([None, 1, "ab", 0.5, [0.5, 1.5], ["a", "b"]])
        elif self.rng.random() < 0.3:
            attributes["shape"] = [self.pick(SIZES) for _ in range(self.size(5))]
        else:
            at = self.rng.integers(2)
            shape = attributes["shape"]
            if isinstance(shape, list) and len(shape) == 2:
                shape[at] = self.pick([*SIZES, *range(1, 70)])

    def array(self, case):
        name = self.pick(list(case[2]))
        case[2][name] = self.changed(case[2][name], name)

    def x(self, case):
        case[3] = self.changed(case[3], "x")

    def changed(self, array, name):
        if name in ("positions", "x") and self.rng.random() < 0.5:
            return self.moved(array)
        return self.pick([self.cast, self.cut, self.shaped, self.doubled, self.junk])(array)

    def moved(self, array):
        """One number becomes another: a position, an id or an activation."""
        array = np.array(array)
        if array.size:
            at = np.unravel_index(self.rng.integers(array.size), array.shape)
            with np.errstate(all="ignore"):
                near = array[at].astype("f8") + self.pick([-33, -2, -1, 1, 2, 5, 50])
                array[at] = np.asarray(self.pick([near, self.pick(GAPS)])).astype(array.dtype)
        return array

    def cast(self, array):
        with np.errstate(all="ignore"):
            return array.astype(self.pick(TYPES))

    def cut(self, array):
        return array.reshape(-1)[: self.rng.integers(array.size + 1)]

    def shaped(self, array):
        return np.resize(array, [self.size(6) - 1 for _ in range(self.rng.integers(6))])

    def doubled(self, array):
        return np.concatenate([array, array]) if array.ndim else array[None]

    def junk(self, array):
        noise = self.rng.integers(0, 256, array.nbytes).astype("u1")
        return np.ndarray(array.shape, array.dtype, noise.tobytes())


def model(name, attributes, arrays, x):
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    inputs = [helper.make_tensor_value_info("x", kind, [None] * x.ndim)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    known = {key: value for key, value in attributes.items() if value is not None}
    node = helper.make_node(name, ["x", *arrays], ["y"], "dense", domain="sardonyx", **known)
    constants = [numpy_helper.from_array(array, key) for key, array in arrays.items()]
    graph = helper.make_graph([node], "g", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("sardonyx", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def outcome(library, case):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # every tensor an allocation of its own, with an end
    options.enable_mem_pattern = False
    options.intra_op_num_threads = 1 + len(case[2]["indices"].shape) % 2
    options.register_custom_ops_library(library)
    ours, stage = f"{case[0]} 'dense': ", "made"
    try:
        session = ort.InferenceSession(model(*case), options, providers=["CPUExecutionProvider"])
        stage = "run"
        session.run(None, {"x": case[3]})
    except Exception as error:
        return f"refused when {stage}" if ours in str(error) else "refused by onnxruntime"
    return "ran"


def main():
    library, seed, count = sys.argv[1:]
    fuzzer, outcomes = Fuzzer(int(seed)), Counter()
    for _ in range(int(count)):
        outcomes[outcome(library, fuzzer.damaged())] += 1
    sys.stdout.write(json.dumps(outcomes) + "\n")


main()
