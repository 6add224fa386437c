"""Queries that see no key, or only some, in the op that their attention becomes."""

import numpy as np
import pytest
from onnx import numpy_helper

from sardonyx.passes.fuse.attention import FuseAttention
from sardonyx.passes.fuse.attention_bias import FLOOR

B, S, N, D = 2, 3, 2, 4
"""Sizes of the model that the fixture ``attention`` makes."""

OWN, STANDARD = "com.microsoft.MultiHeadAttention", "Attention"
LOWEST, INF = np.finfo(np.float32).min, np.float32(-np.inf)

SHAPES = {"mask": "float[batch,1,length,length]", "keep": "bool[batch,1,length,length]"}
GUARD = {"mixed": "none = IsNaN (p); sure = Where (none, zero, p); MatMul (sure, v)"}
SPLIT = {"k": "Transpose <perm = [0, 2, 1, 3]> (k4)", "p": None}
SPLIT |= dict.fromkeys(("raw", "scaled", "scores"))
PAST = {
    "k": "nk = Transpose <perm = [0, 2, 1, 3]> (k4); ak = Concat <axis = 2> (past_k, nk); "
    "Transpose <perm = [0, 1, 3, 2]> (ak)",
    "v": "nv = Transpose <perm = [0, 2, 1, 3]> (v4); Concat <axis = 2> (past_v, nv)",
    "scores": "Identity (scaled)",
}


@pytest.fixture(scope="session")
def op_of(census):
    def find(model):
        counts = {node.op_type for node in model.graph.node}
        (op,) = counts & {"MultiHeadAttention", "Attention"}
        return op

    return find


@pytest.mark.parametrize(
    ("opset", "standard", "op"),
    [
        (13, True, "MultiHeadAttention"),
        (22, True, "MultiHeadAttention"),
        (23, True, "Attention"),
        (23, False, "MultiHeadAttention"),
        (24, True, "Attention"),
        (26, True, "Attention"),
    ],
)
def test_which_op(fuse_attention_at, op_of, opset, standard, op):
    assert op_of(fuse_attention_at(opset, FuseAttention(standard=standard))) == op


@pytest.mark.parametrize("opset", [17, 23])
def test_keys_of_the_past_are_for_the_op_of_onnxruntime(fuse_attention_at, op_of, opset):
    assert op_of(fuse_attention_at(opset, **PAST)) == "MultiHeadAttention"


ROWS = {
    "all at the lowest": [LOWEST] * 3,
    "some lowest, some infinite": [LOWEST, LOWEST, INF],
    "one infinite": [0, INF, 0],
    "one lowest": [LOWEST, 0, 0],
    "below the floor": [3 * FLOOR, 3 * FLOOR, 0],
    "small numbers": [1.5, -2, 1e-3],
}
"""What is added to the scores of a query."""


def masks_of(row):
    """The first query of the second sentence sees no more than ``row`` lets it."""
    mask = np.zeros((B, 1, S, S), np.float32)
    mask[1, 0, 0] = row
    return mask


@pytest.fixture(scope="module")
def expected():
    """The formula in float64, with 0 where it makes NaN."""

    def compute(attention_constants, x, *masks):
        parts = (x.astype(np.float64) @ attention_constants[f"W{name}"] for name in "qkv")
        q, k, v = (p.reshape(B, S, N, D).transpose(0, 2, 1, 3) for p in parts)
        with np.errstate(over="ignore", invalid="ignore"):
            scores = (q @ k.transpose(0, 1, 3, 2) / 2).astype(np.float32)
            for mask in masks:
                scores = scores + mask
            e = np.exp((scores - scores.max(-1, keepdims=True)).astype(np.float64))
            p = e / e.sum(-1, keepdims=True)
        p[np.isnan(p)] = 0
        return (p @ v).transpose(0, 2, 1, 3).reshape(B, S, N * D)

    return compute


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("opset", [22, 23])
@pytest.mark.parametrize("row", ROWS)
def test_rows_of_masks(
    apply, attention, attention_constants, attention_feeds, expected, run_ort,
    row, opset, guarded, optimize,
):  # fmt: skip
    model = attention(opset, inputs=SHAPES, **(GUARD if guarded else {}))
    feeds = attention_feeds(model, mask=masks_of(ROWS[row]))
    after = apply(FuseAttention(), model)
    assert after.rewrites == 1
    (want,), (have,) = (run_ort(each, feeds, optimize) for each in (model, after.model))
    assert np.abs(want - have).max() <= 1e-5 * np.abs(want).max()
    exact = expected(attention_constants, feeds["X"], feeds["mask"])
    assert np.abs(exact - have).max() <= 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("opset", [22, 23])
def test_a_guard_makes_0_of_queries_that_see_nothing(
    apply, attention, attention_feeds, run_ort, opset
):
    model = attention(opset, inputs=SHAPES, **GUARD)
    feeds = attention_feeds(model, mask=masks_of([INF] * 3))
    after = apply(FuseAttention(), model)
    (want,), (have,) = (run_ort(each, feeds) for each in (model, after.model))
    assert not want[1, 0].any()
    assert not have[1, 0].any()
    assert np.abs(want - have).max() <= 1e-5 * np.abs(want).max()


SUMS = {
    "both": "m = Where (keep, zero, lowest); a = Add (scaled, m); Add (a, mask)",
    "first filled": "no = Not (keep); f = Where (no, lowest, scaled); Add (f, mask)",
}


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("opset", [22, 23])
@pytest.mark.parametrize("scores", SUMS)
@pytest.mark.parametrize("row", ["all at the lowest", "one lowest"])
def test_two_masks(apply, attention, attention_feeds, run_ort, op_of, row, scores, opset, guarded):
    """Keys that both hide have a score of -inf, those that one hides the lowest float."""
    changes = {"scores": SUMS[scores]} | (GUARD if guarded else {})
    model = attention(opset, inputs=SHAPES, **changes)
    keep = np.ones((B, 1, S, S), bool)
    keep[1, 0, 0] = [False, True, False]
    feeds = attention_feeds(model, mask=masks_of(ROWS[row]), keep=keep)
    after = apply(FuseAttention(), model)
    (want,), (have,) = (run_ort(each, feeds) for each in (model, after.model))
    assert np.isfinite(want).all()
    assert np.abs(want - have).max() <= 1e-5 * np.abs(want).max()
    standard = opset == 23 and not guarded
    assert op_of(after.model) == ("Attention" if standard else "MultiHeadAttention")


def test_two_masks_and_a_guard_where_both_hide_all(apply, attention, attention_feeds, run_ort):
    model = attention(23, inputs=SHAPES, scores=SUMS["both"], **GUARD)
    keep = np.ones((B, 1, S, S), bool)
    keep[1, 0, 0] = False
    feeds = attention_feeds(model, mask=masks_of([LOWEST] * 3), keep=keep)
    after = apply(FuseAttention(), model)
    for each in (model, after.model):
        assert not run_ort(each, feeds)[0][1, 0].any()


MASKS = {
    "truths": ("keep", {"keep": masks_of([1, 1, 1]) == 0}),
    "infinite": ("mask", {"mask": masks_of([INF] * 3)}),
    "some infinite": ("mask", {"mask": masks_of([INF, 0, 0])}),
}


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("standard", [True, False])
@pytest.mark.parametrize("kind", MASKS)
def test_masks_of_the_op_of_opset_23(
    apply, attention, attention_feeds, run_ort, kind, standard, causal
):
    name, held = MASKS[kind]
    mixed = f"Attention <is_causal = {causal}> (q, k, v, {name})"
    model = attention(23, **SPLIT, mixed=mixed, inputs=SHAPES)
    feeds = attention_feeds(model, **held)
    after = apply(FuseAttention(standard=standard), model)
    assert after.rewrites == (standard or not causal)
    (want,), (have,) = (run_ort(each, feeds) for each in (model, after.model))
    assert (kind == "some infinite" and not causal) == want[1, 0].any()
    assert np.abs(want - have).max() <= 1e-5 * np.abs(want).max()


def constants_of(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_only_what_may_be_the_lowest_float_is_raised(fuse_attention_at, census):
    """A number in place of scores is another number; a mask that holds no -inf needs no more than
    a Max."""
    filled = fuse_attention_at(23, scores="no = Not (keep); Where (no, lowest, scaled)")
    assert not {"Max", "IsInf"} & census(filled).keys()
    assert np.float32(FLOOR) in [v for v in constants_of(filled).values() if v.shape == ()]
    two = fuse_attention_at(23, scores="m = Where (keep, zero, lowest); Add (scaled, m)")
    assert (census(two)["Max"], census(two)["IsInf"]) == (1, 0)
    given = fuse_attention_at(23)
    assert (census(given)["Max"], census(given)["IsInf"]) == (1, 1)
    own = fuse_attention_at(22)
    assert not {"Max", "IsInf"} & census(own).keys()


def test_a_mask_of_one_row_is_raised_as_such(apply, attention, nodes_of):
    after = apply(FuseAttention(), attention(23))
    ops = [node[0] for node in nodes_of(after.model)]
    assert ops.index("Max") < ops.index("Expand")


def test_layers_raise_a_mask_once(apply, attention, census):
    second = (
        "q5 = Reshape (Y1, split); q6 = Transpose <perm = [0, 2, 1, 3]> (q5); "
        "k6 = Transpose <perm = [0, 2, 3, 1]> (q5); r = MatMul (q6, k6); d = Div (r, root); "
        "s = Add (d, mask); p2 = Softmax (s); m = MatMul (p2, q6); "
        "t = Transpose <perm = [0, 2, 1, 3]> (m); Reshape (t, merge)"
    )
    after = apply(FuseAttention(), attention(23, Y=f"Y1 = Reshape (turned, merge); {second}"))
    counted = census(after.model)
    assert [counted[op] for op in ("Attention", "Max", "Expand")] == [2, 1, 1]


def test_causal_and_masked(apply, attention):
    """MultiHeadAttention would let a query see later keys where a mask hides all others."""
    mixed = "Attention <is_causal = 1> (q, k, v, mask)"
    after = apply(FuseAttention(standard=False), attention(23, **SPLIT, mixed=mixed))
    (miss,) = after.journal.missed
    assert miss.reason.startswith("it is causal and masked")
