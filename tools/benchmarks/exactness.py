"""Exactness: the compiled file computes what the FP32 graph with the decoded weights computes.

Recipe gobo on the real models. The *decoded graph* is the source graph with each encoded weight
replaced by what its indices, centroids and outliers decode to. On real sentences, in batches of
several lengths, the floating-point outputs are compared: largest absolute difference, and whether
all are equal bit for bit.

- *onnxruntime*: compiled file against decoded graph, both with default options: bit for bit;
- *reference*: the same two in the reference executor (a small batch), and the compiled file there
  against onnxruntime, whose sums run in another order.

Then the graph that onnxruntime made of the compiled file (its optimized graph, default options):
census of its ops; how many MatMuls read an FP32 matrix straight from an initializer (as many as
were encoded); and that it holds no op of ours and no FP32 table of an embedding's size.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
from common import REAL, SUBJECTS, Target, arguments, console, finish, show, workspace
from numpy.typing import NDArray
from session_graph import session_graph

from sardonyx import models
from sardonyx.compiler import compile
from sardonyx.compiler.driver import Driver
from sardonyx.compiler.emit import emit
from sardonyx.compiler.load import load
from sardonyx.compiler.pipeline import NORMALIZE
from sardonyx.passes.journal import Journal
from sardonyx.runtime_ops.reference import reference_session

SENTENCES = 96
REFERENCE_SENTENCES = 3
SUM_BOUND = 2e-5
"""Absolute, on hidden states of magnitude 1: float32 sums in another order, layer by layer."""

Outputs = list[NDArray[np.floating]]
Run = Callable[[dict[str, NDArray[np.int64]]], Outputs]


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__, REAL).parse_args()
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for name in options.models:
        title = SUBJECTS[name].title
        with workspace() as folder:
            results[name] = measure(name, folder)
        print_figures(title, results[name])
        targets += targets_of(title, results[name])
    finish("exactness", results, targets, options.json)


def measure(name: str, folder: Path) -> dict[str, Any]:
    """All figures of a model."""
    path = SUBJECTS[name].write(folder)
    compiled, decoded = folder / "compiled.onnx", folder / "decoded.onnx"
    drivers: list[Driver] = []
    result = compile(path, "gobo", observe=lambda _, driver: drivers.append(driver))
    result.save(compiled)
    decoded.write_bytes(decoded_model(path, drivers[-1]).SerializeToString())
    feeds = batches(name, models.held_out_snippets()[0][:SENTENCES], 32)
    few = batches(name, models.held_out_snippets()[0][:REFERENCE_SENTENCES], 32)
    executors = {"onnxruntime": onnxruntime_run, "reference": reference_run}
    runs = {
        (executor, file.stem): outputs(make(file), few if executor == "reference" else feeds)
        for executor, make in executors.items()
        for file in (compiled, decoded)
    }
    runs["onnxruntime", "few"] = outputs(onnxruntime_run(compiled), few)
    pairs = {
        "onnxruntime: compiled, decoded": ("onnxruntime", "onnxruntime", "decoded"),
        "reference: compiled, decoded": ("reference", "reference", "decoded"),
        "compiled: reference, onnxruntime": ("reference", "onnxruntime", "few"),
    }
    compared = {
        label: difference(runs[left, "compiled"], runs[right, other])
        for label, (left, right, other) in pairs.items()
    }
    encoded = [(t.op, t.name) for t in result.report.tensors]
    return {"compared": compared, "session": session_graph(compiled, path, encoded)}


def decoded_model(path: Path, driver: Driver) -> onnx.ModelProto:
    """The source with every encoded constant replaced by what it decodes to."""
    source, graph = load(path)
    for a_pass in NORMALIZE:
        a_pass.run(graph, Journal())
    constants = {t.name: t for t in graph.tensors().values() if isinstance(t, gs.Constant)}
    for entry in driver.journal.encoded:
        for view in entry.views:
            constants[view.constant.name].values = view.decoded(entry.tensor).values
    return emit(source, graph)


def batches(name: str, sentences: list[str], size: int) -> list[dict[str, NDArray[np.int64]]]:
    """The feeds that embedding these sentences makes."""
    made: list[dict[str, NDArray[np.int64]]] = []
    tokenizer = SUBJECTS[name].tokenizer
    assert tokenizer is not None

    def keep(feed: dict[str, NDArray[np.int64]]) -> Outputs:
        made.append(feed)
        return [np.ones((*feed["input_ids"].shape, 1), np.float32)]

    names = ("input_ids", "attention_mask", "token_type_ids")
    models.embed(keep, tokenizer(), sentences, inputs=names, batch_size=size)
    return made


def onnxruntime_run(path: Path) -> Run:
    """A model in stock onnxruntime."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [info.name for info in session.get_inputs()]
    return lambda feed: list(session.run(None, {name: feed[name] for name in names}))


def reference_run(path: Path) -> Run:
    """A model in the reference executor."""
    session = reference_session(onnx.load(path))
    return lambda feed: list(session.run(None, {name: feed[name] for name in session.input_names}))


def outputs(run: Run, feeds: list[dict[str, NDArray[np.int64]]]) -> Outputs:
    """The floating-point outputs of every batch."""
    return [array for feed in feeds for array in run(feed) if array.dtype.kind == "f"]


def difference(left: Outputs, right: Outputs) -> dict[str, Any]:
    """How far two runs are apart."""
    pairs = list(zip(left, right, strict=True))
    return {
        "values": sum(a.size for a, _ in pairs),
        "magnitude": max(float(np.abs(b).max()) for _, b in pairs),
        "largest_difference": max(float(np.abs(a - b).max()) for a, b in pairs),
        "bit_for_bit": all(a.tobytes() == b.tobytes() for a, b in pairs),
    }


def print_figures(title: str, results: dict[str, Any]) -> None:
    """Both parts."""
    rows = [
        (label, f"{row['values']:,}", f"{row['magnitude']:.3g}")
        + (f"{row['largest_difference']:.3g}", "yes" if row["bit_for_bit"] else "no")
        for label, row in results["compared"].items()
    ]
    show(
        f"{title}: outputs",
        ("compared", "values", "largest", "largest difference", "bit for bit"),
        rows,
    )
    graph = results["session"]
    census = ", ".join(f"{count} {op}" for op, count in graph["census"].items())
    console.print(
        f"Session graph: {graph['matmuls_of_plain_matrices']} MatMuls of plain FP32 matrices for "
        f"{graph['matmul_weights_encoded']} encoded ones, {graph['ours']} ops of ours, "
        f"{graph['fp32_tables']} FP32 tables of an embedding's size.\nOps: {census}"
    )


def targets_of(title: str, results: dict[str, Any]) -> list[Target]:
    """Bit for bit in onnxruntime; close in the reference; a plain session graph."""
    stock, reference, across = (r["largest_difference"] for r in results["compared"].values())
    graph = results["session"]
    unfolded = graph["matmul_weights_encoded"] - graph["matmuls_of_plain_matrices"]
    return [
        Target(f"{title}: onnxruntime, compiled - decoded", stock, "<=", 0.0),
        Target(f"{title}: reference, compiled - decoded", reference, "<=", 0.0),
        Target(f"{title}: reference - onnxruntime", across, "<=", SUM_BOUND),
        Target(f"{title}: MatMuls not folded", float(unfolded), "<=", 0.0),
        Target(f"{title}: ops of ours in the session", float(graph["ours"]), "<=", 0.0),
        Target(f"{title}: FP32 embedding tables", float(graph["fp32_tables"]), "<=", 0.0),
    ]


if __name__ == "__main__":
    main()
