"""Models of more than 2 GB, which no protobuf message can hold: in, through, and out."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

pytestmark = pytest.mark.slow

SIDE, LAYERS = 4096, 33
WEIGHT_BYTES = SIDE * SIDE * 4
MODEL_BYTES = WEIGHT_BYTES * LAYERS

CLEANUP = """
description = "nothing but cleaning up"
[[passes]]
pass = "remove-unused"
"""

COMPILE = """
import json, sys
from sardonyx.compiler import compile
from sardonyx.compiler.summarize import peak_rss_bytes
model, recipe, output = sys.argv[1:]
before = peak_rss_bytes()
compile(model, recipe).save(output)
print(json.dumps(peak_rss_bytes() - before))
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that goes as soon as the tests have ended."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture(scope="module")
def large(folder: Path) -> Path:
    """33 layers ``Tanh(X W)`` whose weights, 2.2 GB, lie in one file."""
    names = [f"layer.{number}.weight" for number in range(LAYERS)]
    values = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32) / 64
    with (folder / "m.data").open("wb") as data:
        for number in range(LAYERS):
            np.roll(values, number).tofile(data)
    weights = []
    for number, name in enumerate(names):
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[SIDE, SIDE])
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": "m.data", "offset": number * WEIGHT_BYTES, "length": WEIGHT_BYTES}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        weights.append(tensor)
    nodes = []
    for number, name in enumerate(names):
        product, output = f"product.{number}", f"h.{number + 1}"
        nodes.append(helper.make_node("MatMul", [f"h.{number}", name], [product], f"m.{number}"))
        nodes.append(helper.make_node("Tanh", [product], [output], f"tanh.{number}"))
    ends = [
        helper.make_tensor_value_info(end, TensorProto.FLOAT, ["N", SIDE])
        for end in ("h.0", f"h.{LAYERS}")
    ]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", 17)]
    path = folder / "m.onnx"
    path.write_bytes(
        helper.make_model(graph, ir_version=8, opset_imports=opsets).SerializeToString()
    )
    return path


def growth(*arguments: object) -> int:
    """Growth of peak memory during a compile, in a process of its own."""
    command = [sys.executable, "-c", COMPILE, *map(str, arguments)]
    return int(json.loads(subprocess.check_output(command)))


def test_unchanged_weights_go_from_file_to_file(large, folder, run_ort):
    (folder / "cleanup.toml").write_text(CLEANUP)
    output = folder / "out.onnx"
    held = growth(large, folder / "cleanup.toml", output)
    assert held < 0.02 * MODEL_BYTES  # a third of one weight: none was ever held
    assert output.stat().st_size < 1e5
    after = {t.name: t for t in onnx.load(output, load_external_data=False).graph.initializer}
    before = onnx.load(large, load_external_data=False).graph.initializer
    assert list(after) == [tensor.name for tensor in before]
    for tensor in before:
        values = [read(path, t) for path, t in ((large, tensor), (output, after[tensor.name]))]
        assert np.array_equal(*values)
    x = np.random.default_rng(1).standard_normal((2, SIDE), np.float32)
    (have,), (want,) = run_ort(output, {"h.0": x}), run_ort(large, {"h.0": x})
    assert np.array_equal(have, want)
    for made in folder.glob("out.onnx*"):
        made.unlink()


def read(path: Path, tensor: TensorProto) -> np.ndarray:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    data, offset = path.with_name(entries["location"]), int(entries["offset"])
    return np.memmap(data, np.float32, "r", offset, tuple(tensor.dims))


def test_memory_of_quantizing(large, folder):
    output = folder / "gobo.onnx"
    held = growth(large, "gobo", output)
    assert held < 0.75 * MODEL_BYTES  # a weight or two a core, at their tenfold, and the result
    assert output.stat().st_size < 0.11 * MODEL_BYTES
    onnx.checker.check_model(output)
    assert not output.with_name("gobo.onnx.data").exists()
