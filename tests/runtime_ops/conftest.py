"""Weights in GOBO form, and models of one GOBO op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from sardonyx.runtime_ops.gobo import GoboTensor, Settings, encode
from sardonyx.runtime_ops.ops import DOMAIN, CustomOp


@pytest.fixture(scope="session")
def encoded() -> Callable[..., GoboTensor]:
    """A random weight matrix [K, N] in GOBO form with a share of outliers (None: by the paper)."""

    def make(
        rows: int,
        columns: int,
        bits: int,
        share: float | None,
        dtype: Any = np.float32,
        groups: int = 1,
    ) -> GoboTensor:
        weights = np.random.default_rng(rows + columns).standard_t(4, (rows, columns)) * 0.04
        rule = "logpdf" if share is None else "share"
        return encode(weights.astype(dtype), Settings(bits, rule, share, groups=groups))[0]

    return make


@pytest.fixture(scope="session")
def op_model() -> Callable[..., onnx.ModelProto]:
    """A model ``y = op(x, tensor, *more)`` that ships the op's body."""

    def make(
        op: CustomOp,
        tensor: GoboTensor,
        x: NDArray[Any],
        opset: int,
        *more: NDArray[Any],
        **attributes: Any,
    ) -> onnx.ModelProto:
        names = op.inputs[1:]
        arrays = (tensor.indices, tensor.centroids, tensor.positions, tensor.values, *more)
        attributes |= {"shape": [tensor.rows, tensor.columns]}
        node = helper.make_node(op.name, ["x", *names], ["y"], domain=DOMAIN, **attributes)
        padded = tensor.rows % 32 > 0 or tensor.columns % 16 > 0
        x_type, y_type = (helper.np_dtype_to_tensor_dtype(d) for d in (x.dtype, arrays[1].dtype))
        x_dims = [f"x{i}" for i in range(x.ndim)]
        y_dims = [f"y{i}" for i in range(x.ndim + op.name.startswith("GoboGather"))]
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", x_type, x_dims)],
            [helper.make_tensor_value_info("y", y_type, y_dims)],
            [numpy_helper.from_array(a, name) for a, name in zip(arrays, names, strict=True)],
        )
        model = helper.make_model(
            graph,
            functions=[op.function(opset, padded, grouped=tensor.centroids.shape[0] > 1)],
            opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)],
            ir_version=13 if opset > 25 else 8,
        )
        onnx.checker.check_model(model)
        return model

    return make


@pytest.fixture
def optimized(tmp_path) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    """The graph that stock onnxruntime executes, with the constants it has computed."""

    def run(model: onnx.ModelProto) -> onnx.ModelProto:
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.log_severity_level = 3
        ort.InferenceSession(model.SerializeToString(), options)
        return onnx.load(tmp_path / "optimized.onnx")

    return run
