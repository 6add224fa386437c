"""A pass on a model, held against onnxruntime on what the model was."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="session")
def listed_model(text_model: Callable[..., onnx.ModelProto]) -> Callable[..., onnx.ModelProto]:
    """A model from text, as `text_model`: nodes may read lists of integers, ``Op (x, [1])``, and
    outputs, ``float[] Y``, may have as many axes as they come to have."""

    def make(text: str, **options: Any) -> onnx.ModelProto:
        lists: dict[str, Array] = {}

        def name(found: re.Match[str]) -> str:
            values = np.array([int(part) for part in found[1].split(",") if part.strip()], np.int64)
            lists[f"k{len(lists)}"] = values
            return f"k{len(lists) - 1}"

        text = re.sub(r"\[([-0-9, ]*)\](?=\s*[,)])", name, text)
        model = text_model(text, **options, **lists)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        for output, known in zip(model.graph.output, inferred.graph.output, strict=True):
            for _ in known.type.tensor_type.shape.dim:
                output.type.tensor_type.shape.dim.add()
        return model

    return make


@pytest.fixture(scope="session")
def cleaned(apply: Callable[..., Any], same_bits: Callable[..., None]) -> Callable[..., list[str]]:
    """Run a pass on a model; the ops that it leaves.

    It must make so many ``rewrites``, if that is said, and none when it runs again; the outputs
    must be equal, bit for bit, on each of the ``feeds``.
    """

    def check(
        a_pass: Any, model: onnx.ModelProto, *feeds: dict[str, Array], rewrites: int | None = None
    ) -> list[str]:
        after = apply(a_pass, model)
        assert after.again == 0
        assert rewrites in (None, after.rewrites)
        for each in feeds:
            same_bits(model, after.model, each)
        return after.ops

    return check
