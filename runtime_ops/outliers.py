"""Which weights of a tensor stay in floating point (GOBO, section 4: the outlier group)."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sardonyx.runtime_ops.binned_sums import chunks, energy

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


def band(weights: NDArray[np.floating], rule: Rule, threshold: float | None) -> Band:
    """The values that go to the codebook, by one of three rules.

    ``weights``: any shape, finite. ``threshold`` (None: the rule's default) means, by ``rule``:

    - ``logpdf``: a weight is an outlier when ``ln N(w; mean, std) < threshold`` (GOBO; -4). The
      density is not normalised, so the cut, ``std * sqrt(2 (-threshold - ln(std sqrt(2 pi))))``,
      counted in standard deviations, depends on ``std``.
    - ``z``: when it lies more than ``threshold`` standard deviations from the mean.
    - ``share``: the ``threshold`` share of weights farthest from the mean (weights that tie at
      the cut stay inside).
    """
    threshold = DEFAULT_THRESHOLDS[rule] if threshold is None else threshold
    mean, std = _moments(weights)
    if rule == "share":
        return _share_band(weights.reshape(-1), mean, threshold)
    if std == 0.0:
        cut = math.inf
    else:
        cut = threshold * std if rule == "z" else _log_pdf_cut(std, threshold)
    to_dtype = weights.dtype.type
    with np.errstate(over="ignore"):  # an end past the greatest number leaves nothing outside
        return Band(float(to_dtype(mean - cut)), float(to_dtype(mean + cut)))


def _moments(weights: NDArray[np.floating]) -> tuple[float, float]:
    """Mean and standard deviation in float64, without a float64 copy of the weights."""
    mean = float(np.mean(weights, dtype=np.float64))
    parts = chunks(weights.reshape(-1))
    squares = sum(energy(np.subtract(part, mean, dtype=np.float64)) for part in parts)
    return mean, math.sqrt(squares / weights.size)


def _log_pdf_cut(std: float, threshold: float) -> float:
    """Distance from the mean where ln N(w; mean, std) = threshold; negative: none is inside."""
    squared = 2.0 * (-threshold - math.log(std * math.sqrt(2.0 * math.pi)))
    return std * math.sqrt(squared) if squared >= 0.0 else -math.inf


def _share_band(weights: NDArray[np.floating], mean: float, share: float) -> Band:
    """From the least to the greatest of the weights (1-D) nearest to the mean.

    Its ends are weights, not the mean plus or minus a distance: rounding that could put a weight
    at the cut outside, and so more than ``share`` of them.
    """
    last = weights.size - int(share * weights.size) - 1
    if last < 0:
        return Band(math.inf, -math.inf)
    distances = np.abs(weights - mean)
    near = distances <= np.partition(distances, last)[last]
    low = weights.min(where=near, initial=np.inf)
    return Band(float(low), float(weights.max(where=near, initial=-np.inf)))
