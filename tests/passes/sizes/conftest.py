"""What Sizes says of a model, held against what onnxruntime computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from sardonyx.compiler.load import load
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.journal import Journal
from sardonyx.passes.sizes import Size, Sizes
from sardonyx.passes.sizes.dim import UNKNOWN, evaluated

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Told:
    """By name of tensor, shapes and elements as Sizes has them, in words: a size of which nothing
    is known is "?", and so is an element."""

    shapes: dict[str, str]
    values: dict[str, str]


@pytest.fixture(scope="session")
def told() -> Callable[..., Told]:
    """What Sizes says of the tensors in a model.

    With inputs, it is held against what they are in onnxruntime: a size and an element must be the
    number that it is there, and one symbol the same number everywhere.
    """

    def read(model: onnx.ModelProto, **feeds: Array) -> Told:
        _, graph = load(model)
        LiftConstants().run(graph, Journal())
        sizes = Sizes(graph)
        tensors = {tensor.name: tensor for node in graph.nodes for tensor in node.outputs}
        tensors |= {tensor.name: tensor for tensor in graph.inputs}
        shapes = {name: sizes.shape(tensor) for name, tensor in tensors.items()}
        values = {name: sizes.values(tensor) for name, tensor in tensors.items()}
        if feeds:
            _check(shapes, values, _all_values(model, feeds) | feeds, [*feeds])
        return Told(
            {name: "?" if s is None else ", ".join(map(_word, s)) for name, s in shapes.items()},
            {
                name: "?" if v is None else ", ".join(map(_word, v.reshape(-1).tolist()))
                for name, v in values.items()
            },
        )

    return read


def _word(value: object) -> str:
    made_up = (UNKNOWN, "unk__")  # by Sizes, by onnx's shape inference
    return "?" if value is None or str(value).startswith(made_up) else str(value)


def _all_values(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    """What every node makes."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    names = [name for node in model.graph.node for name in node.output if name]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(shown.SerializeToString(), options)
    named = {value.name: feeds[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(None, named), strict=True))


def _check(
    shapes: dict[str, Any], values: dict[str, Any], real: dict[str, Array], inputs: list[str]
) -> None:
    numbers: dict[str, int] = {}
    for name in (*inputs, *real):  # inputs first: they say what symbols are
        shape = shapes.get(name)
        if shape is None:
            continue
        assert len(shape) == real[name].ndim, name
        for dim, number in zip(shape, real[name].shape, strict=True):
            _compare(dim, number, numbers, name)
        if values[name] is None:
            continue
        assert values[name].shape == real[name].shape, name
        for value, number in zip(values[name].flat, real[name].flat, strict=True):
            _compare(value, number.item(), numbers, name)


def _compare(said: Any, number: float, numbers: dict[str, int], name: str) -> None:
    """``numbers``: what symbols are, as far as that was seen."""
    if isinstance(said, Size):
        (symbols, factor), *more = said.terms
        if not more and factor == 1 and len(symbols) == 1:
            numbers.setdefault(symbols[0], int(number))
        if said.symbols <= numbers.keys():
            assert evaluated(said, numbers.__getitem__) == number, f"{name}: {said}"
    elif isinstance(said, float):
        assert said == pytest.approx(number, rel=1e-6), name  # followed in double precision
    elif said is not None:
        assert said == number, name
