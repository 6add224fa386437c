"""The codec: what a tensor becomes and what comes back, on ordinary and degenerate tensors."""

from __future__ import annotations

import itertools
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sardonyx.runtime_ops.codebook import fit
from sardonyx.runtime_ops.gobo import Settings, contradiction, encode, nearest
from sardonyx.runtime_ops.outliers import band
from sardonyx.runtime_ops.packing import LAYOUTS

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
ALL, NONE = (Settings(rule="share", threshold=share) for share in (1.0, 0.0))


def wide(array):
    return np.asarray(array).astype(np.float64)


def check(weights, choice):
    """All that holds for every encoding; returns it with its outlier mask."""
    tensor, loss = encode(weights, choice)
    decoded = tensor.decode()
    k, n = tensor.outlier_places()
    mask = np.zeros(weights.shape, bool)
    mask[k, n] = True
    assert mask.sum() == tensor.values.size
    assert decoded.dtype == weights.dtype == tensor.centroids.dtype == tensor.values.dtype
    columns = np.arange(weights.shape[1])
    width = -(-columns.size // choice.groups)
    tables = columns // width
    np.testing.assert_array_equal(tensor.tables, tables, strict=True)
    assert tensor.centroids.shape == (tables[-1] + 1, 2**choice.bits)
    assert -(-columns.size // len(tensor.centroids)) == width  # what an op tells from the shapes
    assert np.all(np.diff(wide(tensor.centroids)) >= 0)
    np.testing.assert_array_equal(wide(tensor.values), wide(weights[k, n]))
    np.testing.assert_array_equal(wide(decoded)[mask], wide(weights)[mask])
    assert not tensor.unpacked()[mask].any()
    error = np.abs(wide(decoded) - wide(weights))
    least = np.abs(wide(weights)[..., None] - wide(tensor.centroids)[tables]).min(axis=-1)
    np.testing.assert_array_equal(error[~mask], least[~mask])
    check_sqnr(weights, error, loss)
    check_size(tensor)
    assert contradiction(weights, tensor) == ""
    return tensor, mask


def check_sqnr(weights, error, loss):
    noise, signal = (error**2).sum(), (wide(weights) ** 2).sum()
    if noise == 0 or signal == 0:
        assert loss.sqnr_db == np.inf
    else:
        expected = 10 * np.log10(signal / noise)
        # Errors are taken in the arithmetic of the weights, float32 or wider.
        assert loss.sqnr_db == pytest.approx(expected, abs=1e-4)


def check_size(tensor):
    dtype, outliers = tensor.values.dtype, tensor.values.size
    assert tensor.positions.dtype in (np.uint16, np.int32)
    extra = outliers * (tensor.positions.itemsize - 2)
    expected = tensor.format.nbytes(tensor.rows, tensor.columns, outliers, dtype) + extra
    assert tensor.nbytes == expected
    groups = len(tensor.centroids)
    shared = "tensor" if groups == 1 else f"{groups} groups"
    assert str(tensor.format) == f"codebook{tensor.bits}/{shared}"


@st.composite
def choices(draw):
    rule, low, high = draw(
        st.sampled_from([("logpdf", -9.0, 1.0), ("z", 0.5, 4.0), ("share", 0.0, 1.0)])
    )
    threshold = draw(st.none() | st.floats(low, high))
    return Settings(draw(st.integers(2, 8)), rule, threshold, groups=draw(st.integers(1, 50)))


@settings(max_examples=200, deadline=None)
@given(
    choices(),
    st.integers(1, 70),
    st.integers(1, 40),
    st.sampled_from(DTYPES),
    st.sampled_from([1e-3, 0.04, 1.0, 30.0]),
    st.integers(0, 2**32),
)
def test_encode(choice, rows, columns, dtype, scale, seed):
    weights = np.random.default_rng(seed).standard_t(4, (rows, columns)) * scale
    check(weights.astype(dtype), choice)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 4),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 9),
    st.integers(0, 2**32),
)
def test_encode_optimal(bits, rows, columns, groups, seed):
    weights = np.random.default_rng(seed).standard_t(4, (rows, columns)).astype(np.float32)
    check(weights, Settings(bits, solver="optimal", groups=groups))


@pytest.mark.parametrize("solver", ["paper", "optimal"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_group_is_encoded_as_a_matrix_of_its_own(normal, solver, turned):
    """But for the outliers, which are those of the whole."""
    weights = normal(64, 40) * np.linspace(0.5, 2, 40, dtype=np.float32)
    given = np.asfortranarray(weights) if turned else weights
    tensor, mask = check(given, Settings(3, solver=solver, groups=3))
    _, whole = check(weights, Settings(3, solver=solver))
    np.testing.assert_array_equal(mask, whole)
    assert whole.any()
    for table, columns in zip(
        tensor.centroids, [slice(14), slice(14, 28), slice(28, 40)], strict=True
    ):
        part = weights[:, columns]
        alone = fit(part[~mask[:, columns]], 3, solver).centroids.astype(np.float32)
        np.testing.assert_array_equal(table, alone)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_groups_never_lose_more(seed, groups):
    """Where centroids are the best there are, and a group's columns all lie in one of fewer."""
    weights = np.random.default_rng(seed).standard_t(4, (20, 24)).astype(np.float32)
    losses = [
        encode(weights, Settings(2, solver="optimal", groups=many))[1].sqnr_db
        for many in (1, groups, 12 if groups in (1, 2, 3, 4, 6) else groups, 24)
    ]
    assert all(b >= a - 1e-5 for a, b in itertools.pairwise(losses))  # rounded to float32


def test_columns_of_another_size_want_groups(normal):
    weights = normal(64, 40)
    weights[:, 20:] *= 8
    one, two = (encode(weights, Settings(3, groups=groups))[1].sqnr_db for groups in (1, 2))
    assert two > one + 1


@pytest.mark.parametrize("rule", ["logpdf", "z", "share"])
@pytest.mark.parametrize("solver", ["paper", "optimal"])
def test_outliers_and_centroids_are_those_of_the_parts(rule, solver, normal):
    weights = normal(96, 80)
    tensor, mask = check(weights, Settings(3, rule, solver=solver))
    expected = band(weights, rule, None).outliers(weights)
    assert expected.any()
    np.testing.assert_array_equal(mask, expected)
    centroids = fit(weights[~expected], 3, solver).centroids.astype(np.float32)
    np.testing.assert_array_equal(tensor.centroids[0], centroids)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [33, 3000])
def test_memory_order_does_not_matter(normal, rows, dtype):
    weights = normal(rows, 70, dtype=dtype)
    expected, loss = encode(weights, Settings())
    double = np.repeat(np.repeat(weights, 2, axis=0), 2, axis=1)
    for other in (np.asfortranarray(weights), double[::2, ::2], double.T[::2, ::2].T):
        tensor, other_loss = encode(other, Settings())
        for name in ("indices", "positions"):
            np.testing.assert_array_equal(getattr(tensor, name), getattr(expected, name))
        for name in ("centroids", "values"):
            have, want = (wide(getattr(t, name)) for t in (tensor, expected))
            # Sums over 210,000 float64 weights round in the order in which they are met.
            exact = dtype != np.float64 or rows == 33
            np.testing.assert_allclose(have, want, rtol=0 if exact else 1e-14)
        assert other_loss.sqnr_db == pytest.approx(loss.sqnr_db, rel=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (16, 32), (33, 17)])
@pytest.mark.parametrize("choice", [Settings(), ALL, NONE])
@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes(normal, shape, choice, dtype):
    _, mask = check(normal(*shape, dtype=dtype), choice)
    if choice is not ALL:
        assert mask.mean() < 0.05
    else:
        assert mask.all()


def test_spread_too_wide_for_the_density_makes_all_outliers(normal):
    weights = normal(20, 30) * np.float32(1000)
    tensor, mask = check(weights, Settings())
    assert mask.all()
    assert not tensor.centroids.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", ["paper", "optimal"])
@pytest.mark.parametrize("values", [[0.0], [-0.75], [0.25, -3.0], [0.0, 1.0, 2.0, 3.5, 4.0]])
def test_fewer_values_than_centroids_lose_nothing(dtype, solver, values):
    weights = np.resize(values, (13, 21)).astype(dtype)
    tensor, loss = encode(weights, replace(NONE, solver=solver))
    np.testing.assert_array_equal(wide(tensor.decode()), wide(weights))
    assert loss.sqnr_db == np.inf
    assert wide(tensor.centroids).tolist()[0] == [*np.unique(values)] + [max(values)] * (
        8 - len(values)
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_neighbouring_numbers_lose_nothing(dtype):
    values = [dtype(1)]
    for _ in range(7):
        values.append(np.nextafter(values[-1], dtype(2)))
    weights = np.resize(values, (9, 9))
    tensor, loss = encode(weights, NONE)
    np.testing.assert_array_equal(tensor.decode(), weights)
    assert loss.sqnr_db == np.inf


@pytest.mark.parametrize("scale", [1e-42, 1e-38, 1e30])
@pytest.mark.parametrize("choice", [Settings(4), replace(NONE, bits=4)])
def test_subnormal_and_huge_float32(scale, choice):
    weights = (np.random.default_rng(0).standard_normal((40, 30)) * scale).astype(np.float32)
    check(weights, choice)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("at", [(0, 0), (2, 3), (4, 5)])
def test_refuses_what_is_not_finite(value, dtype, at):
    weights = np.ones((5, 6), dtype)
    weights[at] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        encode(weights, Settings())


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("gap", "dtype"), [(65_535, np.uint16), (65_536, np.int32)])
def test_positions_widen_with_the_gap(bits, gap, dtype):
    """Of columns of 1,024 weights, the first has place 1024 n and the last the one before the
    next column, whatever the words."""
    weights = np.resize(np.float32([0.01, -0.01]), (1024, 66))
    weights[0, 0] = 9
    weights[(0, 64) if gap == 65_536 else (1023, 63)] = 9
    tensor, _ = check(weights, Settings(bits))
    assert tensor.positions.tolist() == [0, gap]
    assert tensor.positions.dtype == dtype


def test_first_gap_counts_from_zero():
    weights = np.full((1024, 80), 0.01, np.float32)
    weights[0, 70] = 9
    tensor, _ = check(weights, Settings())
    assert (tensor.positions.tolist(), tensor.positions.dtype) == ([70 * 1024], np.int32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([np.float32, np.float64]))
def test_nearest_takes_the_lower_of_two_as_near(seed, dtype):
    rng = np.random.default_rng(seed)
    centroids = np.sort(rng.choice(200, 8, replace=False)).astype(dtype) / 4
    weights = rng.integers(-10, 220, (5, 40)).astype(dtype) / 4
    distances = np.abs(weights[..., None] - centroids)  # quarters: exact
    np.testing.assert_array_equal(nearest(weights, centroids), distances.argmin(axis=-1))


def test_contradiction_names_what_is_wrong(normal):
    weights = normal(40, 50)
    weights[3, 4] = 1  # an outlier whose stored index, 0, is not its nearest
    tensor, _ = encode(weights, Settings())
    assert tensor.values.tolist() == [1]
    layout = LAYOUTS[3]
    elsewhere, padding, past = (
        layout.place(*np.array([[k], [n]]), 40).astype(np.uint16)
        for k, n in [(5, 4), (40, 4), (3, 50)]
    )
    swapped = tensor.indices.copy()
    swapped[0, 0, 0, 0, 0] ^= 1
    for other, reason in [
        (replace(tensor, rows=39), "shape"),
        (replace(tensor, values=tensor.values + 1), "outlier that does not decode"),
        (replace(tensor, positions=elsewhere), "outlier that does not decode"),
        (replace(tensor, positions=padding), "outside the matrix"),
        (replace(tensor, positions=past), "outside the matrix"),
        (replace(tensor, indices=swapped), "nearest centroid"),
        (replace(tensor, centroids=tensor.centroids + np.float32(0.02)), "nearest centroid"),
    ]:
        assert reason in contradiction(weights, other)
    dropped = replace(tensor, positions=tensor.positions[:0], values=tensor.values[:0])
    assert "nearest centroid" in contradiction(weights, dropped)
    assert contradiction(weights, tensor) == ""


def test_contradiction_looks_at_the_column_s_own_table(normal):
    weights = normal(40, 50)
    tensor, _ = encode(weights, Settings(groups=5))
    assert contradiction(weights, tensor) == ""
    swapped = replace(tensor, centroids=tensor.centroids[[0, 1, 3, 2, 4]])
    fewer = replace(tensor, centroids=tensor.centroids[:4])
    for other in (swapped, fewer):
        assert "nearest centroid" in contradiction(weights, other)


def test_contradiction_looks_at_every_column():
    """Many columns are looked at in several steps."""
    weights = np.resize(np.float32([1, 2, 3]), (2000, 100))
    tensor, _ = encode(weights, NONE)
    for n in (0, 50, 99):
        off = weights.copy()
        off[1999, n] = 3 if off[1999, n] == 1 else 1
        assert "nearest centroid" in contradiction(off, tensor)


def test_more_bits_lose_less(normal):
    weights = normal(128, 96)
    losses = [encode(weights, Settings(bits))[1].sqnr_db for bits in range(2, 9)]
    assert all(b - a > 2 for a, b in itertools.pairwise(losses))
