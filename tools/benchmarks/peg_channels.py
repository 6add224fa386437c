"""As many groups as channels: a scale for each channel of x, g, h and y.

So many products are of no use, so the file is not split: each channel of a whole tensor is rounded
to a grid of its own, which in real numbers is the split into groups of one channel. That is written
out in FP32 ops, as onnxruntime makes QLinearAdd of quantizers, which takes one scale.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from int8_data import Sentences
from int8_variants import ours
from onnx import helper, numpy_helper
from peg_variants import PER_TENSOR, save_used

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
    codes: dict[str, list[str]] = {}
    nodes = list[onnx.NodeProto]()
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in left:
            tensor = left.pop(node.input[0])
            codes[node.output[0]] = constants = grids_of(model.graph, tensor)
            nodes += chain(node, ("Div", "Round", "Add", "Clip"), constants)
        elif codes.keys().isdisjoint(node.input):
            nodes.append(node)
        elif node.op_type == "DequantizeLinear":
            nodes += chain(node, ("Sub", "Mul"), codes[node.input[0]])
        else:
            raise RuntimeError(f"{node.op_type} reads codes of a scale a channel")
    if left:
        raise RuntimeError(f"not rounded: {', '.join(left)}")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    save_used(model, output)


def grids_of(graph: onnx.GraphProto, tensor: TensorOutliers) -> list[str]:
    """Constants with the scale, zero point, least and largest code of each channel."""
    ends = zip(tensor.range.low, tensor.range.high, strict=True)
    grids = [spanning(low, high) for low, high in ends]
    least, most = grids[0].ends
    parts = {
        f"{tensor.name}/scales": [each.scale for each in grids],
        f"{tensor.name}/zero_points": [each.zero_point for each in grids],
        f"{tensor.name}/least": least,
        f"{tensor.name}/most": most,
    }
    graph.initializer.extend(
        numpy_helper.from_array(np.array(values, np.float32), name)
        for name, values in parts.items()
    )
    return list(parts)


def chain(node: onnx.NodeProto, ops: Sequence[str], constants: list[str]) -> list[onnx.NodeProto]:
    """Ops in the place of a node, one after the other."""
    scale, zero_point, *ends = constants
    others = {"Div": [scale], "Round": [], "Add": [zero_point], "Clip": ends}
    others |= {"Sub": [zero_point], "Mul": [scale]}
    names = [node.input[0], *(f"{node.output[0]}/{op}" for op in ops[:-1]), node.output[0]]
    return [
        helper.make_node(op, [read, *others[op]], [made])
        for op, (read, made) in zip(ops, pairwise(names), strict=True)
    ]
