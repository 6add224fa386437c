"""Attention to the ends: by hand, in any order, past padding."""

import itertools

import numpy as np
import pytest
from scipy.special import softmax

from sardonyx.passes.quantize.observers.attention_ends import AttentionEnds

ROUNDING = 2**-39
"""Shares are kept in steps of 2^-40."""


@pytest.fixture
def samples(normal):
    """Probabilities of 2 heads in sequences of 3, 5 and 8 tokens."""
    return [softmax(normal(1, 2, n, n, seed=n).astype(np.float64), -1) for n in (3, 5, 8)]


def folded(samples):
    state = AttentionEnds()
    for values in samples:
        state = state.add(values)
    return state


def test_means_over_queries_then_sequences(samples):
    found = folded(samples).shares
    first = np.mean([values[0, :, :, 0].mean(axis=1) for values in samples], axis=0)
    last = np.mean([values[0, :, :, -1].mean(axis=1) for values in samples], axis=0)
    np.testing.assert_allclose(found, [first, last], rtol=0, atol=ROUNDING)


def test_order_changes_no_bit(samples):
    states = {
        (state.first.tobytes(), state.last.tobytes(), state.sequences)
        for state in map(folded, itertools.permutations(samples))
    }
    assert len(states) == 1


def test_padding_is_no_end(samples):
    """Sequences in one batch, the shorter with keys and queries behind its end."""
    batch = np.zeros((3, 2, 8, 8))
    for place, values in enumerate(samples):
        n = values.shape[-1]
        batch[place, :, :n, :n] = values[0]
        batch[place, :, n:, :n] = 1 / n  # what queries at padding attend to
    together, alone = folded([batch]), folded(samples)
    assert together.sequences == 3
    np.testing.assert_array_equal(together.shares, alone.shares)


def test_other_sequences_have_other_lengths(normal):
    """Keys of another sequence: all queries count."""
    values = softmax(normal(1, 2, 3, 7).astype(np.float64), -1)
    found = folded([values]).shares
    want = [values[0, :, :, 0].mean(axis=1), values[0, :, :, -1].mean(axis=1)]
    np.testing.assert_allclose(found, want, rtol=0, atol=ROUNDING)


def test_heads_without_a_batch(samples):
    assert folded([samples[0][0]]).shares.tolist() == folded(samples[:1]).shares.tolist()


def test_no_sequence_has_no_share():
    assert AttentionEnds().add(np.zeros((0, 2, 3, 3), np.float32)).shares.size == 0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.ones(3, np.float32), "has 1 axes, not queries and keys"),
        (np.full((1, 2, 3, 3), np.nan, np.float32), "holds NaN"),
        (np.ones((1, 4, 3, 3), np.float32), "has 4 heads after 2"),
    ],
)
def test_what_is_no_attention_is_refused(samples, values, reason):
    with pytest.raises(ValueError, match=reason):
        folded(samples).add(values)


def test_a_checkpoint_goes_on(samples):
    half = folded(samples[:1])
    restored = AttentionEnds().restored(half.arrays())
    found, whole = restored.add(samples[1]), folded(samples[:2])
    assert found.first.tolist() == whole.first.tolist()
    assert found.sequences == 2
