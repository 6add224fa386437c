"""The definition of what GOBO's chip computes: one output, a step at a time."""

from collections.abc import Mapping, Sequence

import numpy as np


def output(
    activations: Sequence[np.float32],
    indices: Sequence[int],
    centroids: Sequence[np.float32],
    outliers: Mapping[int, np.float32],
) -> np.float32:
    """Row ``activations`` [K] of A by a column of W: its ``indices`` [K] into ``centroids``
    [2^bits], and its ``outliers`` by row k, whose indices mean nothing.

    Every addition and every product is rounded to float32.
    """
    sums = [np.float32(0)] * len(centroids)
    for k in range(len(activations)):
        if k not in outliers:
            sums[indices[k]] += activations[k]  # the PE: the index selects the accumulator
    total = np.float32(0)
    for j in range(len(centroids)):
        total += sums[j] * centroids[j]  # the SPU
    for k in sorted(outliers):
        total += activations[k] * outliers[k]  # the SPU, last
    return total
