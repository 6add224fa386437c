"""Ranges of channels against numpy's."""

import numpy as np
import pytest

from sardonyx.passes.quantize.observers.channel_range import ChannelRange


def test_each_channel_has_its_own_range(normal):
    batches = [normal(2, 5, 7, seed=seed) for seed in range(3)]
    found = ChannelRange()
    for values in batches:
        found = found.add(values)
    rows = np.concatenate(batches).reshape(-1, 7)
    assert found.low.tolist() == rows.min(axis=0).tolist()
    assert found.high.tolist() == rows.max(axis=0).tolist()


def test_a_fill_hides_no_other_channel():
    found = ChannelRange().add(np.array([[1, -np.inf], [2, -np.inf], [0, -3.4e38]], np.float32))
    assert (found.low.tolist(), found.high.tolist()) == ([0, np.inf], [2, -np.inf])


def test_another_number_of_channels_is_refused(normal):
    with pytest.raises(ValueError, match="has a last axis of 4 after one of 3"):
        ChannelRange().add(normal(2, 3)).add(normal(2, 4))
