"""GoboMatMul: ``Y = A @ W`` with W [K, N] in GOBO form, one op a bit width (GoboMatMul3, ...); and
GoboLinear: ``Y = A @ W + bias``.

A session folds the body's nodes one by one into W and keeps each result until the last is done, so
the bytes of all results together decide its peak memory. Hence outliers are put back where a word
is still one integer: each word that holds some gets a row of its own in the word table.
"""

from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from sardonyx.runtime_ops.gobo import GoboTensor
from sardonyx.runtime_ops.int8_product import int8_product
from sardonyx.runtime_ops.ops.custom_op import INPUTS, CustomOp, parse_body
from sardonyx.runtime_ops.ops.decode_body import decode_lines, described_tables, group_lines
from sardonyx.runtime_ops.packing import LAYOUTS

Compute = Literal["fp32", "int8"]
"""The least precision of activations in a product, and how the product is computed."""

_BODY = """
{name} <shape> ({inputs}) => (Y)
{{
  turned = Transpose <perm = [1, 4, 2, 0, 3]> (indices)
  join_columns = Constant <value_ints = [0, 0, 0, -1]> ()
  planes = Reshape (turned, join_columns)
{decode}
  size = Constant <value_ints: ints = @shape> ()
  rows = Gather (size, zero)
  block = Constant <value_int = 32> ()
  fill = Constant <value_int = 31> ()
  filled = Add (rows, fill)
  blocks_high = Div (filled, block)
  column_places = Mul (blocks_high, block)
  {group}

  gaps = Cast <to = 7> (positions)
  place_list = CumSum (gaps, zero)
  column = Constant <value_ints = [-1, 1]> ()
  places = Reshape (place_list, column)
  n = Div (places, column_places)
  within = Mod (places, column_places)
  member = Mod (within, members)
  word = Div (within, members)
  {split_word}
  target = Concat <axis = 1> (block_row, byte, slot, n)

  word_ids = Div (place_list, members)
  no_word = Constant <value_ints = [-1]> ()
  first_axis = Constant <value_ints = [0]> ()
  fenced = Concat <axis = 0> (no_word, word_ids)
  previous = Slice (fenced, first_axis, no_word)
  same_word = Equal (word_ids, previous)
  new_word = Where (same_word, zero, one)
  ranks_after = CumSum (new_word, zero)
  ranks = Sub (ranks_after, one)

  word_codes = GatherND (codes, target)
  plain_codes = ScatterElements (word_codes, ranks, word_codes)
  plain = Gather <axis = 1> (table, plain_codes)
  rank_column = Reshape (ranks, column)
  cells = Concat <axis = 1> (member, rank_column)
  patched = ScatterND (plain, cells, values)
  full_table = Concat <axis = 1> (table, patched)
  own_rows = Add (ranks, count)
  own_codes = Cast <to = 6> (own_rows)
  full_codes = ScatterND (codes, target, own_codes)

  blocks = Gather <axis = 1> (full_table, full_codes)
  {finish}
  {product}
}}
"""

_DOC = """\
Y = {formula}. The weights W, of `shape` [K, N], are packed {bits}-bit `indices` into \
{tables}; the few that do not fit it are outliers in floating point: `values`, at \
`positions` (steps from place to place). The nodes below unpack W and multiply; a session folds \
them into one plain MatMul{and_add}. With `compute` = "int8" a kernel may round the rows of A to \
8 bits."""

_SPLIT_WORD = """words_a_byte = Constant <value_int = {words}> ()
  slot = Mod (word, words_a_byte)
  byte_row = Div (word, words_a_byte)
  bytes_a_block = Constant <value_int = 4> ()
  byte = Mod (byte_row, bytes_a_block)
  block_row = Div (byte_row, bytes_a_block)"""

_FINISH = "W = Flatten <axis = -1> (blocks)"
_FINISH_PADDED = """dense = Flatten <axis = -1> (blocks)
  start = Constant <value_ints = [0, 0]> ()
  W = Slice (dense, start, size)"""

_PRODUCT = "Y = MatMul (A, W)"
_PRODUCT_AND_BIAS = """product = MatMul (A, W)
  Y = Add (product, bias)"""


_GROUP = """planes_shape = Shape (planes)
  last_axis = Constant <value_int = 3> ()
  padded_columns = Gather (planes_shape, last_axis)
  of_column = Range (zero, padded_columns, one)
  columns = Gather (size, one)
  """ + group_lines("columns")


def gobo_matmul(bits: int) -> CustomOp:
    """``A @ W`` for ``bits``-bit indices. Its attribute ``shape`` is [K, N].

    ``compute``: ``fp32``, or ``int8`` where float32 activations need no more than 8 bits a row
    (`int8_product`); K is at most `int8_product.MOST_ROWS` then. It is the least precision that is
    wanted, not one to insist on: the body always multiplies in floating point.
    """
    return _product_op(f"GoboMatMul{bits}", bits, biased=False)


def gobo_linear(bits: int) -> CustomOp:
    """``A @ W + bias``, the bias [N]; else as `gobo_matmul`.

    A native kernel adds the bias to sums that it still holds in registers. The body adds it after
    the product, as the Add did that was there before, and a session folds it into the same two ops.
    """
    return _product_op(f"GoboLinear{bits}", bits, biased=True)


def _product_op(name: str, bits: int, biased: bool) -> CustomOp:
    inputs = ("A", *INPUTS, *(["bias"] if biased else []))
    formula, and_add = ("A @ W + `bias`", " and an Add") if biased else ("A @ W", "")

    def meaning(
        a: NDArray[Any],
        *arrays: NDArray[Any],
        shape: tuple[int, int],
        compute: Compute = "fp32",
    ) -> NDArray[Any]:
        tensor = GoboTensor(bits, shape[0], shape[1], *arrays[: len(INPUTS)])
        by_integers = compute == "int8"
        product = int8_product(a, tensor) if by_integers else np.matmul(a, tensor.decode())
        result: NDArray[Any] = product + arrays[len(INPUTS)] if biased else product
        return result

    def function(opset: int, padded: bool, grouped: bool = False) -> onnx.FunctionProto:
        text = _BODY.format(
            name=name,
            inputs=", ".join(inputs),
            decode=decode_lines(bits, grouped),
            group=_GROUP if grouped else "",
            split_word=_SPLIT_WORD.format(words=LAYOUTS[bits].words),
            finish=_FINISH_PADDED if padded else _FINISH,
            product=_PRODUCT_AND_BIAS if biased else _PRODUCT,
        )
        tables = described_tables(bits, grouped)
        doc = _DOC.format(formula=formula, bits=bits, tables=tables, and_add=and_add)
        return parse_body(text, opset, doc)

    return CustomOp(name, inputs, bits, function, meaning)
