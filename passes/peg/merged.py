"""Channels in the order in which groups of them are merged, the least loss first."""

import numpy as np
from numpy.typing import NDArray

from sardonyx.passes.quantize.observers.statistic import Floats

Order = NDArray[np.int64]
"""The old place of each channel."""


def merged(lows: Floats, highs: Floats, weights: Floats) -> Order:
    """From groups of one channel on, those two become one that lose the least by it; in the end all
    stand together, channels that have much in common side by side.

    ``lows``, ``highs``: [tensors, channels], with 0 among them; ``weights``: [tensors]. A group of
    n channels loses n weights . range^2.
    """
    low, high = lows.T.copy(), highs.T.copy()
    count, size, members = len(low), np.ones(len(low)), [[place] for place in range(len(low))]
    loss = np.square(high - low) @ weights  # of one channel in each group

    def rises(group: int) -> Floats:
        """What is lost by merging a group with each."""
        reach = np.maximum(high[group], high) - np.minimum(low[group], low)
        both = (size[group] + size) * (np.square(reach) @ weights)
        rise: Floats = both - size[group] * loss[group] - size * loss
        rise[(size == 0) | (np.arange(count) == group)] = np.inf
        return rise

    rise = np.stack([rises(group) for group in range(count)])
    nearest = rise.argmin(axis=1)
    for _ in range(count - 1):
        least = rise[np.arange(count), nearest]
        one = int(least.argmin())
        other = int(nearest[one])
        pair = sorted((one, other), key=lambda group: float(loss[group]))
        members[one] = members[pair[0]] + members[pair[1]]
        low[one], high[one] = np.minimum(low[one], low[other]), np.maximum(high[one], high[other])
        size[one], size[other] = size[one] + size[other], 0
        loss[one] = np.square(high[one] - low[one]) @ weights
        rise[other], rise[:, other] = np.inf, np.inf
        rise[one] = rise[:, one] = rises(one)
        nearest[rise[:, one] < least] = one
        stale = np.isin(nearest, (one, other)) | (np.arange(count) == one)
        nearest[stale] = rise[stale].argmin(axis=1)
    return np.array(members[one] if count > 1 else members[0])
