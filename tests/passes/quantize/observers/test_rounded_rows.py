"""Real rows beside what the range of their own sample makes of them."""

import numpy as np
import pytest

from sardonyx.passes.quantize.observers.rounded_rows import RoundedRows

DYNAMIC = """g (float[N,S,K] X) => (float[N,S,K] Y) {
  q, s, z = DynamicQuantizeLinear (X)
  Y = DequantizeLinear (q, s, z)
}"""


@pytest.fixture
def samples():
    """Twelve of one to four rows, whose ranges differ."""
    generator = np.random.default_rng(4)
    sizes = generator.uniform(-2, 3, 12)
    return [
        (10**size * generator.normal(0.3, 1, (1, length % 4 + 1, 6))).astype(np.float32)
        for length, size in enumerate(sizes)
    ]


def test_rounded_as_onnxruntime_does_at_run_time(text_model, run_ort, samples):
    model, sample = text_model(DYNAMIC), RoundedRows(100)
    wanted = {}
    for values in samples:
        sample = sample.add(values)
        (rounded,) = run_ort(model, {"X": values})
        pairs = zip(values[0], rounded[0], strict=True)
        wanted |= {row.tobytes(): other for row, other in pairs}
    assert len(wanted) == len(sample.plain)
    for row, rounded in zip(sample.plain, sample.rounded, strict=True):
        other = wanted[row.tobytes()]  # its scale is a quotient in float32, the grid's in float64
        assert np.abs(other - rounded).max() <= 2e-6 * np.abs(other).max()


def test_any_order_and_split(samples):
    """The same bits; a sample is what runs at once."""
    whole, turned = RoundedRows(8), RoundedRows(8)
    for values in samples:
        whole = whole.add(values)
    for values in samples[::-1]:
        turned = turned.merge(RoundedRows(8).add(values))
    np.testing.assert_array_equal(whole.values, turned.values)
    assert whole.values.shape == (8, 12)


def test_symmetric_grids():
    values = np.array([[-2.0, 0.5, 1.0, 0.013]], np.float32)
    sample = RoundedRows(4, symmetric=True, signed=True).add(values)
    steps = sample.rounded / np.float32(2 / 127)
    np.testing.assert_allclose(steps, np.rint(steps), rtol=0, atol=1e-4)
    assert sample.rounded[0, 0] == -2


def test_a_row_with_a_fill_is_left_out_and_no_end_of_the_range():
    values = np.array([[1, 2], [3, -np.inf], [5, 51]], np.float32)
    sample = RoundedRows(4).add(values)
    assert sorted(row[0] for row in sample.plain) == [1, 5]
    assert np.abs(sample.plain - sample.rounded).max() <= 51 / 255 / 2 * 1.0001


def test_no_values():
    sample = RoundedRows(4).add(np.zeros((1, 0, 6), np.float32))
    assert sample.values.size == 0
    assert RoundedRows(4).add(np.full((1, 2, 6), -np.inf, np.float32)).values.size == 0
