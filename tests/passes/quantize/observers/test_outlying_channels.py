"""Outlying channels against scipy's z-scores."""

import itertools

import numpy as np
import pytest
from scipy.stats import zscore

from sardonyx.passes.quantize.observers.outlying_channels import OutlyingChannels


@pytest.fixture
def samples(normal):
    """Sequences of 20 rows of 6 channels, two of them with a few values far out."""
    made = [normal(1, 20, 6, seed=seed) for seed in range(3)]
    for values in made:
        values[0, ::4, 2] += 40
        values[0, 3, 5] = -30
    return made


def test_counts_are_of_each_sample_alone(samples):
    distances = [np.abs(zscore(values.astype(np.float64), axis=None)) for values in samples]
    found = OutlyingChannels(2.0)
    for values in samples:
        found = found.add(values)
    assert found.beyond.tolist() == sum((z > 2).sum(axis=(0, 1)) for z in distances).tolist()
    assert found.beyond[2] == 15
    np.testing.assert_allclose(found.largest, max(z.max() for z in distances), rtol=1e-12)


def test_order_and_merge_change_no_bit(samples):
    states = set()
    for order in itertools.permutations(samples):
        left, right = OutlyingChannels(2.0).add(order[0]), OutlyingChannels(2.0)
        for values in order[1:]:
            right = right.add(values)
        for state in (left.merge(right), right.merge(left)):
            states.add((state.beyond.tobytes(), state.largest))
    assert len(states) == 1


def test_equal_values_have_no_outlier():
    found = OutlyingChannels().add(np.full((4, 3), 7.5, np.float32))
    assert (found.beyond.tolist(), found.largest) == ([0, 0, 0], 0.0)


def test_a_fill_counts_nowhere():
    values = np.zeros((50, 2), np.float32)
    values[0] = [-np.inf, 1]
    found = OutlyingChannels().add(values)
    assert found.beyond.tolist() == [0, 1]


def test_another_number_of_channels_is_refused(normal):
    with pytest.raises(ValueError, match="has a last axis of 4 after one of 3"):
        OutlyingChannels().add(normal(2, 3)).add(normal(2, 4))
