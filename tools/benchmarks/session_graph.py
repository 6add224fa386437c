"""The graph that onnxruntime makes of a compiled file when it creates a session."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from sardonyx.runtime_ops.ops import DOMAIN


def session_graph(compiled: Path, source: Path, encoded: list[tuple[str, str]]) -> dict[str, Any]:
    """What the optimized graph of ``compiled`` holds.

    ``source``: the FP32 file. ``encoded``: op and name of its encoded weights.
    """
    model = optimized(compiled)
    floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    matrices = {t.name for t in floats if len(t.dims) == 2}
    tables = {name for op, name in encoded if op == "Gather"}
    sizes = {math.prod(t.dims) for t in onnx.load(source).graph.initializer if t.name in tables}
    plain = [n for n in model.graph.node if n.op_type.endswith("MatMul") or n.op_type == "Gemm"]
    return {
        "census": dict(Counter(node.op_type for node in model.graph.node).most_common()),
        "ours": sum(node.domain == DOMAIN for node in model.graph.node),
        "matmuls_of_plain_matrices": sum(node.input[1] in matrices for node in plain),
        "matmul_weights_encoded": sum(op != "Gather" for op, _ in encoded),
        "fp32_tables": sum(math.prod(t.dims) in sizes for t in floats),
    }


def optimized(path: Path) -> onnx.ModelProto:
    """What onnxruntime runs of a file."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path.with_name("optimized.onnx"))
    options.log_severity_level = 3
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)
