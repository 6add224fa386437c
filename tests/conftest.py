"""What all tests share: models from ONNX text, a plain onnxruntime, golden files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from hypothesis import settings
from numpy.typing import DTypeLike, NDArray
from onnx import helper, numpy_helper

from sardonyx.models import PackageMissing

Array: TypeAlias = NDArray[Any]

settings.register_profile("no clock", deadline=None)  # a busy machine is no failure
settings.load_profile("no clock")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Golden files are rewritten on request only."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """A test that needs a data package skips without it, and says how to install it."""
    try:
        return (yield)
    except PackageMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def text_model() -> Callable[..., onnx.ModelProto]:
    """A model from the text of its graph; keywords are its initializers."""

    def make(
        text: str, opset: int = 17, ir_version: int = 8, **initializers: Any
    ) -> onnx.ModelProto:
        header = f'<ir_version: {ir_version}, opset_import: ["": {opset}]>'
        model = onnx.parser.parse_model(f"{header}\n{text}")
        for name, values in initializers.items():
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return model

    return make


@pytest.fixture(scope="session")
def contrib(text_model: Callable[..., onnx.ModelProto]) -> Callable[..., onnx.ModelProto]:
    """A model from text, as `text_model`, that knows onnxruntime's domain."""

    def make(text: str, opset: int = 17, **initializers: Any) -> onnx.ModelProto:
        model = text_model(text, opset, **initializers)
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return model

    return make


@pytest.fixture(scope="session")
def normal() -> Callable[..., Array]:
    """Weights spread like trained ones: normal, standard deviation 0.04."""

    def make(*shape: int, dtype: DTypeLike = np.float32, seed: int = 0) -> Array:
        values = np.random.default_rng(seed).standard_normal(shape) * 0.04
        return values.astype(dtype)

    return make


@pytest.fixture(scope="session")
def run_ort() -> Callable[..., list[Array]]:
    """Outputs of a model or a file in stock onnxruntime, by default as its nodes are written."""

    def run(
        model: onnx.ModelProto | Path, feeds: dict[str, Array], optimize: bool = False
    ) -> list[Array]:
        options = ort.SessionOptions()
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        stored = model if isinstance(model, Path) else model.SerializeToString()
        session = ort.InferenceSession(stored, options, providers=["CPUExecutionProvider"])
        outputs: list[Array] = session.run(None, feeds)
        return outputs

    return run


@pytest.fixture(scope="session")
def census() -> Callable[[onnx.ModelProto], Counter[str]]:
    """How many nodes of each op a model's graph has."""
    return lambda model: Counter(node.op_type for node in model.graph.node)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Compare text with the golden file beside the test, named after it."""
    name = request.node.name.removeprefix("test_")
    path = request.path.parent / "golden" / f"{name}.txt"

    def check(text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert text == path.read_text(), "run pytest --update-golden if the change is meant"

    return check
