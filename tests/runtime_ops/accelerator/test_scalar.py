"""The definition, by hand: what is added in which order, and what is rounded."""

from __future__ import annotations

import numpy as np

from sardonyx.runtime_ops.accelerator.scalar import output

HALF_STEP = np.float32(2.0**-24)
"""Half a step of float32 at 1: added to 1 it is lost."""


def f32(*values):
    return [np.float32(value) for value in values]


def test_accumulators_then_centroids():
    """3 * (1 + 4) + 5 * 2 + 7 * 8, and no weight has index 3."""
    assert output(f32(1, 2, 4, 8), [0, 1, 0, 2], f32(3, 5, 7, 9), {}) == 81


def test_k_ascends():
    """Halves of a step are lost one by one behind 1, and kept where they come first."""
    late = output(f32(1, HALF_STEP, HALF_STEP), [0, 0, 0], f32(1), {})
    early = output(f32(HALF_STEP, HALF_STEP, 1), [0, 0, 0], f32(1), {})
    assert (late, early) == (1, 1 + 2 * HALF_STEP)


def test_centroids_in_order_of_index():
    """As above, with an accumulator for each; the order of k does not matter."""
    activations, centroids = f32(1, 1, 1), f32(HALF_STEP, HALF_STEP, 1)
    assert output(activations, [0, 1, 2], centroids, {}) == 1 + 2 * HALF_STEP
    assert output(activations, [2, 1, 0], centroids, {}) == 1 + 2 * HALF_STEP
    assert output(activations, [0, 1, 2], centroids[::-1], {}) == 1


def test_outliers_come_last_and_by_k():
    """1 is there first, however early the outliers' k; their indices mean nothing."""
    outliers = {1: HALF_STEP, 0: HALF_STEP}
    assert output(f32(1, 1, 1), [0, 0, 0], f32(1, 9), outliers) == 1
    assert output(f32(1, 1, 1), [1, 1, 0], f32(HALF_STEP, 9), {0: HALF_STEP, 1: np.float32(1)}) == (
        1 + 2 * HALF_STEP
    )


def test_products_are_rounded_before_they_are_added():
    """(1 + 2^-12)^2 - 1 - 2^-11 is 0 where the square is rounded, and 2^-24 in one step."""
    x = np.float32(1 + 2.0**-12)
    assert output([x, np.float32(1)], [0, 1], [x, np.float32(-1 - 2.0**-11)], {}) == 0
    assert output([x, np.float32(1)], [1, 0], [np.float32(-1 - 2.0**-11)] * 2, {0: x}) == 0


def test_all_is_float32():
    assert isinstance(output([], [], f32(1, 2), {}), np.float32)
