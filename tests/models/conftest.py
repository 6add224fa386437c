"""Running the models that the tests build, and skipping those whose package is not installed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from sardonyx.models import EncoderConfig, PackageMissing

Outputs: TypeAlias = list[NDArray[Any]]
RunModel: TypeAlias = Callable[[onnx.ModelProto, dict[str, NDArray[np.int64]]], Outputs]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """A test that needs a data package skips without it, and says how to install it."""
    try:
        return (yield)
    except PackageMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def run_model() -> RunModel:
    """Run a model in onnxruntime just as it is written, without graph optimizations."""

    def run(model: onnx.ModelProto, feed: dict[str, NDArray[np.int64]]) -> Outputs:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(model.SerializeToString(), options)
        outputs: Outputs = session.run(None, {i.name: feed[i.name] for i in session.get_inputs()})
        return outputs

    return run


@pytest.fixture
def padded_feed() -> Callable[[EncoderConfig], dict[str, NDArray[np.int64]]]:
    """Random tokens `[3, 17]` of which the last two rows end in 8 and 3 paddings."""

    def make(config: EncoderConfig) -> dict[str, NDArray[np.int64]]:
        ids = np.random.default_rng(0).integers(5, config.vocab_size, (3, 17))
        mask = np.ones_like(ids)
        mask[1, 9:] = mask[2, 14:] = 0
        ids[mask == 0] = max(config.position_offset - 1, 0)
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}

    return make
