"""insert-qdq: a table whose rows are looked up in order is sliced."""

import numpy as np
import pytest

from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.quantize.insert_qdq import InsertQdq
from sardonyx.runtime_ops.uniform import encode

ROWS = 100
ORDER = np.arange(ROWS)
PASSES = {per: InsertQdq(embedding_per=per) for per in ("channel", "tensor")}

TEXT = """g (int64[1] S, int64[1] E, int64[1] D) => (float[M,64] Y) {
  I = Slice (P, S, E, A)
  [lookup] Y = Gather (W, I)
}"""
FRAMED = TEXT.replace("M,64", "N,M,64")
STEPS = TEXT.replace("E, A", "E, A, D")

BOUNDS = [(0, 7), (0, 0), (3, 3), (5, 2), (93, 500), (-7, 100), (-500, -3), (0, 2**62), (-1, -8)]
"""Starts and ends: within the table, of nothing, beyond the end, from the end."""


@pytest.fixture
def table(normal):
    return normal(ROWS, 64)


@pytest.fixture
def holds(done, apply, census, same_bits, text_model, table):
    """How many nodes of each op take the place of a lookup, once the results are those of a lookup
    in the decoded table, whatever the bounds."""

    def ops(text, per="channel", steps=(1,), **constants):
        after = done(PASSES[per], text_model(text, W=table, **constants))
        tensor, _ = encode(table.T, 8, per)
        assert after.constants["W.codes"].tobytes() == tensor.codes.T.tobytes()
        plain = text_model(text, W=tensor.decode().T.copy(), **constants)
        for start, end in BOUNDS:
            for step in steps:
                numbers = {"S": start, "E": end, "D": step}
                same_bits(plain, after.model, {k: np.array([v]) for k, v in numbers.items()})
        return census(apply(RemoveUnused(), after.model).model)

    return ops


SLICED = {
    "channel": {"Slice": 2, "DequantizeLinear": 1},
    "tensor": {"Slice": 1, "DequantizeLinear": 1},
}
LOOKED_UP = {"Slice": 1, "Gather": 2, "Cast": 1, "Unsqueeze": 1, "Mul": 1}


def test_wiring(done, apply, text_model, table):
    after = done(PASSES["channel"], text_model(TEXT, W=table, P=ORDER, A=[0]))
    assert apply(RemoveUnused(), after.model).wiring == [
        "lookup/Codes:0 = Slice (W.codes, S, E, lookup/Codes/Axes)",
        "lookup/Scales:0 = Slice (W.scale, S, E, lookup/Scales/Axes)",
        "Y = DequantizeLinear (lookup/Codes:0, lookup/Scales:0)",
    ]
    (entry,) = after.journal.encoded
    assert (entry.op, entry.nodes, entry.compute) == ("Gather", ("lookup",), "fp32")


@pytest.mark.parametrize("per", PASSES)
@pytest.mark.parametrize("axis", [0, -1])
def test_row_numbers_in_one_axis(holds, per, axis):
    assert holds(TEXT, per, P=ORDER, A=[axis]) == SLICED[per]


@pytest.mark.parametrize("per", PASSES)
@pytest.mark.parametrize("axis", [1, -1])
def test_row_numbers_in_a_batch_of_one(holds, per, axis):
    assert holds(FRAMED, per, P=ORDER[None], A=[axis]) == SLICED[per]


def test_steps(holds):
    assert holds(STEPS, steps=(1, 2, -1, -3), P=ORDER, A=[0]) == SLICED["channel"]


def test_bounds_and_row_numbers_of_32_bits(holds):
    text = TEXT.replace("I =", "s = Cast <to = 6> (S) e = Cast <to = 6> (E) I =")
    text = text.replace("P, S, E", "P, s, e")
    numbers = {"P": ORDER.astype(np.int32), "A": np.array([0], np.int32)}
    assert holds(text, **numbers) == SLICED["channel"] | {"Cast": 2}


def test_row_numbers_that_others_read_stay(holds):
    text = TEXT.replace("float[M,64] Y", "float[M,64] Y, int64[M] I")
    assert holds(text, P=ORDER, A=[0]) == SLICED["channel"] | {"Slice": 3}


def test_near_miss_fewer_numbers_than_rows(holds):
    """Bounds beyond the last number would take the rows after it."""
    assert holds(TEXT, P=ORDER[:-1], A=[0]) == LOOKED_UP


@pytest.mark.parametrize("numbers", [ORDER[::-1], np.minimum(ORDER, 98), ORDER - ROWS])
def test_near_miss_other_numbers(holds, numbers):
    assert holds(TEXT, P=numbers.copy(), A=[0]) == LOOKED_UP


def test_near_miss_no_constant(done, census, text_model, table):
    text = TEXT.replace("int64[1] S", "int64[100] P, int64[1] S")
    after = done(PASSES["channel"], text_model(text, W=table, A=[0]))
    assert census(after.model) == LOOKED_UP


def test_near_miss_the_batch_of_one_is_cut(holds):
    """From 1 on there is none."""
    assert holds(FRAMED, P=ORDER[None], A=[0]) == LOOKED_UP


def test_near_miss_two_axes(done, census, text_model, table):
    text = FRAMED.replace("int64[1] S, int64[1] E", "int64[2] S, int64[2] E")
    before = text_model(text, W=table, P=ORDER[None], A=[0, 1])
    assert census(done(PASSES["channel"], before).model) == LOOKED_UP


def test_near_miss_no_axes(done, census, text_model, table):
    text = TEXT.replace("S, E, A", "S, E")
    after = done(PASSES["channel"], text_model(text, W=table, P=ORDER))
    assert census(after.model) == LOOKED_UP


def test_near_miss_looked_up_twice(done, text_model, table):
    """The codes stay a matrix."""
    text = TEXT.replace("Y) {", "Y, float[M,64] Z) { Z = Gather (W, E)")
    after = done(PASSES["channel"], text_model(text, W=table, P=ORDER, A=[0]))
    assert after.ops.count("Gather") == 4
    assert after.ops.count("Slice") == 1
