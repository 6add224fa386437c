"""Running the models that the tests build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from sardonyx.models import EncoderConfig

Outputs: TypeAlias = list[NDArray[Any]]
RunModel: TypeAlias = Callable[[onnx.ModelProto, dict[str, NDArray[np.int64]]], Outputs]


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
