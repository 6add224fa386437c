"""As many groups as channels: a scale for each channel of x, g, h and y.

Standard hardware has no such products, so the file is not split: quantizers of a whole tensor get a
scale for each channel (axis -1), which in real numbers is the split into groups of one channel.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from int8_data import Sentences
from int8_variants import ours
from onnx import helper, numpy_helper
from peg_variants import PER_TENSOR

from sardonyx.compiler.outliers import TensorOutliers, find_outliers
from sardonyx.runtime_ops.uniform import Grid, grid


def tensors_of(path: Path, sentences: Sentences, folder: Path) -> tuple[TensorOutliers, ...]:
    """x, g, h and y of every layer of an FP32 file, with the range of each channel."""
    with TemporaryDirectory(dir=folder) as place:
        text, tokenizer = sentences.written(Path(place))
        return find_outliers(path, text, tokenizer=tokenizer).tensors


def spanning(low: np.floating, high: np.floating) -> Grid:
    """The grid of values between two ends."""
    return grid(min(float(low), 0.0), max(float(high), 0.0))


def by_channel(path: Path, output: Path, sentences: Sentences, kinds: Collection[str]) -> None:
    """The file with a scale a tensor, but of each of ``kinds`` a scale a channel."""
    tensors = tensors_of(path, sentences, output.parent)
    ours(path, output, sentences, "peg", "portable", (PER_TENSOR,))
    model = onnx.load(output)
    left = {tensor.name: tensor for tensor in tensors if tensor.kind in kinds}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in left:
            _spread(model.graph, node, left.pop(node.input[0]))
    if left:
        raise RuntimeError(f"not rounded: {', '.join(left)}")
    onnx.save(model, output)


def _spread(graph: onnx.GraphProto, quantize: onnx.NodeProto, tensor: TensorOutliers) -> None:
    """Give a QuantizeLinear, and all that reads its codes, a scale for each channel."""
    ends = zip(tensor.range.low, tensor.range.high, strict=True)
    grids = [spanning(low, high) for low, high in ends]
    parts = {
        f"{tensor.name}/scales": np.array([each.scale for each in grids], np.float32),
        f"{tensor.name}/zero_points": np.array([each.zero_point for each in grids], np.uint8),
    }
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in parts.items())
    (codes,) = quantize.output
    for node in [quantize, *(node for node in graph.node if codes in node.input)]:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            raise RuntimeError(f"{node.op_type} reads codes of '{tensor.name}'")
        del node.input[1:], node.attribute[:]
        node.input.extend(parts)
        node.attribute.append(helper.make_attribute("axis", -1))
