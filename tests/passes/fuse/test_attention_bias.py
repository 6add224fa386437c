"""What is added to scores: made once for all layers, and in the order it was written in."""

import numpy as np
import onnx
import pytest

from sardonyx.passes.fuse.attention import FuseAttention

B, S = 2, 3
LOWEST = np.finfo(np.float32).min

GUARD = {"mixed": "none = IsNaN (p); sure = Where (none, zero, p); MatMul (sure, v)"}


@pytest.mark.parametrize(
    ("masks", "kept"),
    [
        ({"scores": "m = Where (keep, zero, lowest); Add (scaled, m)"}, False),
        ({"scores": "m = Where (keep, zero, infinite); Add (scaled, m)"}, True),
        ({"scores": "no = Not (keep); Where (no, lowest, scaled)"}, False),
        ({"scores": "no = Not (keep); Where (no, infinite, scaled)"}, True),
        ({"scores": "m = Where (keep, zero, lowest); a = Add (scaled, m); Add (a, m)"}, True),
        ({"scores": "Identity (scaled)"}, False),
    ],
)
def test_a_guard_stays_only_where_all_keys_may_be_hidden(
    fuse_attention, attention, census, masks, kept
):
    keep = np.ones((B, 1, 1, S), bool)
    keep[1] = False
    after = fuse_attention(attention(**masks, **GUARD), keep=keep)
    assert census(after)["IsNaN"] == kept


def test_filled_scores_the_other_way_round(fuse_attention, attention):
    after = fuse_attention(attention(scores="Where (keep, scaled, lowest)"))
    (where,) = (node for node in after.graph.node if node.op_type == "Where")
    assert where.input == ["keep", "p/Zero", "lowest"]


@pytest.mark.parametrize(
    "scores",
    [
        "f = Where (hidden, lowest, scaled); Add (f, mask)",
        "a = Add (scaled, mask); Where (hidden, lowest, a)",
        "f = Where (hidden, infinite, scaled); Add (f, mask)",
        "a = Add (scaled, mask); Where (hidden, infinite, a)",
    ],
)
def test_filling_and_adding_in_their_order(fuse_attention, attention, scores):
    # where both hide a key the sum of the two is -inf, and only in one order scores are it too
    model = attention(inputs={"hidden": "bool[length,length]"}, scores=scores)
    hidden = np.triu(np.ones((S, S), bool), 1)
    mask = np.zeros((B, 1, 1, S), np.float32)
    mask[1, ..., 0] = LOWEST  # padding on the left: the first query sees nothing else
    fuse_attention(model, hidden=hidden, mask=mask)


def made_of(after):
    return [(node.op_type, list(node.input)) for node in after.graph.node]


def test_lengths_of_queries_and_keys(fuse_attention, attention):
    """Of a mask of which neither is known, both; in front of one of fewer axes, more of size 1."""
    after = fuse_attention(
        attention(inputs={"mask": "float[rows,columns]"}), mask=np.zeros((S, S), np.float32)
    )
    assert ("Concat", ["p/One", "p/One", "p/Queries:0", "p/Keys:0"]) in made_of(after)
    after = fuse_attention(
        attention(inputs={"mask": "float[length,1]"}), mask=np.zeros((S, 1), np.float32)
    )
    assert ("Concat", ["p/One", "p/One", "p/Queries:0", "p/Keys:0"]) in made_of(after)


def test_lengths_before_shape_has_a_start(fuse_attention_at):
    after = fuse_attention_at(14)
    assert ("Gather", ["p/Queries/Shape:0", "p/Queries/Axis"]) in made_of(after)


FLAGS = "f = Cast <to = 1> (valid); n = Sub (one, f); "


@pytest.mark.parametrize("mask", ["Mul (n, lowest)", "Mul (lowest, n)"])
def test_what_flags_are_multiplied_by_is_raised(fuse_attention_at, census, mask):
    """1 less the whole numbers of an input: a product of one more number in place of a Max."""
    after = fuse_attention_at(
        23,
        feeds={"valid": np.array([1, 1, 0, 0, 1, 0]).reshape(B, 1, 1, S)},
        inputs={"valid": "int64[batch,1,1,length]"},
        scores=f"{FLAGS}m = {mask}; Add (scaled, m)",
        given={"one": np.float32(1)},
    )
    assert not {"Max", "IsInf", "Where"} & census(after).keys()
    assert ("Mul", ["p/Hidden:0", "p/Floor"]) in made_of(after)


@pytest.mark.parametrize(
    ("inputs", "scores"),
    [
        ({"valid": "float[batch,1,1,length]"}, "n = Sub (one, valid); m = Mul (n, lowest)"),
        ({"valid": "int64[batch,1,1,length]"}, f"{FLAGS}m = Mul (n, infinite)"),
        ({"valid": "int64[batch,1,1,length]"}, f"{FLAGS}m = Mul (n, n)"),
        (
            {"valid": "int64[batch,1,1,length]"},
            "f = Cast <to = 1> (valid); n = Sub (f, one); m = Mul (n, lowest)",
        ),
        (
            {"valid": "int64[batch,1,1,length]"},
            "f = Cast <to = 1> (valid); n = Sub (two, f); m = Mul (n, lowest)",
        ),
    ],
    ids=["a float", "infinite", "no number", "less 1", "2 less"],
)
def test_what_may_be_no_flags_is_raised_by_a_max(apply, attention, census, inputs, scores):
    model = attention(
        23,
        inputs=inputs,
        scores=f"{scores}; Add (scaled, m)",
        given={"one": np.float32(1), "two": np.float32(2)},
    )
    after = apply(FuseAttention(), model)
    assert after.rewrites == 1
    assert census(after.model)["Max"] == 1


def second_layer(scores):
    """Attention of Y1 on itself; ``scores``: lines that make them of the scaled ones, d."""
    *ahead, last = scores.split("; ")
    return (
        "q5 = Reshape (Y1, split); k5 = Reshape (Y1, split); "
        "qt = Transpose <perm = [0, 2, 1, 3]> (q5); kt = Transpose <perm = [0, 2, 3, 1]> (k5); "
        f"r = MatMul (qt, kt); d = Div (r, root); {'; '.join([*ahead, f's = {last}'])}; "
        "p2 = Softmax (s); m = MatMul (p2, qt); t = Transpose <perm = [0, 2, 1, 3]> (m); "
        "Reshape (t, merge)"
    )


def test_layers_that_share_a_mask(fuse_attention, attention, census):
    model = attention(
        scores="no = Not (keep); Where (no, lowest, scaled)",
        Y=f"Y1 = Reshape (turned, merge); {second_layer('Where (no, lowest, d)')}",
    )
    counted = census(fuse_attention(model, times=2))
    assert (counted["Where"], counted["Expand"], counted["MultiHeadAttention"]) == (1, 1, 2)


def test_layers_that_share_some_of_their_biases(fuse_attention, attention, census):
    model = attention(
        scores="a = Add (scaled, bias); Add (a, mask)",
        Y="Y1 = Reshape (turned, merge); twice = Add (bias, bias); "
        + second_layer("a2 = Add (d, twice); Add (a2, mask)"),
    )
    counted = census(fuse_attention(model, times=2))
    assert (counted["Add"], counted["MultiHeadAttention"]) == (3, 2)


def test_attentions_side_by_side(apply, attention, attention_feeds, run_ort):
    # the second to begin is the first to end: what both add to their scores must be there by then
    model = attention(
        scores="no = Not (keep); Where (no, lowest, scaled)",
        mixed="r = MatMul (q, k); f = Where (no, lowest, r); p2 = Softmax (f); "
        "m2 = MatMul (p2, v); t2 = Transpose <perm = [0, 2, 1, 3]> (m2); Y2 = Reshape (t2, merge); "
        "MatMul (p, v)",
        Y="Y1 = Reshape (turned, merge); Add (Y1, Y2)",
    )
    after = apply(FuseAttention(), model)
    assert after.rewrites == 2
    onnx.checker.check_model(after.model)
    feeds = attention_feeds(model)
    want, have = (run_ort(one, feeds)[0] for one in (model, after.model))
    assert np.allclose(want, have, rtol=0, atol=FuseAttention.bound * np.abs(want).max())
