"""Which channels share a scale: the order they are put in, and where that is cut in groups.

A group of n channels that shares a scale loses n range^2 / 12 / 255^2 of energy a row (Bondarenko
et al., arXiv 2109.12948, group channels of similar range for that). Ranges hold 0, as grids do.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from sardonyx.passes.peg.merged import Order, merged
from sardonyx.passes.quantize.observers.statistic import Floats

Range = tuple[Floats, Floats]
"""The least and the largest value of each channel of a tensor."""

Ranges = Sequence[Range]
"""Those of tensors that share their groups."""

Rule = Literal["equal", "optimal"]

_NOTHING = 1e-12
"""A range, of the tensor's mean one, below which channels are alike."""

_FEW = 1024
"""Channels up to which groups are merged: it takes channels^2 of time and memory."""


def equal_groups(width: int, k: int) -> tuple[int, ...]:
    """Sizes of ``k`` groups of ``width`` channels, the first ones larger by 1 where k does not
    divide it."""
    share, left = divmod(width, k)
    return tuple(share + (group < left) for group in range(k))


def optimal_groups(ranges: Ranges, order: Order, k: int) -> tuple[int, ...]:
    """Sizes of the ``k`` groups, contiguous in ``order``, of the least `cost`: exact, by dynamic
    programming over the channels, in O(k channels^2)."""
    lows, highs, weights = _stacked(ranges, order)
    width = order.size
    best = np.full((k + 1, width + 1), np.inf)
    best[0, 0] = 0.0
    starts = np.zeros((k + 1, width + 1), np.int64)
    low, high = np.zeros_like(lows), np.zeros_like(highs)  # of the channels from each up to `end`
    for end in range(1, width + 1):
        np.minimum(low[:, :end], lows[:, end - 1, None], out=low[:, :end])
        np.maximum(high[:, :end], highs[:, end - 1, None], out=high[:, :end])
        noise = weights @ np.square(high[:, :end] - low[:, :end])
        totals = best[:k, :end] + noise * np.arange(end, 0, -1)
        starts[1:, end] = totals.argmin(axis=1)
        best[1:, end] = totals.min(axis=1)
    cuts = [width]
    for groups in range(k, 0, -1):
        cuts.append(int(starts[groups, cuts[-1]]))
    return tuple(end - start for start, end in pairwise(reversed(cuts)))


def group_sizes(ranges: Ranges, order: Order, k: int, rule: Rule) -> tuple[int, ...]:
    """Sizes of ``k`` groups by one of the two rules."""
    return equal_groups(order.size, k) if rule == "equal" else optimal_groups(ranges, order, k)


def cost(ranges: Ranges, order: Order, sizes: tuple[int, ...]) -> float:
    """What groups lose: of each tensor, relative to a scale for each channel; the sum of all."""
    lows, highs, weights = _stacked(ranges, order)
    starts = np.cumsum((0, *sizes[:-1]))
    low = np.minimum(np.minimum.reduceat(lows, starts, axis=1), 0)
    high = np.maximum(np.maximum.reduceat(highs, starts, axis=1), 0)
    return float(weights @ np.square(high - low) @ np.asarray(sizes))


def channel_order(sets: Sequence[Ranges], k: int, rule: Rule) -> Order:
    """The order in which ``k`` groups lose least, of those by some keys and by `merged`. ``sets``:
    tensors that share their groups, set by set, which all are to have one order."""

    def loss(order: Order) -> float:
        return sum(cost(each, order, group_sizes(each, order, k, rule)) for each in sets)

    orders = _orders([pair for each in sets for pair in each])
    return min({order.tobytes(): order for order in orders}.values(), key=loss)


def _orders(ranges: Ranges) -> Iterator[Order]:
    """Orders by range; of several tensors by the mean and by the energy, each in its own units;
    from the far negative over the small to the far positive channels, of which groups need not span
    both sides; and by `merged`."""
    width = ranges[0][0].size
    lows, highs, weights = _stacked(ranges, np.arange(width))
    spread = highs - lows
    units = np.sqrt(np.mean(np.square(spread), axis=1, keepdims=True))
    units[units == 0] = 1
    energy = np.square(spread / units).sum(axis=0)
    means = np.log(np.maximum(spread / units, _NOTHING)).sum(axis=0)
    sides = np.sign(((highs + lows) / units).sum(axis=0))
    for key in (means, energy, sides * energy):
        yield np.argsort(key, kind="stable")
    if width <= _FEW:
        yield merged(lows, highs, weights)


def _stacked(ranges: Ranges, order: Order) -> tuple[Floats, Floats, Floats]:
    """Least and largest values [tensors, channels], 0 among them, in ``order``; and by what each
    tensor's losses count: one over those of a scale for each channel."""
    lows = np.minimum(np.stack([low for low, _ in ranges]).astype(np.float64), 0)[:, order]
    highs = np.maximum(np.stack([high for _, high in ranges]).astype(np.float64), 0)[:, order]
    ideal = np.square(highs - lows).sum(axis=1)
    weights = np.divide(1.0, ideal, out=np.zeros_like(ideal), where=ideal > 0)
    return lows, highs, weights
