"""Which weights of a tensor stay in floating point (GOBO, section 4: the outlier group)."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sardonyx.runtime_ops.sorted_sums import chunks, energy

Rule = Literal["logpdf", "z", "share"]

DEFAULT_THRESHOLDS: dict[Rule, float] = {"logpdf": -4.0, "z": 3.5, "share": 0.001}
"""``logpdf``: the paper's. The others give about the same share on a trained Transformer."""


def check_threshold(rule: Rule, threshold: float) -> None:
    """Raise ValueError, in one sentence, where a threshold makes no sense for its rule."""
    if rule == "z" and not threshold > 0.0:
        raise ValueError(f"threshold {threshold} for outliers 'z' must be above 0")
    if rule == "share" and not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold {threshold} for outliers 'share' must be between 0 and 1")
    if not math.isfinite(threshold):
        raise ValueError(f"threshold {threshold} must be a finite number")


@dataclass(frozen=True)
class Band:
    """The closed interval of values that are *not* outliers."""

    low: float
    high: float

    def outliers(self, weights: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Boolean mask, in the shape of ``weights``: true where a weight lies outside the band."""
        return (weights < self.low) | (weights > self.high)

    def within(self, ordered: NDArray[np.floating]) -> NDArray[np.floating]:
        """The part of an ascending array that lies in the band."""
        to_dtype = ordered.dtype.type
        first = np.searchsorted(ordered, to_dtype(self.low), side="left")
        return ordered[first : np.searchsorted(ordered, to_dtype(self.high), side="right")]


def band(weights: NDArray[np.floating], rule: Rule, threshold: float) -> Band:
    """The values that go to the codebook, by one of three rules.

    ``weights``: any shape, finite. ``threshold`` means, by ``rule``:

    - ``logpdf``: a weight is an outlier when ``ln N(w; mean, std) < threshold`` (GOBO; -4). The
      density is not normalised, so the cut, ``std * sqrt(2 (-threshold - ln(std sqrt(2 pi))))``,
      counted in standard deviations, depends on ``std``.
    - ``z``: when it lies more than ``threshold`` standard deviations from the mean.
    - ``share``: the ``threshold`` share of weights farthest from the mean (weights that tie at
      the cut stay inside).
    """
    mean, std = _moments(weights)
    if rule == "share":
        cut = _share_cut(weights, mean, threshold)
    elif std == 0.0:
        cut = math.inf
    else:
        cut = threshold * std if rule == "z" else _log_pdf_cut(std, threshold)
    to_dtype = weights.dtype.type
    return Band(float(to_dtype(mean - cut)), float(to_dtype(mean + cut)))


def _moments(weights: NDArray[np.floating]) -> tuple[float, float]:
    """Mean and standard deviation in float64, without a float64 copy of the weights."""
    mean = float(np.mean(weights, dtype=np.float64))
    squares = sum(energy(part - mean) for part in chunks(weights.reshape(-1)))
    return mean, math.sqrt(squares / weights.size)


def _log_pdf_cut(std: float, threshold: float) -> float:
    """Distance from the mean where ln N(w; mean, std) = threshold; negative: none is inside."""
    squared = 2.0 * (-threshold - math.log(std * math.sqrt(2.0 * math.pi)))
    return std * math.sqrt(squared) if squared >= 0.0 else -math.inf


def _share_cut(weights: NDArray[np.floating], mean: float, share: float) -> float:
    """Distance from the mean that at most ``share`` of the weights exceed."""
    last = weights.size - int(share * weights.size) - 1
    if last < 0:
        return -math.inf
    return float(np.partition(np.abs(weights.reshape(-1) - mean), last)[last])
