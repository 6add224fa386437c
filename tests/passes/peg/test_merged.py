"""merged: the order against a plain search of all pairs, and boxes that come to stand together."""

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.passes.peg.groups import channel_order, cost, optimal_groups
from sardonyx.passes.peg.merged import merged


def loss(group, lows, highs, weights):
    """What a group of channels loses."""
    reach = highs[:, group].max(axis=1) - lows[:, group].min(axis=1)
    return len(group) * float(weights @ np.square(reach))


def plainly_merged(lows, highs, weights):
    """Of all pairs the best, until one group is left."""
    groups = [[channel] for channel in range(lows.shape[1])]

    def rise(pair):
        return loss(pair[0] + pair[1], lows, highs, weights) - sum(
            loss(group, lows, highs, weights) for group in pair
        )

    while len(groups) > 1:
        pair = min(combinations(groups, 2), key=rise)
        small, large = sorted(pair, key=lambda g: loss(g, lows, highs, weights) / len(g))
        groups = [group for group in groups if all(group is not each for each in pair)]
        groups.append(small + large)
    return groups[0]


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 14))
def test_the_best_pair_is_merged(seed, tensors, channels):
    """Of random numbers, so that no two pairs are equally good."""
    rng = np.random.default_rng(seed)
    lows, highs = np.abs(rng.standard_cauchy((2, tensors, channels)))
    weights = rng.random(tensors) + 0.1
    order = merged(-lows, highs, weights)
    assert order.tolist() == plainly_merged(-lows, highs, weights)


def test_channels_that_are_far_alike_stand_together():
    """Far up in one tensor, far down in it, far in another: by no single range side by side."""
    low, high = -np.ones((2, 12)), np.ones((2, 12))
    high[0, [1, 5, 9]], low[0, [2, 6, 10]] = 30, -30
    high[1, [3, 7, 11]] = 30
    ranges = list(zip(low, high, strict=True))
    order = channel_order([ranges], 4, "optimal")
    sizes = optimal_groups(ranges, order, 4)
    assert sizes == (3, 3, 3, 3)
    assert {frozenset(group) for group in order.reshape(4, 3).tolist()} == {
        frozenset(range(first, 12, 4)) for first in range(4)
    }
    # each tensor loses what it would with a scale for each channel
    assert abs(cost(ranges, order, sizes) - 2) < 1e-12  # float64
