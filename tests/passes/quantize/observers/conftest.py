"""Histograms of known values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from sardonyx.passes.quantize.observers.histogram import Histogram

Values = NDArray[np.float64]


@pytest.fixture(scope="session")
def histogram_of() -> Callable[..., Histogram]:
    """The histogram of some values, with ``bins`` bins a side."""

    def make(values: object, bins: int = 8192) -> Histogram:
        return Histogram(np.zeros(2 * bins, np.int64)).add(np.asarray(values, np.float32))

    return make


@pytest.fixture(
    scope="session", params=["normal", "laplace", "relu", "skewed", "lopsided", "outliers"]
)
def values(request: pytest.FixtureRequest) -> Values:
    """Values as activations have them, of a few shapes."""
    rng = np.random.default_rng(7)
    normal, laplace = rng.normal(size=20_000), rng.laplace(size=20_000)
    return {
        "normal": normal,
        "laplace": laplace,
        "relu": np.maximum(normal, 0),
        "skewed": np.where(laplace < 0, laplace / 50, laplace),
        "lopsided": np.where(laplace < 0, rng.uniform(-1, 0, 20_000), laplace),
        "outliers": np.concatenate([normal, [-30.0, 55.0, 60.0]]),
    }[request.param]
