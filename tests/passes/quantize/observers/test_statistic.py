"""What all statistics share: any split and order, checkpoints, fills, NaN, narrow floats."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sardonyx.passes.quantize.observers.channel_range import ChannelRange
from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.observers.moving_range import MovingRange
from sardonyx.passes.quantize.observers.outlying_channels import OutlyingChannels
from sardonyx.passes.quantize.observers.row_sample import RowSample

ORDER_FREE = [Histogram(np.zeros(32, np.int64)), ChannelRange(), RowSample(3)]
ALL = [*ORDER_FREE, MovingRange(0.9), OutlyingChannels(0.5)]

batches = st.lists(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(0, 4), st.integers(1, 3), st.just(2)),
        elements=st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, 1.0, -2.0]),
    ),
    max_size=5,
)


def folded(statistic, samples):
    for values in samples:
        statistic = statistic.add(values)
    return statistic


def state(statistic):
    """Every bit of it."""
    return {n: (a.dtype, a.shape, a.tobytes()) for n, a in statistic.arrays().items()}


def name(statistic):
    return type(statistic).__name__


@pytest.mark.parametrize("empty", ORDER_FREE, ids=name)
@given(batches, st.randoms(use_true_random=False), st.data())
def test_any_split_order_and_merge_gives_the_same_bits(empty, batches, random, data):
    whole = state(folded(empty, batches))
    rows = [row[None] for batch in batches for row in batch]
    random.shuffle(rows)
    assert state(folded(empty, rows)) == whole
    cut = data.draw(st.integers(0, len(rows)))
    left, right = folded(empty, rows[:cut]), folded(empty, rows[cut:])
    assert state(left.merge(right)) == whole
    assert state(right.merge(left)) == whole


@pytest.mark.parametrize("empty", ALL, ids=name)
@given(batches, batches)
def test_a_checkpoint_goes_on_where_it_stopped(empty, before, after):
    half = folded(empty, before)
    restored = empty.restored(half.arrays())
    assert state(restored) == state(half)
    assert state(folded(restored, after)) == state(folded(half, after))


@pytest.mark.parametrize("empty", ALL, ids=name)
def test_a_checkpoint_survives_its_file(empty, normal, tmp_path):
    half = empty.add(normal(5, 2))
    np.savez(tmp_path / "state.npz", **half.arrays())
    with np.load(tmp_path / "state.npz") as arrays:
        assert state(empty.restored(arrays)) == state(half)


@pytest.mark.parametrize("empty", ALL, ids=name)
def test_the_state_does_not_grow_with_the_samples(empty, normal):
    few, many = (folded(empty, [normal(8, 2, seed=i) for i in range(n)]) for n in (1, 50))
    assert sum(a.nbytes for a in few.arrays().values()) == sum(
        a.nbytes for a in many.arrays().values()
    )


@pytest.mark.parametrize("empty", ALL, ids=name)
def test_adding_leaves_the_state_before_as_it_was(empty, normal):
    before = state(empty)
    later = empty.add(normal(5, 2))
    now = state(later)
    assert state(later.add(normal(9, 2, seed=1))) != now
    assert (state(empty), state(later)) == (before, now)


@pytest.mark.parametrize("fill", [-math.inf, math.inf, np.finfo(np.float32).min, -(2.0**100)])
@pytest.mark.parametrize("empty", ALL, ids=name)
def test_a_mask_fill_does_not_count(empty, fill, normal):
    rows = normal(6, 2)
    filled = np.concatenate([rows, np.full((2, 2), fill, np.float32)])
    assert state(empty.add(filled)) == state(empty.add(rows))
    assert state(empty.add(rows).add(filled[6:])) == state(empty.add(rows))


@pytest.mark.parametrize("empty", ALL, ids=name)
def test_what_is_below_a_mask_fill_counts(empty):
    largest = np.nextafter(np.float32(2**100), np.float32(0))
    values = np.array([[0, -largest]], np.float32)
    assert state(empty.add(values)) != state(empty.add(np.ones((1, 2), np.float32)))


@pytest.mark.parametrize("empty", ALL, ids=name)
@pytest.mark.parametrize("others", [0.0, math.inf])
def test_nan_is_refused(empty, others):
    with pytest.raises(ValueError, match=r"^holds NaN$"):
        empty.add(np.array([[others, math.nan]], np.float32))


@pytest.mark.parametrize("empty", ALL, ids=name)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_are_taken_as_float32(empty, dtype, normal):
    narrow = normal(7, 2).astype(dtype)
    narrow[0] = -math.inf
    assert state(empty.add(narrow)) == state(empty.add(narrow.astype(np.float32)))


@pytest.mark.parametrize("empty", ALL, ids=name)
def test_a_sample_without_values(empty, normal):
    for shape in ((0, 2), (0,), (3, 0)):
        nothing = np.zeros(shape, np.float32)
        assert state(empty.add(normal(5, 2)).add(nothing)) == state(empty.add(normal(5, 2)))


@pytest.mark.parametrize("empty", ALL, ids=name)
def test_a_scalar_tensor(empty):
    assert state(empty.add(np.float32(3)[()] + np.zeros((), "f4"))) == state(
        empty.add(np.full(1, 3, np.float32))
    )
