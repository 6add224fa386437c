"""Running a pass that watches activations, as the compiler does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest

from sardonyx.compiler.calibrate import Calibration
from sardonyx.compiler.check_model import check_valid
from sardonyx.compiler.driver import Driver
from sardonyx.compiler.emit import emit
from sardonyx.compiler.load import load
from sardonyx.compiler.verify import Verification
from sardonyx.passes import Pass
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.journal import Activation, Encoded, Journal

Feeds = dict[str, np.ndarray]


@dataclass(frozen=True)
class Measured:
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
def sqnr(run_ort: Callable[..., list[np.ndarray]]) -> Callable[..., float]:
    """The least signal to noise, dB, of a model's outputs beside another's; all are finite."""

    def measure(before: onnx.ModelProto, after: onnx.ModelProto, feeds: Feeds) -> float:
        least = np.inf
        for want, have in zip(run_ort(before, feeds), run_ort(after, feeds), strict=True):
            assert (want.shape, want.dtype) == (have.shape, have.dtype)
            assert np.isfinite(have).all()
            noise = np.sum(np.square(want.astype(float) - have))
            signal = np.sum(np.square(want.astype(float)))
            least = min(least, 10 * np.log10(signal / noise) if noise else np.inf)
        return float(least)

    return measure


@pytest.fixture(scope="session")
def x() -> np.ndarray:
    """Activations float32 [7, 64], standard normal."""
    return np.random.default_rng(5).standard_normal((7, 64)).astype(np.float32)


@pytest.fixture(scope="session")
def outliers() -> Callable[..., np.ndarray]:
    """Activations [2, S, K] of which a few channels are far larger than the others."""

    def make(length: int, width: int, seed: int = 0, size: float = 60.0) -> np.ndarray:
        values = np.random.default_rng(seed).standard_normal((2, length, width))
        values[..., ::8] *= size
        return values.astype(np.float32)

    return make
