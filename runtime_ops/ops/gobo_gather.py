"""GoboGather: rows of an embedding table in GOBO form, one op a bit width (GoboGather4, ...).

The table [vocabulary, width] is stored as W [K = width, N = vocabulary]: row v is column v of W,
so that a table that is also an output projection is stored once. The body gathers packed rows and
decodes only those: no session can fold it into an FP32 table. Outliers lie row after row;
``first`` and ``past`` bound those of each row, and the body visits them by their rank in the row.
One row more than asked for is decoded: runtimes refuse an integer product over no rows.
"""

from typing import Any

import onnx
from numpy.typing import NDArray

from sardonyx.runtime_ops.gobo import GoboTensor
from sardonyx.runtime_ops.ops.custom_op import INPUTS, CustomOp, parse_body
from sardonyx.runtime_ops.ops.decode_body import decode_lines, described_tables, group_lines

_BODY = """
GoboGather{bits} <shape> (ids, indices, centroids, positions, values) => (Y)
{{
  turned = Transpose <perm = [0, 3, 2, 1, 4]> (indices)
  padded_rows = Flatten <axis = 2> (turned)
  size = Constant <value_ints: ints = @shape> ()
  first_axis = Constant <value_ints = [0]> ()
  second_axis = Constant <value_ints = [1]> ()
  width = Gather (size, first_axis)
  vocabulary = Gather (size, second_axis)
  rows = Slice (padded_rows, first_axis, vocabulary, first_axis)
  any_length = Constant <value_ints = [-1]> ()
  flat_ids = Reshape (ids, any_length)
  tokens = Cast <to = 7> (flat_ids)
  tokens_and_one = Concat <axis = 0> (tokens, first_axis)
  token_rows = Gather (rows, tokens_and_one)
  by_plane = Constant <value_ints = [0, {bits}, -1]> ()
  planes = Reshape (token_rows, by_plane)
{decode}
  {group}
  blocks = Gather <axis = 1> (table, codes)
  natural = Transpose <perm = [1, 0, 3, 2]> (blocks)
  padded = Flatten <axis = 1> (natural)
  top_left = Constant <value_ints = [0, 0]> ()
  all_but_one = Constant <value_ints = [-1]> ()
  dense_end = Concat <axis = 0> (all_but_one, width)
  dense = Slice (padded, top_left, dense_end)

  gaps = Cast <to = 7> (positions)
  places = CumSum (gaps, zero)
  block = Constant <value_int = 32> ()
  fill = Constant <value_int = 31> ()
  filled = Add (width, fill)
  blocks_high = Div (filled, block)
  column_places = Mul (blocks_high, block)
  height = Div (column_places, members)
  row = Div (places, column_places)
  within = Mod (places, column_places)
  member = Mod (within, members)
  word = Div (within, members)
  member_start = Mul (member, height)
  k = Add (member_start, word)
  no_row = Constant <value_ints = [-1]> ()
  fenced = Concat <axis = 0> (no_row, row, no_row)
  minus_two = Constant <value_ints = [-2]> ()
  two = Constant <value_ints = [2]> ()
  end = Constant <value_ints = [9223372036854775807]> ()
  previous = Slice (fenced, first_axis, minus_two)
  next = Slice (fenced, two, end)
  none = Sub (row, row)
  each = Add (none, one)
  rank_after = CumSum (each, zero)
  rank = Sub (rank_after, one)
  elsewhere = Add (vocabulary, rank)
  same_as_previous = Equal (row, previous)
  same_as_next = Equal (row, next)
  first_slot = Where (same_as_previous, elsewhere, row)
  past_slot = Where (same_as_next, elsewhere, row)
  first_byte = Gather <axis = 1> (rows, zero)
  any_number = Cast <to = 7> (first_byte)
  no_outliers = Mul (any_number, zero)
  slots = Concat <axis = 0> (no_outliers, none)
  first_slots = ScatterElements (slots, first_slot, rank)
  past_slots = ScatterElements (slots, past_slot, rank_after)
  first = Slice (first_slots, first_axis, vocabulary)
  past = Slice (past_slots, first_axis, vocabulary)
  counts = Sub (past, first)
  most = ReduceMax <keepdims = 0> (counts)
  ranks = Range (zero, most, one)

  token_first = Gather (first, tokens)
  token_counts = Gather (counts, tokens)
  column = Constant <value_ints = [-1, 1]> ()
  token_limits = Reshape (token_counts, column)
  present = Less (ranks, token_limits)
  found = NonZero (present)
  token = Gather (found, zero)
  rank_in_row = Gather (found, one)
  start = Gather (token_first, token)
  source = Add (start, rank_in_row)
  outlier_k = Gather (k, source)
  outlier = Gather (values, source)
  token_column = Reshape (token, column)
  k_column = Reshape (outlier_k, column)
  target = Concat <axis = 1> (token_column, k_column)
  exact = ScatterND (dense, target, outlier)
  ids_shape = Shape (ids)
  out_shape = Concat <axis = 0> (ids_shape, width)
  Y = Reshape {zeros} (exact, out_shape)
}}
"""

_GROUP = """row_ids = Mod (tokens_and_one, vocabulary)
  spread = Constant <value_ints = [-1, 1, 1]> ()
  of_column = Reshape (row_ids, spread)
  """ + group_lines("vocabulary")

_DOC = """\
Y = the rows `ids` of an embedding table, of `shape` [width, vocabulary]. Its numbers are \
packed {bits}-bit `indices` into {tables}; the few that do not fit it are \
outliers in floating point: `values`, at `positions` (steps from place to place). The nodes below \
unpack only the rows that are looked up."""


def gobo_gather(bits: int) -> CustomOp:
    """The op for ``bits``-bit indices. Its attribute ``shape`` is [K = width, N = vocabulary].

    ``ids``: int32 or int64, any shape (before opset 14, no axis but the first may be empty),
    -vocabulary to vocabulary - 1. Result: ids' shape + [K].
    """

    def meaning(ids: NDArray[Any], *arrays: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
        rows: NDArray[Any] = GoboTensor(bits, shape[0], shape[1], *arrays).decode().T[ids]
        return rows

    def function(opset: int, padded: bool, grouped: bool = False) -> onnx.FunctionProto:
        zeros = "<allowzero = 1>" if opset >= 14 else ""
        decode, group = decode_lines(bits, grouped), _GROUP if grouped else ""
        body = _BODY.format(bits=bits, decode=decode, group=group, zeros=zeros)
        return parse_body(
            body, opset, _DOC.format(bits=bits, tables=described_tables(bits, grouped))
        )

    return CustomOp(f"GoboGather{bits}", ("ids", *INPUTS), bits, function, meaning)
