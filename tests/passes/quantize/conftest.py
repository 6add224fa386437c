"""Running a pass that watches activations, as the compiler does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

Feeds = dict[str, np.ndarray]


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
