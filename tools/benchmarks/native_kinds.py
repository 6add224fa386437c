"""One weight in every form that a kernel reads, as models that hold many copies of it.

A model has one input A [M, K] and a node for each copy, all of which read A; each copy is an
initializer of its own, with other contents. A run sweeps at least `SWEEP` bytes of weights, so that
every node finds its weight in memory and not in a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from common import SEED, console
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import _pybind_state as onnxruntime_quantizers

from sardonyx.models.seeded import seeded_values
from sardonyx.runtime_ops import register
from sardonyx.runtime_ops.gobo import Settings, encode
from sardonyx.runtime_ops.ops import DOMAIN, OPS, VERSION

BLOCK = 32
"""Weights that share a scale in MatMulNBits."""

OPSET = 21
CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")


def _sweep() -> int:
    """Bytes of weights that a run reads: three times the last cache, 96 MB at least."""
    size = int(CACHE.read_text().strip().removesuffix("K")) << 10 if CACHE.exists() else 0
    return max(3 * size, 96_000_000)


SWEEP = _sweep()

Array = NDArray[Any]


@dataclass(frozen=True)
class Form:
    """A weight [K, N] as the inputs of an op after A: ``arrays``, by name. What a copy changes is
    the first array, whose blocks along its first axis it rotates."""

    op: str
    domain: str
    arrays: dict[str, Array]
    attributes: dict[str, Any]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def copies(self) -> int:
        """How many make up a sweep."""
        return -(-SWEEP // self.nbytes)


def float32(weights: Array) -> Form:
    """A plain MatMul."""
    return Form("MatMul", "", {"weights": weights}, {})


def nbits(symmetric: bool, accuracy: int) -> Callable[[Array], Form]:
    """onnxruntime's MatMulNBits of 4 bits."""

    def form(weights: Array) -> Form:
        rows, columns = weights.shape
        blocks = rows // BLOCK
        packed = np.zeros((columns, blocks, BLOCK // 2), np.uint8)
        scales = np.zeros((columns, blocks), np.float32)
        zeros = np.zeros((columns, -(-blocks // 2)), np.uint8)
        onnxruntime_quantizers.quantize_matmul_4bits(
            packed, weights, scales, zeros, BLOCK, columns, rows, symmetric
        )
        arrays = {"packed": packed, "scales": scales} | ({} if symmetric else {"zeros": zeros})
        attributes = {"K": rows, "N": columns, "bits": 4, "block_size": BLOCK}
        attributes["accuracy_level"] = accuracy
        return Form("MatMulNBits", "com.microsoft", arrays, attributes)

    return form


def dynamic_int8(weights: Array) -> Form:
    """onnxruntime's DynamicQuantizeMatMul: symmetric int8 weights, a scale a column."""
    scales = np.abs(weights).max(axis=0) / np.float32(127)
    quantized = np.rint(weights / scales).astype(np.int8)
    arrays = {"quantized": quantized, "scales": scales}
    return Form("DynamicQuantizeMatMul", "com.microsoft", arrays, {})


def ours(bits: int, compute: str) -> Callable[[Array], Form]:
    """GoboMatMul."""

    def form(weights: Array) -> Form:
        tensor = encode(weights, Settings(bits))[0]
        names = ("indices", "centroids", "positions", "values")
        arrays = {name: getattr(tensor, name) for name in names}
        attributes: dict[str, Any] = {"shape": weights.shape}
        if compute != "fp32":
            attributes["compute"] = compute
        return Form(f"GoboMatMul{bits}", DOMAIN, arrays, attributes)

    return form


KINDS: dict[str, Callable[[Array], Form]] = {
    "FP32 MatMul": float32,
    "MatMulNBits, accuracy 4": nbits(symmetric=False, accuracy=4),
    "MatMulNBits, accuracy 4, symmetric": nbits(symmetric=True, accuracy=4),
    "MatMulNBits, accuracy 0": nbits(symmetric=False, accuracy=0),
    "DynamicQuantizeMatMul": dynamic_int8,
    "3 bits, fp32": ours(3, "fp32"),
    "3 bits, int8": ours(3, "int8"),
    "4 bits, fp32": ours(4, "fp32"),
    "4 bits, int8": ours(4, "int8"),
}
"""Peers, then ours."""

OURS = tuple(kind for kind in KINDS if " bits, " in kind)
PEERS = tuple(kind for kind in KINDS if kind not in OURS)


def weights(rows: int, columns: int) -> NDArray[np.float32]:
    """A [K, N] matrix spread as trained ones are: a bell, and one of a thousand far out."""
    return seeded_values("weight", (rows, columns), SEED)


def model(form: Form, rows: int, columns: int) -> onnx.ModelProto:
    """Input A [M, K]; outputs Y0, Y1, ... [M, N], one for each copy."""
    nodes, initializers, outputs = [], [], []
    for copy in range(form.copies):
        names = {name: f"{name}{copy}" for name in form.arrays}
        for at, (name, array) in enumerate(form.arrays.items()):
            turned = array if at else np.roll(array, copy, axis=0)
            initializers.append(numpy_helper.from_array(turned, names[name]))
        output = f"Y{copy}"
        inputs = ["A", *names.values()]
        nodes.append(
            helper.make_node(form.op, inputs, [output], domain=form.domain, **form.attributes)
        )
        outputs.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["M", columns]))
    a = helper.make_tensor_value_info("A", TensorProto.FLOAT, ["M", rows])
    graph = helper.make_graph(nodes, "copies", [a], outputs, initializers)
    versions = {"": OPSET, "com.microsoft": 1, DOMAIN: VERSION}
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid(*pair) for pair in versions.items()]
    )
    made.ir_version = 10
    if form.domain == DOMAIN:
        made.functions.append(OPS[form.op].function(OPSET, False))
    return made


def available() -> str:
    """Which native kernels there are; empty, and said why, where there are none."""
    native = register(ort.SessionOptions())
    if not native.active:
        console.print(f"The native library is not active, so only peers run: {native.detail}")
    return native.detail if native.active else ""
