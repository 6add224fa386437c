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
from sardonyx.passes.journal import Journal


@dataclass(frozen=True)
class Measured:
    """A model after a pass that was told of activations, and what the driver found."""

    model: onnx.ModelProto
    journal: Journal
    rewrites: int
    verification: Verification


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
def outliers() -> Callable[..., np.ndarray]:
    """Activations [2, S, K] of which a few channels are far larger than the others."""

    def make(length: int, width: int, seed: int = 0, size: float = 60.0) -> np.ndarray:
        values = np.random.default_rng(seed).standard_normal((2, length, width))
        values[..., ::8] *= size
        return values.astype(np.float32)

    return make
