"""Running one pass on a model, twice, with what it said."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import strategies
from onnx import helper

from sardonyx.compiler.calibrate import Calibration
from sardonyx.compiler.check_model import check_valid
from sardonyx.compiler.driver import Driver
from sardonyx.compiler.emit import emit
from sardonyx.compiler.load import load
from sardonyx.compiler.verify import Verification
from sardonyx.passes import Pass
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.gobo.encode import Gobo
from sardonyx.passes.journal import Activation, Encoded, Journal
from sardonyx.passes.roles import Place, weight_places
from sardonyx.passes.weights import weight_uses


class Made:
    """What a model holds."""

    model: onnx.ModelProto

    @property
    def ops(self) -> list[str]:
        """The ops of the graph, in order."""
        return [node.op_type for node in self.model.graph.node]

    @property
    def wiring(self) -> list[str]:
        """The nodes, a line each: what they make, the op, what they read."""
        return [
            f"{', '.join(node.output)} = {node.op_type} ({', '.join(node.input)})"
            for node in self.model.graph.node
        ]

    @property
    def constants(self) -> dict[str, np.ndarray]:
        """The initializers."""
        return {t.name: onnx.numpy_helper.to_array(t) for t in self.model.graph.initializer}


@dataclass(frozen=True)
class Rewritten(Made):
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
def apply() -> Callable[[Pass, onnx.ModelProto], Rewritten]:
    """Run a pass on a model whose constants are initializers; check that it changes it once."""

    def run(a_pass: Pass, model: onnx.ModelProto) -> Rewritten:
        source, graph = load(model)
        if not isinstance(a_pass, LiftConstants):
            LiftConstants().run(graph, Journal())
        journal = Journal()
        rewrites = a_pass.run(graph, journal)
        once = emit(source, graph)
        check_valid(once, "what the pass made")
        again = a_pass.run(graph, Journal())
        assert emit(source, graph) == once
        return Rewritten(once, _decoded(model, journal), journal, rewrites, again)

    return run


Feeds = dict[str, np.ndarray]


@dataclass(frozen=True)
class Measured(Made):
    """A model after a pass that was told of activations, and what the driver found."""

    model: onnx.ModelProto
    journal: Journal
    rewrites: int
    verification: Verification

    @property
    def reasons(self) -> dict[str, str]:
        """Why each matrix was left alone, by its name."""
        vectors = "a vector (bias or normalisation parameter), not a weight matrix"
        return {s.name: s.reason for s in self.journal.skipped if s.reason != vectors}

    @property
    def encoded(self) -> dict[str, Encoded]:
        """The encoded weights."""
        return {entry.name: entry for entry in self.journal.encoded}

    @property
    def activations(self) -> dict[str, Activation]:
        """The rounded activations."""
        return {one.name: one for one in self.journal.activations}


@pytest.fixture(scope="session")
def measure() -> Callable[..., Measured]:
    """Run a pass on a model and samples in the driver, which checks every region; once more, to see
    that it measures nothing and changes nothing; once more on the file that came of it."""

    def run(a_pass: Pass, model: onnx.ModelProto, feeds: list[dict[str, Any]]) -> Measured:
        source, graph = load(model)
        driver = Driver(source, graph, Journal(), Verification("full"), Calibration(feeds))
        for each in (LiftConstants(), a_pass):
            driver.run(each)
        made = emit(source, graph)
        check_valid(made, "what the pass made")
        for again in (graph, load(made)[1]):
            assert a_pass.watches(again) == {}
            assert a_pass.run(again, Journal()) == 0
        assert emit(source, graph) == made
        assert driver.verification.unchecked == []
        return Measured(made, driver.journal, driver.runs[-1].rewrites, driver.verification)

    return run


@pytest.fixture(scope="session")
def done() -> Callable[..., Measured]:
    """Measure on batches, run a pass and check it as the driver does; a second time, measured anew,
    it must change nothing."""

    def run(a_pass: Pass, model: onnx.ModelProto, *batches: Feeds) -> Measured:
        source, graph = load(model)
        journal = Journal()
        driver = Driver(source, graph, journal, Verification("full"), Calibration(batches))
        for each in (LiftConstants(), a_pass):
            driver.run(each)
        assert driver.verification.unchecked == []
        once = emit(source, graph)
        check_valid(once, "what the pass made")
        rewrites = driver.runs[-1].rewrites
        again = Driver(source, graph, Journal(), Verification("off"), Calibration(batches))
        again.run(a_pass)
        assert again.runs[-1].rewrites == 0
        assert emit(source, graph) == once
        return Measured(once, journal, rewrites, driver.verification)

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


@pytest.fixture(scope="session")
def same_bits(run_ort: Callable[..., list[np.ndarray]]) -> Callable[..., None]:
    """Check that two models give the same outputs in onnxruntime, bit for bit."""

    def check(before: onnx.ModelProto, after: onnx.ModelProto, feeds: dict[str, Any]) -> None:
        for want, have in zip(run_ort(before, feeds), run_ort(after, feeds), strict=True):
            assert (want.dtype, want.shape) == (have.dtype, have.shape)
            assert want.tobytes() == have.tobytes()

    return check


@pytest.fixture
def model_of(
    contrib: Callable[..., onnx.ModelProto], held: dict[str, np.ndarray]
) -> Callable[..., onnx.ModelProto]:
    """A model from the text of its nodes, by default from X [B, S, 32] to Y [B, S, 24]. ``held``:
    of the test's module, the constants that a text may name."""

    def make(
        body: str,
        opset: int = 17,
        inputs: str = "float[B,S,32] X",
        outputs: str = "float[B,S,24] Y",
    ) -> onnx.ModelProto:
        words = set(re.findall(r"\w+", body))
        given = {name: values for name, values in held.items() if name in words}
        return contrib(f"g ({inputs}) => ({outputs}) {{ {body} }}", opset, **given)

    return make


@pytest.fixture
def x() -> np.ndarray:
    """An input of `model_of`'s models."""
    return np.random.default_rng(1).standard_normal((2, 5, 32)).astype(np.float32)


@pytest.fixture(scope="session")
def shaped(run_ort: Callable[..., list[np.ndarray]]) -> Callable[..., onnx.ModelProto]:
    """The model, its outputs declared as onnxruntime makes them."""

    def declare(model: onnx.ModelProto, feeds: dict[str, Any]) -> onnx.ModelProto:
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        for output, made in zip(model.graph.output, run_ort(model, feeds), strict=True):
            kind = helper.np_dtype_to_tensor_dtype(made.dtype)
            output.CopyFrom(helper.make_tensor_value_info(output.name, kind, made.shape))
        return model

    return declare


Term = str | float | tuple[Any, ...]
"""A formula to write: the name of a tensor, a number, ("*", ...), ("+", ...), ("/", below), or an
op and its operands."""

Draw = Callable[[strategies.SearchStrategy[Any]], Any]


@pytest.fixture(scope="session")
def write() -> Callable[..., tuple[str, dict[str, Any]]]:
    """A formula as the text of nodes that make Y, in an order and grouping that is drawn, and the
    constants in it."""

    def make(draw: Draw, formula: Term) -> tuple[str, dict[str, Any]]:
        writer = _Writer(draw)
        writer.lines.append(f"Y = Identity ({writer.write(formula)})")
        return "\n".join(writer.lines), writer.constants

    return make


@dataclass
class _Writer:
    draw: Draw
    lines: list[str] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)

    def write(self, term: Term) -> str:
        """The name of the tensor that is a term."""
        if isinstance(term, str):
            return self.node("Identity", term) if self.chance() else term
        if isinstance(term, float):
            return self.constant(term)
        op, *parts = term
        if op not in "*+":
            return self.node(op, *map(self.write, parts))
        return self.joined(op, parts)

    def joined(self, op: str, parts: list[Term]) -> str:
        """A product or sum: pairs of its parts, drawn until one is left."""
        numbers = [part for part in parts if isinstance(part, float)]
        rest = [part for part in parts if not isinstance(part, float)]
        below = [isinstance(part, tuple) and part[0] == "/" for part in rest]
        names = [self.write(p[1] if b else p) for p, b in zip(rest, below, strict=True)]
        operands = list(zip(names, below, strict=True))
        for number in numbers:
            turned = self.chance()  # below the line, or taken off
            value = (1 / number if op == "*" else -number) if turned else number
            operands.append((self.constant(value), turned))
        while len(operands) > 1:
            places = range(len(operands))
            pairs = [(i, j) for i in places for j in places if i != j and self.fit(operands, i, j)]
            i, j = self.draw(strategies.sampled_from(pairs))
            pair = operands[i], operands[j]
            operands = [held for place, held in enumerate(operands) if place not in (i, j)]
            operands.append(self.pair(op, *pair))
        name, turned = operands[0]
        return self.node("Reciprocal", name) if turned else name

    def fit(self, operands: list[tuple[str, bool]], i: int, j: int) -> bool:
        """Whether two operands can be joined: not two constants, not a number less a tensor."""
        (a, _), (b, b_turned) = operands[i], operands[j]
        return a not in self.constants or (b not in self.constants and not b_turned)

    def pair(self, op: str, a: tuple[str, bool], b: tuple[str, bool]) -> tuple[str, bool]:
        forward, back = ("Mul", "Div") if op == "*" else ("Add", "Sub")
        (left, left_turned), (right, right_turned) = a, b
        if left_turned == right_turned:
            return self.node(forward, left, right), left_turned
        if left_turned:
            left, right = right, left
        return self.node(back, left, right), False

    def node(self, op: str, *operands: str) -> str:
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {op} ({', '.join(operands)})")
        return name

    def constant(self, value: float) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = np.float32(value)
        return name

    def chance(self) -> bool:
        return bool(self.draw(strategies.booleans()))
