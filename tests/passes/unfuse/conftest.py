"""What taking onnxruntime's own ops apart does to the outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from sardonyx.compiler.load import load
from sardonyx.compiler.verify import relative_difference
from sardonyx.passes import Pass
from sardonyx.passes.kept import kept_ops


@pytest.fixture(scope="session")
def unfuse(
    apply: Callable[..., Any], run_ort: Callable[..., list[np.ndarray]]
) -> Callable[..., onnx.ModelProto]:
    """Apply a pass that must fire once; what it made, its outputs compared, within the pass's bound
    or a tighter one."""

    def check(
        a_pass: Pass, model: onnx.ModelProto, feeds: dict[str, np.ndarray], bound: float = 0
    ) -> onnx.ModelProto:
        after = apply(a_pass, model)
        assert (after.rewrites, after.again) == (1, 0)
        made: onnx.ModelProto = after.model
        assert made.graph.output == model.graph.output
        for want, have in zip(run_ort(model, feeds), run_ort(made, feeds), strict=True):
            assert np.isfinite(want).all()
            assert relative_difference(want, have) <= (bound or a_pass.bound)
        return made

    return check


@pytest.fixture(scope="session")
def kept(apply: Callable[..., Any]) -> Callable[[Pass, onnx.ModelProto], str]:
    """Why the one op of onnxruntime's in a model is left alone by a pass that must not fire."""

    def why(a_pass: Pass, model: onnx.ModelProto) -> str:
        assert apply(a_pass, model).rewrites == 0
        _, graph = load(model)
        (entry,) = kept_ops(graph, {("my", "Op")})
        return entry.reason

    return why
