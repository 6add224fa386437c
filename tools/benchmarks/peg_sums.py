"""Sums: the file of recipe peg, 7-bit weights, in onnxruntime and in the reference executor.

The codes that both factors of each product have in a run of onnxruntime are multiplied by
MatMulInteger in both: are all INT32 sums equal? Then both run the whole file: how far are the
outputs apart? Sums of floats run in another order in each, so that a value between two codes may
become either, and differ by a step from there on; how many codes do is told too.
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
from peg_variants import GROUPED, files

from sardonyx import models
from sardonyx.compiler.quiet_session import quiet_session
from sardonyx.runtime_ops.reference import reference_session

SENTENCES = 3
OUTPUT_BOUND = 0.05
"""Of the largest output."""

Array = NDArray[np.generic]


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all subjects, and the targets."""
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for name in options.models:
        title = SUBJECTS[name].title
        with files(name, options, GROUPED) as (made, failures):
            show_failures(title, failures)
            if GROUPED in made:
                results[name] = measure_model(name, made[GROUPED])
                print_figures(title, results[name])
        targets += targets_of(title, results.get(name))
    return results, targets


def measure_model(name: str, path: Path) -> dict[str, Any]:
    """Sums, codes and outputs of a file."""
    feeds = batches(name, models.held_out_snippets()[0][:SENTENCES], SENTENCES)
    sums, tapped = sums_of(onnx.load(path)), onnx.load(path)
    names = [value.name for value in sums.graph.input]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=each) for each in names)
    stock, ours = quiet_session(tapped), reference_session(tapped)
    stock_sums, our_sums = quiet_session(sums), reference_session(sums)
    codes, accumulators = list[tuple[Array, Array]](), list[tuple[Array, Array]]()
    for feed in feeds:
        wanted = {info.name: feed[info.name] for info in stock.get_inputs()}
        read = stock.run(names, wanted)
        codes += zip(read, ours.run(names, wanted), strict=True)
        given = dict(zip(names, read, strict=True))
        accumulators += zip(stock_sums.run(None, given), our_sums.run(None, given), strict=True)
    runs = (outputs(run(path), feeds) for run in (reference_run, onnxruntime_run))
    return {
        "products": len(sums.graph.node),
        "products_by_weights": sum(node.input[1] not in names for node in sums.graph.node),
        "sums": compared(accumulators),
        "codes": compared(codes),
        "outputs": difference(*runs),
    }


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
        for what, row in (("INT32 sums", results["sums"]), ("codes", results["codes"]))
    ]
    found = results["outputs"]
    shown = f"{found['largest_difference']:.3g} of {found['magnitude']:.3g}"
    rows.append(("outputs", f"{found['values']:,}", "", shown))
    heading = f"{results['products']} products, {results['products_by_weights']} by weights"
    columns = ("onnxruntime, reference", "numbers", "different", "largest difference")
    show(f"{title}: {heading}", columns, rows)


def targets_of(title: str, results: dict[str, Any] | None) -> list[Target]:
    """All sums equal; outputs near; a file that is missing misses."""
    different = near = math.nan
    if results:
        found = results["outputs"]
        different = results["sums"]["different"]
        near = found["largest_difference"] / found["magnitude"]
    return [
        Target(f"{title}: INT32 sums that differ", different, "<=", 0),
        Target(f"{title}: outputs, largest difference / output", near, "<=", OUTPUT_BOUND),
    ]
