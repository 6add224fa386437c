"""Running one pass on a model, twice, with what it said."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import helper

from sardonyx.compiler.emit import emit
from sardonyx.compiler.load import load
from sardonyx.passes import Pass
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.gobo.encode import Gobo
from sardonyx.passes.journal import Journal
from sardonyx.passes.roles import Place, weight_places
from sardonyx.passes.weights import weight_uses


@dataclass(frozen=True)
class Rewritten:
    """A model after a pass.

    ``decoded``: the model before, with the values that its encoded weights decode to. ``again``:
    rewrites of a second run, which must be none.
    """

    model: onnx.ModelProto
    decoded: onnx.ModelProto
    journal: Journal
    rewrites: int
    again: int

    @property
    def reasons(self) -> dict[str, str]:
        """Why each constant was left alone, by its name."""
        return {skip.name: skip.reason for skip in self.journal.skipped}


@pytest.fixture(scope="session")
def contrib(text_model: Callable[..., onnx.ModelProto]) -> Callable[..., onnx.ModelProto]:
    """A model from text, as `text_model`, that knows onnxruntime's domain."""

    def make(text: str, opset: int = 17, **initializers: Any) -> onnx.ModelProto:
        model = text_model(text, opset, **initializers)
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return model

    return make


@pytest.fixture(scope="session")
def apply() -> Callable[[Pass, onnx.ModelProto], Rewritten]:
    """Run a pass on a model whose constants are initializers; check that it changes it once."""

    def run(a_pass: Pass, model: onnx.ModelProto) -> Rewritten:
        source, graph = load(model)
        if not isinstance(a_pass, LiftConstants):
            LiftConstants().run(graph, Journal())
        journal = Journal()
        rewrites = a_pass.run(graph, journal)
        once = emit(source, graph)
        onnx.checker.check_model(once)
        again = a_pass.run(graph, Journal())
        assert emit(source, graph) == once
        return Rewritten(once, _decoded(model, journal), journal, rewrites, again)

    return run


@pytest.fixture(scope="session")
def places() -> Callable[..., dict[str, Place]]:
    """The place of every weight of a model, by its name or by that of the node that reads it."""

    def find(
        model: onnx.ModelProto | Path, of: Literal["weight", "node"] = "weight"
    ) -> dict[str, Place]:
        _, graph = load(model)
        LiftConstants().run(graph, Journal())
        uses = weight_uses(graph)
        found = weight_places(graph, uses)
        return {
            (use.node if of == "node" else use.view.constant).name: found[id(use.view.constant)]
            for use in uses
        }

    return find


def _decoded(model: onnx.ModelProto, journal: Journal) -> onnx.ModelProto:
    source, graph = load(model)
    LiftConstants().run(graph, Journal())
    constants: dict[str, list[gs.Constant]] = defaultdict(list)
    for use in weight_uses(graph):  # those of one name lie in different bodies
        if all(use.view.constant is not other for other in constants[use.view.constant.name]):
            constants[use.view.constant.name].append(use.view.constant)
    for entry in journal.encoded:
        for view in entry.views:
            constants[view.constant.name].pop(0)._values = view.decoded(entry.tensor)._values
    decoded = emit(source, graph)
    del decoded.graph.value_info[:]
    return decoded


@pytest.fixture(scope="session")
def check_gobo(
    apply: Callable[[Pass, onnx.ModelProto], Rewritten],
    run_ort: Callable[..., list[np.ndarray]],
) -> Callable[..., Rewritten]:
    """Apply gobo to a model, whatever the size of its weights, and check the outputs.

    Against the model with decoded weights within ``bound`` of the largest magnitude (0: bit for
    bit), and against the plain model closely enough to see a matrix that was turned or mixed up.
    """

    def check(
        model: onnx.ModelProto,
        feeds: dict[str, np.ndarray],
        bound: float = 0.0,
        a_pass: Gobo | None = None,
    ) -> Rewritten:
        result = apply(a_pass or Gobo(min_weights=1, bits=6, embedding_bits=6), model)
        assert result.again == 0
        plain, want = run_ort(model, feeds), run_ort(result.decoded, feeds)
        have = run_ort(result.model, feeds)
        for source, decoded, compiled in zip(plain, want, have, strict=True):
            assert compiled.dtype == source.dtype
            exact, wide = decoded.astype(np.float64), compiled.astype(np.float64)
            assert np.max(np.abs(wide - exact)) <= bound * np.max(np.abs(exact))
            error = np.linalg.norm(wide - source.astype(np.float64))
            assert error <= 0.1 * np.linalg.norm(source.astype(np.float64))  # 6 bits: about 0.03
        return result

    return check
