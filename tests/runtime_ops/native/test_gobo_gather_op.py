"""The native GoboGather against its meaning in numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def some_ids(vocabulary, shape, dtype, seed=0):
    return np.random.default_rng(seed).integers(-vocabulary, vocabulary, shape).astype(dtype)


@settings(max_examples=150)
@given(
    bits=st.integers(2, 8),
    width=st.integers(1, 140),
    vocabulary=st.integers(1, 70),
    shape=st.lists(st.integers(0, 9), max_size=3),
    share=st.sampled_from([0.0, 0.02, 1.0]),
    part=st.floats(0, 1),
    id_type=st.sampled_from([np.int32, np.int64]),
    seed=st.integers(0, 99),
)
def test_any_shape(
    run_op, random_matrix, bits, width, vocabulary, shape, share, part, id_type, seed
):
    groups = 1 + int(part * (vocabulary - 1))
    w = random_matrix(
        bits, width, vocabulary, groups=groups, outliers=share, whole=False, seed=seed
    )
    ids = some_ids(vocabulary, shape, id_type, seed)
    found = run_op("GoboGather", ids, w)
    np.testing.assert_array_equal(found, w.weights.T[ids], strict=True)


@pytest.mark.parametrize("threads", [1, 4])
def test_many_rows(run_op, random_matrix, threads):
    w, ids = random_matrix(3, 384, 500, whole=False), some_ids(500, (8, 128), np.int64)
    found = run_op("GoboGather", ids, w, threads=threads)
    np.testing.assert_array_equal(found, w.weights.T[ids], strict=True)


def test_outliers_are_kept_bit_for_bit(run_op, random_matrix):
    w = random_matrix(4, 70, 30, outliers=1.0)
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3e38], np.float32)
    w.arrays["values"][:] = np.resize(odd, w.arrays["values"].shape)
    found = run_op("GoboGather", np.arange(30), w)
    kinds = np.unique(found.view(np.uint32))
    assert set(kinds) == set(odd.view(np.uint32))
