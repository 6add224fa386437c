"""groups: sizes against brute force, orders against what they must bring together."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.passes.peg.groups import (
    channel_order,
    cost,
    equal_groups,
    group_sizes,
    optimal_groups,
)


def all_sizes(width, k):
    """Every way to cut ``width`` channels in ``k`` groups."""
    for cuts in combinations(range(1, width), k - 1):
        yield tuple(end - start for start, end in pairwise((0, *cuts, width)))


def plain_cost(ranges, order, sizes):
    """The formula, channel by channel."""
    total = 0.0
    for low, high in ranges:
        ends = [(min(float(low[c]), 0), max(float(high[c]), 0)) for c in order]
        ideal = sum((top - bottom) ** 2 for bottom, top in ends)
        lost = 0.0
        for start, end in pairwise(np.cumsum((0, *sizes))):
            bottoms, tops = zip(*ends[start:end], strict=True)
            lost += (end - start) * (max(tops) - min(bottoms)) ** 2
        total += lost / ideal if ideal else 0.0
    return total


@st.composite
def cases(draw):
    """Ranges of one to three tensors, an order, a number of groups."""
    width = draw(st.integers(1, 9))
    value = st.floats(-100, 100, width=32)
    ends = st.lists(st.tuples(value, value), min_size=width, max_size=width)
    ranges = []
    for _ in range(draw(st.integers(1, 3))):
        pairs = np.sort(np.asarray(draw(ends), np.float32), axis=1)
        ranges.append((pairs[:, 0], pairs[:, 1]))
    order = np.asarray(draw(st.permutations(range(width))))
    return ranges, order, draw(st.integers(1, width))


@given(cases())
def test_no_cut_costs_less(case):
    ranges, order, k = case
    sizes = optimal_groups(ranges, order, k)
    assert len(sizes) == k
    assert min(sizes) >= 1
    assert sum(sizes) == order.size
    best = min(plain_cost(ranges, order, each) for each in all_sizes(order.size, k))
    # float64 sums of a few terms
    assert plain_cost(ranges, order, sizes) <= best * (1 + 1e-12)


@given(cases())
def test_cost_is_the_formula(case):
    ranges, order, k = case
    for sizes in (equal_groups(order.size, k), optimal_groups(ranges, order, k)):
        want = plain_cost(ranges, order, sizes)
        assert cost(ranges, order, sizes) == pytest.approx(want, rel=1e-12)  # float64 sums


@given(cases())
def test_more_groups_never_cost_more(case):
    ranges, order, _ = case
    costs = [cost(ranges, order, optimal_groups(ranges, order, k + 1)) for k in range(order.size)]
    assert all(more <= less * (1 + 1e-12) for less, more in pairwise(costs))  # float64 sums


@given(cases(), st.sampled_from(["equal", "optimal"]))
def test_an_order_is_a_permutation(case, rule):
    ranges, order, k = case
    assert sorted(channel_order([ranges, ranges[:1]], k, rule)) == list(range(order.size))


@given(st.integers(1, 5000), st.integers(1, 40))
def test_equal_groups_are_those_of_array_split(width, k):
    k = min(width, k)
    want = [part.size for part in np.array_split(np.arange(width), k)]
    assert list(equal_groups(width, k)) == want


def test_one_far_channel_is_alone():
    high = np.array([1, 1, 50, 1, 1.0])
    ranges = [(-high, high)]
    order = channel_order([ranges], 2, "optimal")
    assert order.tolist() == [0, 1, 3, 4, 2]
    assert group_sizes(ranges, order, 2, "optimal") == (4, 1)
    assert group_sizes(ranges, order, 2, "equal") == (3, 2)


def test_groups_need_not_span_both_sides():
    low = np.array([0, -9, -1, 0, -9, -1.0])
    high = np.array([9, 0, 1, 9, 0, 1.0])
    order = channel_order([[(low, high)]], 3, "equal")
    assert [sorted(pair) for pair in order.reshape(3, 2).tolist()] == [[1, 4], [2, 5], [0, 3]]


def test_tensors_far_in_other_channels_share_groups():
    """One far channel each; in the other tensor it is as small as all."""
    one, other = np.ones(8), np.ones(8)
    one[3], other[5] = 30, 3000
    ranges = [(-one, one), (-other, other)]
    order = channel_order([ranges], 2, "optimal")
    sizes = group_sizes(ranges, order, 2, "optimal")
    assert sorted(order[-2:]) == [3, 5]
    assert sizes == (6, 2)


def test_a_tensor_counts_by_its_shape_not_its_size():
    """Groups that serve a tensor serve it in other units too."""
    rng = np.random.default_rng(0)
    ranges = [(-high, high) for high in np.abs(rng.standard_cauchy((2, 64)))]
    scaled = [ranges[0], (ranges[1][0] * 2.0**20, ranges[1][1] * 2.0**20)]
    order = channel_order([ranges], 4, "optimal")
    np.testing.assert_array_equal(order, channel_order([scaled], 4, "optimal"))
    assert optimal_groups(ranges, order, 4) == optimal_groups(scaled, order, 4)


def test_channels_without_any_value_but_zero():
    nothing = np.zeros(6)
    order = channel_order([[(nothing, nothing)]], 3, "optimal")
    assert sum(optimal_groups([(nothing, nothing)], order, 3)) == 6


def test_sets_have_one_order_and_their_own_sizes():
    """Of two layers, both far in channel 0, one also in 1 and 2."""
    first, second = np.ones(8), np.ones(8)
    first[0], second[:3] = 40, (50, 40, 40)
    sets = [[(-first, first)], [(-second, second)]]
    order = channel_order(sets, 2, "optimal")
    assert order[-1] == 0
    assert sorted(order[-3:]) == [0, 1, 2]
    assert [group_sizes(each, order, 2, "optimal") for each in sets] == [(7, 1), (5, 3)]
