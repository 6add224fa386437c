"""What fusing does to a model: other nodes, the same outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from sardonyx.compiler.verify import relative_difference
from sardonyx.passes import Pass

Nodes = list[tuple[Any, ...]]


@pytest.fixture(scope="session")
def nodes_of() -> Callable[[onnx.ModelProto], Nodes]:
    """The nodes of a model or graph, all but their names; epsilon and the like to six digits."""

    def plain(attribute: onnx.AttributeProto) -> object:
        value = helper.get_attribute_value(attribute)
        return float(f"{value:.6g}") if isinstance(value, float) else value

    def read(model: onnx.ModelProto) -> Nodes:
        return [
            (
                f"{node.domain}.{node.op_type}".lstrip("."),
                list(node.input),
                list(node.output),
                {a.name: plain(a) for a in node.attribute},
            )
            for node in model.graph.node
        ]

    return read


@pytest.fixture(scope="session")
def fuse(apply: Callable[..., Any], run_ort: Callable[..., list[np.ndarray]]) -> Callable[..., Any]:
    """Apply a pass, compare the outputs of the model on the inputs given; what it did."""

    def check(a_pass: Pass, model: onnx.ModelProto, **feeds: np.ndarray) -> Any:
        after = apply(a_pass, model)
        assert after.again == 0
        assert after.model.graph.output == model.graph.output
        for want, have in zip(run_ort(model, feeds), run_ort(after.model, feeds), strict=True):
            assert np.isfinite(want).all()
            assert relative_difference(want, have) <= a_pass.bound
        return after

    return check


@pytest.fixture(scope="session")
def missed(apply: Callable[..., Any]) -> Callable[..., list[str]]:
    """Why a pass leaves a model as it is."""

    def check(a_pass: Pass, model: onnx.ModelProto) -> list[str]:
        after = apply(a_pass, model)
        assert after.rewrites == 0
        assert [miss.by for miss in after.journal.missed] == [a_pass.name] * len(
            after.journal.missed
        )
        return [f"{miss.node}: {miss.reason}" for miss in after.journal.missed]

    return check
