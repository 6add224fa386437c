"""slices: what a note says, and what says nothing; slices put together are the whole."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.passes.metadata import PREFIX, PROPS
from sardonyx.passes.slices import Slice, pieces, slice_of
from sardonyx.passes.weights import WeightView


@pytest.mark.parametrize("part", [Slice("W", "rows", 0, 34), Slice("a b/c", "columns", 34, 35)])
def test_a_note_is_read_back(part):
    node = gs.Node("MatMul")
    assert slice_of(node) is None
    part.note(node)
    assert slice_of(node) == part


@pytest.mark.parametrize("span", ["", "rows", "rows 0:", "rows 0:3 ", "row 0:3", "rows -1:3"])
def test_what_another_hand_wrote_is_no_slice(span):
    node = gs.Node("MatMul", attrs={PROPS: {f"{PREFIX}slice_of": "W", f"{PREFIX}slice": span}})
    assert slice_of(node) is None


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_slices_together_are_the_matrix(lengths, turned, by_columns):
    shape = (3, sum(lengths)) if by_columns else (sum(lengths), 3)
    matrix = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    held = gs.Constant("W", np.ascontiguousarray(matrix.T) if turned else matrix)
    view = WeightView(held, turned, np.dtype(np.float32))
    found = pieces(view, "columns" if by_columns else "rows", lengths)
    assert [part.end - part.start for part, _ in found] == lengths
    assert [constant.name for _, constant in found] == [f"W/group{n}" for n in range(len(lengths))]
    together = np.concatenate([constant.values for _, constant in found], int(by_columns))
    np.testing.assert_array_equal(together, matrix)


def test_slices_are_of_the_type_that_is_read():
    """A Cast may stand between the constant and the product."""
    held = gs.Constant("W", np.ones((2, 2), np.float16))
    ((_, constant),) = pieces(WeightView(held, False, np.dtype(np.float32)), "rows", [2])
    assert constant.dtype == np.float32
