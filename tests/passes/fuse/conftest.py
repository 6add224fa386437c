"""What fusing does to a model: other nodes, the same outputs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from sardonyx.compiler.verify import relative_difference
from sardonyx.passes import Pass
from sardonyx.passes.fuse.attention import FuseAttention

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


B, S, T, N, D = 2, 3, 5, 2, 4
"""Batch, queries, other keys, heads and their size in models with attention."""

EAGER = {
    "q3": "MatMul (X, Wq)",
    "k3": "MatMul (X, Wk)",
    "v3": "MatMul (X, Wv)",
    "q4": "Reshape (q3, split)",
    "k4": "Reshape (k3, split)",
    "v4": "Reshape (v3, split)",
    "q": "Transpose <perm = [0, 2, 1, 3]> (q4)",
    "k": "Transpose <perm = [0, 2, 3, 1]> (k4)",
    "v": "Transpose <perm = [0, 2, 1, 3]> (v4)",
    "raw": "MatMul (q, k)",
    "scaled": "Div (raw, root)",
    "scores": "Add (scaled, mask)",
    "p": "Softmax <axis = -1> (scores)",
    "mixed": "MatMul (p, v)",
    "turned": "Transpose <perm = [0, 2, 1, 3]> (mixed)",
    "Y": "Reshape (turned, merge)",
}
INPUTS = {
    "X": "float[batch,length,8]",
    "E": "float[batch,other,8]",
    "mask": "float[batch,1,1,length]",
    "keep": "bool[batch,1,1,length]",
    "bias": "float[1,2,length,length]",
    "past_k": "float[batch,2,past,4]",
    "past_v": "float[batch,2,past,4]",
    "c": "bool",
}
OUTPUTS = {"Y": "float[batch,length,8]"}


@pytest.fixture(scope="session")
def attention_constants(normal: Callable[..., Any]) -> dict[str, Any]:
    """Weights, numbers and shapes that the texts of attention name."""
    weights = {f"W{name}": normal(N * D, N * D, seed=i) * 20 for i, name in enumerate("qkv")}
    numbers = {"root": 2, "half": 0.5, "quarter": 2**-0.5, "zero": 0, "infinite": -np.inf}
    numbers |= {"lowest": np.finfo(np.float32).min, "low": -1e4}
    shapes = {"split": [0, 0, N, D], "merge": [0, 0, N * D], "rows": [-1, N * D], "at0": [0]}
    shapes |= {"at1": [1], "at2": [2], "free": [0, 0, -1]}
    return (
        weights
        | {name: np.float32(number) for name, number in numbers.items()}
        | {name: np.array(shape) for name, shape in shapes.items()}
    )


@pytest.fixture(scope="session")
def attention(
    text_model: Callable[..., onnx.ModelProto], attention_constants: dict[str, Any]
) -> Callable[..., onnx.ModelProto]:
    """An eager attention with other lines: of X on itself, split in two heads of four, masked.

    ``given``: constants; ``inputs``, ``outputs``: their types. A line may begin with nodes that
    come before it, each ended by a semicolon; None leaves it out; one of a new name comes last.
    """

    def make(
        opset: int = 17,
        *,
        given: dict[str, Any] | None = None,
        inputs: dict[str, str] | None = None,
        outputs: dict[str, str] | None = None,
        **changes: str | None,
    ) -> onnx.ModelProto:
        lines = {name: line for name, line in (EAGER | changes).items() if line is not None}
        body = "\n".join(f"{name} = {line}" for name, line in _apart(lines))
        words = set(re.split(r"\W+", body))
        read = {name: kind for name, kind in (INPUTS | (inputs or {})).items() if name in words}
        made = OUTPUTS | (outputs or {})
        header = " => ".join(
            f"({', '.join(f'{kind} {name}' for name, kind in values.items())})"
            for values in (read, made)
        )
        held = attention_constants | (given or {})
        held = {name: value for name, value in held.items() if name in words}
        return text_model(f"g {header} {{ {body} }}", opset, **held)

    return make


def _apart(lines: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Names and nodes, those before a semicolon ahead of their line's."""
    for name, line in lines.items():
        *ahead, last = line.split(";")
        for one in ahead:
            before, _, node = one.partition("=")
            yield before.strip(), node
        yield name, last


@pytest.fixture(scope="session")
def attention_feeds(normal: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Values for the inputs of an attention; of two sentences the second has padding."""

    def make(model: onnx.ModelProto, **others: Any) -> dict[str, Any]:
        counted = np.arange(S) < np.array([[S], [S - 1]])
        lowest = np.finfo(np.float32).min
        held = {
            "X": normal(B, S, N * D) * 25,
            "E": normal(B, T, N * D, seed=5) * 25,
            "mask": np.where(counted, np.float32(0), lowest)[:, None, None],
            "keep": counted[:, None, None],
            "bias": normal(1, N, S, S, seed=6) * 25,
            "past_k": normal(B, N, T, D, seed=7) * 25,
            "past_v": normal(B, N, T, D, seed=8) * 25,
            "c": np.array(True),
        } | others
        return {value.name: held[value.name] for value in model.graph.input}

    return make


@pytest.fixture(scope="session")
def fuse_attention(
    fuse: Callable[..., Any],
    attention_feeds: Callable[..., dict[str, Any]],
    census: Callable[..., Counter[str]],
) -> Callable[..., onnx.ModelProto]:
    """The model with its attention fused, all of it, and its outputs compared."""

    def check(model: onnx.ModelProto, *, times: int = 1, **feeds: Any) -> onnx.ModelProto:
        after = fuse(FuseAttention(), model, **attention_feeds(model, **feeds))
        assert after.journal.missed == []
        assert after.rewrites == times
        assert not {"Softmax", "Attention", "Transpose"} & census(after.model).keys()
        return after.model

    return check


@pytest.fixture(scope="session")
def fuse_attention_at(
    fuse: Callable[..., Any],
    attention: Callable[..., onnx.ModelProto],
    attention_feeds: Callable[..., dict[str, Any]],
) -> Callable[..., onnx.ModelProto]:
    """The one attention of an opset, changed as `attention` takes it, fused and compared."""

    def make(
        opset: int,
        a_pass: FuseAttention | None = None,
        feeds: dict[str, Any] | None = None,
        **changes: Any,
    ) -> onnx.ModelProto:
        model = attention(opset, **changes)
        after = fuse(a_pass or FuseAttention(), model, **attention_feeds(model, **(feeds or {})))
        assert (after.rewrites, after.journal.missed) == (1, [])
        fused: onnx.ModelProto = after.model
        return fused

    return make
