"""Sums: the file of recipe peg, 7-bit weights, in onnxruntime and in the reference executor.

1. The codes that both factors of each product have in a run of onnxruntime are multiplied by
   MatMulInteger in both: are all INT32 sums equal?
2. From the codes of that run, the reference executor computes what lies between each quantizer and
   the next: are the codes the same? Floats round in another order, so that a value half-way between
   two codes may become either.
3. Both run the whole file. A code that is another one changes what is computed of it, layer after
   layer: how far are the outputs apart? Not as far as rounding puts either from FP32.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import SUBJECTS, Target, show
from exactness import batches, difference, onnxruntime_run, outputs, reference_run
from int8_variants import show_failures
from numpy.typing import NDArray
from onnx import helper
from peg_variants import FP32, GROUPED, files

from sardonyx import models
from sardonyx.compiler.quiet_session import quiet_session
from sardonyx.runtime_ops.reference import reference_session
from sardonyx.runtime_ops.uniform import sqnr_db

SENTENCES = 3
STEP_BOUND = 2e-5
"""Of outputs made of the same codes, absolute: float32 sums in another order."""

MADE = "/made"
"""Ends the names of codes that are computed from others."""

Array = NDArray[Any]


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all subjects, and the targets."""
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for name in options.models:
        title = SUBJECTS[name].title
        with files(name, options, GROUPED) as (made, failures):
            show_failures(title, failures)
            if GROUPED in made:
                results[name] = measure_model(name, made[GROUPED], made[FP32])
                print_figures(title, results[name])
        targets += targets_of(title, results.get(name))
    return results, targets


def measure_model(name: str, path: Path, source: Path) -> dict[str, Any]:
    """Sums, codes and outputs of a file, and its source's outputs."""
    feeds = batches(name, models.held_out_snippets()[0][:SENTENCES], 1)
    model, tapped = onnx.load(path), onnx.load(path)
    sums, steps = sums_of(model), steps_of(model)
    factors = {value.name for value in sums.graph.input}
    codes = {node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    tapped.graph.output.extend(onnx.ValueInfoProto(name=each) for each in factors | codes)
    stock, stock_sums = quiet_session(tapped), quiet_session(sums)
    our_sums, our_steps = reference_session(sums), reference_session(steps)
    found: dict[str, list[tuple[Array, Array]]] = {"sums": [], "codes": [], "outputs": []}
    for feed in feeds:
        fed = {info.name: feed[info.name] for info in stock.get_inputs()}
        names = [info.name for info in stock.get_outputs()]
        seen = dict(zip(names, stock.run(names, fed), strict=True))
        given = {each: seen[each] for each in factors}
        found["sums"] += zip(stock_sums.run(None, given), our_sums.run(None, given), strict=True)
        made = our_steps.run(None, fed | {each: seen[each] for each in codes})
        for each, values in zip(our_steps.output_names, made, strict=True):
            kind = "codes" if each.endswith(MADE) else "outputs"
            found[kind].append((values, seen[each.removesuffix(MADE)]))
    runs = [outputs(run(path), feeds) for run in (reference_run, onnxruntime_run)]
    ours, stock_outputs, exact = flat([*runs, outputs(onnxruntime_run(source), feeds)])
    return {
        "products": len(sums.graph.node),
        "products_by_weights": sum(node.input[1] not in factors for node in sums.graph.node),
        "sums": compared(found["sums"]),
        "codes": compared(found["codes"]),
        "step_outputs": difference(*map(list, zip(*found["outputs"], strict=True))),
        "outputs": difference(*runs)
        | {"sqnr_db": sqnr_db(stock_outputs, ours), "to_fp32_db": sqnr_db(exact, stock_outputs)},
    }


def flat(runs: list[list[Array]]) -> list[Array]:
    """All outputs of each run in one row."""
    return [np.concatenate([array.ravel() for array in run]) for run in runs]


def sums_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """The products of quantized factors in a model, as MatMulInteger of their codes."""
    made = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes, read = list[onnx.NodeProto](), set[str]()
    codes = dict[str, int]()
    for product in (node for node in model.graph.node if node.op_type == "MatMul"):
        factors = [made[name] for name in product.input if name in made]
        if [factor.op_type for factor in factors] != ["DequantizeLinear"] * 2:
            continue
        zero_points = [(*factor.input, "")[2] for factor in factors]
        operands = [factor.input[0] for factor in factors]
        nodes.append(helper.make_node("MatMulInteger", [*operands, *zero_points], product.output))
        read.update(nodes[-1].input)
        for name, zero_point in zip(operands, zero_points, strict=True):
            if name not in constants:
                codes[name] = constants[zero_point].data_type
    values = [helper.make_tensor_value_info(name, kind, None) for name, kind in codes.items()]
    results = [helper.make_empty_tensor_value_info(node.output[0]) for node in nodes]
    held = [tensor for name, tensor in constants.items() if name in read]
    graph = helper.make_graph(nodes, "sums", values, results, held)
    imports, version = model.opset_import, model.ir_version
    return helper.make_model(graph, opset_imports=imports, ir_version=version)


def steps_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model that takes all codes as inputs too, and computes each from those before it."""
    steps = onnx.ModelProto()
    steps.CopyFrom(model)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in (node for node in steps.graph.node if node.op_type == "QuantizeLinear"):
        (codes,) = node.output
        value = helper.make_tensor_value_info(codes, kinds[node.input[2]], None)
        steps.graph.input.append(value)
        node.output[0] = f"{codes}{MADE}"
        steps.graph.output.append(helper.make_empty_tensor_value_info(node.output[0]))
    return steps


def compared(pairs: list[tuple[Array, Array]]) -> dict[str, int]:
    """Integers side by side."""
    steps = [np.abs(a.astype(np.int64) - b) for a, b in pairs]
    return {
        "count": sum(each.size for each in steps),
        "different": sum(int(np.count_nonzero(each)) for each in steps),
        "largest_difference": max(int(each.max(initial=0)) for each in steps),
    }


def print_figures(title: str, results: dict[str, Any]) -> None:
    """A row for each kind of number."""
    rows = [
        (what, f"{row['count']:,}", f"{row['different']:,}", row["largest_difference"])
        for what, row in (("INT32 sums", results["sums"]), ("next codes", results["codes"]))
    ]
    for what, key in (("outputs of the same codes", "step_outputs"), ("outputs", "outputs")):
        found = results[key]
        shown = f"{found['largest_difference']:.3g} of {found['magnitude']:.3g}"
        rows.append((what, f"{found['values']:,}", "", shown))
    rows.append(("outputs: SQNR, dB", "", "", f"{found['sqnr_db']:.1f}"))
    rows.append(("onnxruntime, FP32: SQNR, dB", "", "", f"{found['to_fp32_db']:.1f}"))
    heading = f"{results['products']} products, {results['products_by_weights']} by weights"
    columns = ("onnxruntime, reference", "numbers", "different", "largest difference")
    show(f"{title}: {heading}", columns, rows)


def targets_of(title: str, results: dict[str, Any] | None) -> list[Target]:
    """All sums equal; what is next to them near; a file that is missing misses."""
    different = step = after = near = math.nan
    if results:
        found = results["outputs"]
        different, step = results["sums"]["different"], results["codes"]["largest_difference"]
        after = results["step_outputs"]["largest_difference"]
        near = found["sqnr_db"] - found["to_fp32_db"]
    return [
        Target(f"{title}: INT32 sums that differ", different, "<=", 0),
        Target(f"{title}: next codes, largest difference", step, "<=", 1),
        Target(f"{title}: outputs of the same codes, difference", after, "<=", STEP_BOUND),
        Target(f"{title}: outputs, dB nearer to each other than to FP32", near, ">=", 0),
    ]
