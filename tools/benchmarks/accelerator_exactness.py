"""What GOBO's chip computes in real MiniLM-L6, against its definition, output by output."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import SEED, SUBJECTS, Target, console, show, workspace
from numpy.typing import NDArray

from sardonyx.compiler import compile
from sardonyx.compiler.execute import execute
from sardonyx.runtime_ops.accelerator import scalar
from sardonyx.runtime_ops.accelerator.session import accelerator_session
from sardonyx.runtime_ops.gobo import GoboTensor
from sardonyx.runtime_ops.ops import DOMAIN, INPUTS, OPS

RECIPES = ("gobo", "gobo4", "gobo-roberta")
SHAPES = ((1, 1), (1, 16), (1, 128), (3, 37), (8, 32))

Arrays = dict[str, NDArray[Any]]


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Outputs that differ from the definition, of each recipe at each shape."""
    results: dict[str, Any] = {}
    targets, rows = [], []
    with workspace() as folder:
        source = SUBJECTS["minilm-l6"].write(folder)
        for recipe in RECIPES:
            path = folder / f"{recipe}.onnx"
            compile(source, recipe).save(path)
            results[recipe] = {}
            for shape in SHAPES:
                console.print(f"exactness: {recipe}, {shape[0]} x {shape[1]} tokens")
                found = compare(path, shape, options.samples)
                results[recipe]["x".join(map(str, shape))] = found
                rows.append((recipe, f"{shape[0]} x {shape[1]}", *told(found)))
            wrong = sum(found["different"] for found in results[recipe].values())
            targets.append(Target(f"{recipe}: outputs that differ", wrong, "<=", 0))
    show(
        "MiniLM-L6 on the accelerator against the scalar definition, and against onnxruntime",
        ("recipe", "tokens", "products", "compared", "different", "error", "largest"),
        rows,
    )
    return results, targets


def told(found: dict[str, Any]) -> tuple[str, ...]:
    """Figures as a table has them."""
    counts = (f"{found[key]:,}" for key in ("products", "compared", "different"))
    return (*counts, f"{found['error']:.1e}", f"{found['largest']:.2g}")


def compare(path: Path, shape: tuple[int, int], samples: int) -> dict[str, Any]:
    """Run a compiled model once; hold some outputs of its products against the scalar loop.

    ``error``: largest difference of the model's outputs to onnxruntime's, ``largest``: of those.
    """
    generator = np.random.default_rng(SEED)
    feeds: Arrays = {
        "input_ids": generator.integers(1, 30000, shape),
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }
    model = onnx.load(path)
    nodes = [node for node in model.graph.node if node.domain == DOMAIN]
    products = [node for node in nodes if OPS[node.op_type].inputs[0] != "ids"]
    outputs = [output.name for output in model.graph.output]
    names = sorted({name for node in products for name in (node.input[0], node.output[0])})
    values = accelerator_session(model).run([*names, *outputs], feeds)
    held = dict(zip([*names, *outputs], values, strict=True))
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    wrong = [different(node, held, stored, generator, samples) for node in products]
    plain = execute(path, feeds).outputs
    return {
        "products": len(products),
        "compared": sum(count for count, _ in wrong),
        "different": sum(count for _, count in wrong),
        "error": max(float(np.abs(held[name] - plain[name]).max()) for name in outputs),
        "largest": max(float(np.abs(plain[name]).max()) for name in outputs),
    }


def different(
    node: onnx.NodeProto,
    held: Arrays,
    stored: Arrays,
    generator: np.random.Generator,
    samples: int,
) -> tuple[int, int]:
    """How many outputs of a product were computed again, and how many came out otherwise."""
    op = OPS[node.op_type]
    shape = next(a.ints for a in node.attribute if a.name == "shape")
    arrays = [stored[name] for name in node.input[1:]]
    tensor = GoboTensor(op.bits, *shape, *arrays[: len(INPUTS)])
    bias = arrays[len(INPUTS)] if len(arrays) > len(INPUTS) else np.zeros(shape[1], np.float32)
    indices, (rows, columns) = tensor.unpacked(), tensor.outlier_places()
    a = held[node.input[0]].reshape(-1, tensor.rows)
    y = held[node.output[0]].reshape(-1, tensor.columns)
    wrong = 0
    for _ in range(samples):
        m, n = int(generator.integers(len(a))), int(generator.integers(tensor.columns))
        own = columns == n
        outliers = dict(zip(rows[own].tolist(), tensor.values[own], strict=True))
        centroids = list(tensor.centroids[tensor.tables[n]])
        value = scalar.output(list(a[m]), indices[:, n].tolist(), centroids, outliers)
        value = value + bias[n]
        wrong += int(value.tobytes() != y[m, n].tobytes())
    return samples, wrong
