"""Groups without a split: each channel of x, g, h and y is rounded to the grid of its group.

That is, in real numbers, the split into those groups, of which K products would be made: a file for
each way to group them takes no compile, and as many groups as channels no thousand products. It is
written out in FP32 ops, as onnxruntime makes QLinearAdd of quantizers, which takes one scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from int8_data import Sentences
from onnx import helper, numpy_helper
from peg_variants import save_used

from sardonyx.compiler.outliers import TensorOutliers, find_outliers
from sardonyx.passes.peg.groups import Range, Rule, channel_order, group_sizes
from sardonyx.passes.peg.reorder import Order
from sardonyx.runtime_ops.uniform import Grid, grid

ORDERS = ("own", "layer", "global", "none")

Groups = list[Order]
"""The channels of each group."""


def tensors_of(path: Path, sentences: Sentences, folder: Path) -> tuple[TensorOutliers, ...]:
    """x, g, h and y of every layer of an FP32 file, with the range of each channel."""
    with TemporaryDirectory(dir=folder) as place:
        text, tokenizer = sentences.written(Path(place))
        return find_outliers(path, text, tokenizer=tokenizer).tensors


def spanning(low: np.floating, high: np.floating) -> Grid:
    """The grid of values between two ends."""
    return grid(min(float(low), 0.0), max(float(high), 0.0))


def groupings(
    tensors: Sequence[TensorOutliers], k: int, rule: Rule
) -> dict[str, dict[str, Groups]]:
    """The groups of every tensor, by its name, in each of `ORDERS`: x, h and y of a layer share
    theirs in all but the first."""
    ranges: dict[str, Range] = {t.name: (t.range.low, t.range.high) for t in tensors}
    layers: dict[int, list[str]] = {}
    for tensor in tensors:
        if tensor.kind != "g":
            layers.setdefault(tensor.layer, []).append(tensor.name)

    def cut(sets: Sequence[Sequence[str]], ordered: bool = True) -> Iterator[tuple[str, Groups]]:
        measured = [[ranges[name] for name in names] for names in sets]
        plain = np.arange(measured[0][0][0].size)
        order = channel_order(measured, k, rule) if ordered else plain
        for names, known in zip(sets, measured, strict=True):
            cuts = np.cumsum(group_sizes(known, order, k, rule))[:-1]
            yield from ((name, np.split(order, cuts)) for name in names)

    own = {name: groups for t in tensors for name, groups in cut([[t.name]])}
    layer = {name: groups for names in layers.values() for name, groups in cut([names])}
    one = dict(cut(list(layers.values())))
    alone = [[t.name] for t in tensors if t.kind == "g"]
    plain = dict(each for names in (*layers.values(), *alone) for each in cut([names], False))
    return dict(zip(ORDERS, (own, own | layer, own | one, plain), strict=True))


def regrouped(
    whole: Path, output: Path, tensors: Sequence[TensorOutliers], groups: Mapping[str, Groups]
) -> None:
    """A file with a scale a tensor, but of each of ``tensors`` a scale a group."""
    model = onnx.load(whole)
    left = {tensor.name: tensor for tensor in tensors}
    codes: dict[str, list[str]] = {}
    nodes = list[onnx.NodeProto]()
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in left:
            tensor = left.pop(node.input[0])
            constants = grids_of(model.graph, tensor, groups[tensor.name])
            codes[node.output[0]] = constants
            nodes += chain(node, ("Div", "Round", "Add", "Clip"), constants)
        elif codes.keys().isdisjoint(node.input):
            nodes.append(node)
        elif node.op_type == "DequantizeLinear":
            nodes += chain(node, ("Sub", "Mul"), codes[node.input[0]])
        else:
            raise RuntimeError(f"{node.op_type} reads codes of a scale a group")
    if left:
        raise RuntimeError(f"not rounded: {', '.join(left)}")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    save_used(model, output)


def grids_of(graph: onnx.GraphProto, tensor: TensorOutliers, groups: Groups) -> list[str]:
    """Constants with the scale, zero point, least and largest code of each channel."""
    scales, zero_points = (np.empty(tensor.width, np.float32) for _ in range(2))
    for group in groups:
        made = spanning(tensor.range.low[group].min(), tensor.range.high[group].max())
        scales[group], zero_points[group] = made.scale, made.zero_point
    least, most = made.ends
    parts = {"scales": scales, "zero_points": zero_points, "least": least, "most": most}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(values, np.float32), f"{tensor.name}/{name}")
        for name, values in parts.items()
    )
    return [f"{tensor.name}/{name}" for name in parts]


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
