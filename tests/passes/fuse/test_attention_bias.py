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
