"""Matrices in GOBO form, models of one native op, and their runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from sardonyx.runtime_ops import register
from sardonyx.runtime_ops.ops import DOMAIN, OPS
from sardonyx.runtime_ops.packing import LAYOUTS, pack

Array = NDArray[Any]


@dataclass(frozen=True)
class Matrix:
    """W [K, N]: the op's constant inputs, and what they were made from."""

    bits: int
    indices: Array
    centroids: Array
    is_outlier: Array
    outliers: Array
    arrays: dict[str, Array]

    @property
    def tables(self) -> Array:
        """Number of each column's centroid table."""
        columns = self.indices.shape[1]
        return np.arange(columns) // -(-columns // len(self.centroids))

    @property
    def weights(self) -> Array:
        """W as floats."""
        plain = self.centroids[self.tables[None, :], self.indices]
        return np.where(self.is_outlier, self.outliers, plain)


def _whole_numbers(rng: np.random.Generator, *shape: int) -> Array:
    """Numbers so small that every sum of their products is exact, in any order."""
    return rng.integers(-64, 65, shape).astype(np.float32)


def _normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="session")
def random_matrix() -> Callable[..., Matrix]:
    """A matrix of random indices; ``outliers``: their share, or which they are (bool [K, N])."""

    def make(
        bits: int,
        rows: int,
        columns: int,
        *,
        groups: int = 1,
        outliers: float | Array = 0.05,
        whole: bool = True,
        gap_type: Any = np.int32,
        seed: int = 0,
    ) -> Matrix:
        rng = np.random.default_rng(seed)
        draw = _whole_numbers if whole else _normal
        indices = rng.integers(0, 1 << bits, (rows, columns)).astype(np.uint8)
        mask = (
            outliers if isinstance(outliers, np.ndarray) else rng.random((rows, columns)) < outliers
        )
        values = draw(rng, rows, columns)
        k, n = np.nonzero(mask)
        places = LAYOUTS[bits].place(k, n, rows)
        order = np.argsort(places)
        centroids = draw(rng, groups, 1 << bits)
        arrays = {
            "indices": pack(indices, bits),
            "centroids": centroids,
            "positions": np.diff(places[order], prepend=0).astype(gap_type),
            "values": values[k[order], n[order]],
        }
        return Matrix(bits, indices, centroids, mask, values, arrays)

    return make


@pytest.fixture(scope="session")
def op_model() -> Callable[..., onnx.ModelProto]:
    """A model ``y = op(x, arrays...)`` without the op's body: only the native op can run it."""

    def make(
        name: str, arrays: dict[str, Array], x_type: Any = np.float32, **attributes: Any
    ) -> onnx.ModelProto:
        x = onnx.ValueInfoProto(name="x")
        x.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(x_type))
        node = helper.make_node(
            name, ["x", *arrays], ["y"], name="dense", domain=DOMAIN, **attributes
        )
        constants = [numpy_helper.from_array(a, key) for key, a in arrays.items()]
        y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
        return helper.make_model(
            helper.make_graph([node], "g", [x], [y], constants),
            opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)],
            ir_version=8,
        )

    return make


@pytest.fixture(scope="session")
def native_session() -> Callable[..., ort.InferenceSession]:
    """A session of a model or its bytes, by the native ops."""

    def make(model: onnx.ModelProto, threads: int = 1) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        native = register(options)
        assert native.active, native.detail
        return ort.InferenceSession(model.SerializeToString(), options)

    return make


@pytest.fixture(scope="session")
def run_op(op_model, native_session) -> Callable[..., Array]:
    """y of one native op for x, ``matrix`` and perhaps a bias."""

    def run(
        kind: str,
        x: Array,
        matrix: Matrix,
        bias: Array | None = None,
        threads: int = 1,
        **attributes: Any,
    ) -> Array:
        arrays = matrix.arrays if bias is None else matrix.arrays | {"bias": bias}
        shape = list(matrix.indices.shape)
        model = op_model(f"{kind}{matrix.bits}", arrays, x.dtype, shape=shape, **attributes)
        return native_session(model, threads).run(None, {"x": x})[0]

    return run


@pytest.fixture(scope="session")
def int8_meaning() -> Callable[..., Array]:
    """A @ W (+ bias) of compute = int8, by the definition in numpy."""

    def meaning(a: Array, w: Matrix, bias: Array | None = None) -> Array:
        op = OPS[f"GoboMatMul{w.bits}" if bias is None else f"GoboLinear{w.bits}"]
        more = [] if bias is None else [bias]
        shape = w.indices.shape
        result: Array = op.meaning(a, *w.arrays.values(), *more, shape=shape, compute="int8")
        return result

    return meaning


@pytest.fixture(scope="session")
def cases(tmp_path_factory, random_matrix, op_model, int8_meaning) -> Path:
    """A folder for `child.py`: models of every op and bit width, with what they must give and the
    body for who has no native op."""
    folder = tmp_path_factory.mktemp("cases")
    rng = np.random.default_rng(0)
    x = rng.integers(-64, 65, (2, 3, 70)).astype(np.float32)
    ids = {dtype: rng.integers(-37, 37, (3, 11)).astype(dtype) for dtype in (np.int32, np.int64)}
    bias = np.arange(37, dtype=np.float32)
    for bits in range(2, 9):
        w = random_matrix(bits, 70, 37, groups=3, gap_type=np.uint16 if bits % 2 else np.int32)
        one = random_matrix(bits, 70, 37)
        # int8 adds outliers in float32 and in an order of the kernel's own: there are none
        plain, plain_one = (
            random_matrix(bits, 70, 37, groups=groups, outliers=0.0, whole=False)
            for groups in (3, 1)
        )
        biased = w.arrays | {"bias": bias}
        int8 = {"compute": "int8"}
        todo = {
            "matmul": ("GoboMatMul", w.arrays, x, x @ w.weights, {}),
            "row": ("GoboMatMul", one.arrays, x[0, 0], x[0, 0] @ one.weights, {}),
            "linear": ("GoboLinear", biased, x, x @ w.weights + bias, {}),
            "int8": ("GoboMatMul", plain.arrays, x, int8_meaning(x, plain), int8),
            "int8row": (
                "GoboMatMul",
                plain_one.arrays,
                x[0, 0],
                int8_meaning(x[0, 0], plain_one),
                int8,
            ),
            "gather32": ("GoboGather", w.arrays, ids[np.int32], w.weights.T[ids[np.int32]], {}),
            "gather64": ("GoboGather", w.arrays, ids[np.int64], w.weights.T[ids[np.int64]], {}),
        }
        for name, (kind, arrays, fed, y, attributes) in todo.items():
            model = op_model(f"{kind}{bits}", arrays, fed.dtype, shape=[70, 37], **attributes)
            model.functions.append(OPS[f"{kind}{bits}"].function(17, True, grouped=name != "row"))
            onnx.save(model, folder / f"{name}{bits}.onnx")
            np.savez(folder / f"{name}{bits}.npz", x=fed, y=y)
    return folder
