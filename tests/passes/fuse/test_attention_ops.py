"""The ops that attention becomes: onnxruntime's own, and from opset 23 on the standard's."""

import numpy as np
import pytest

from sardonyx.passes.fuse.attention import FuseAttention

B, S, N = 2, 3, 2
OP = "com.microsoft.MultiHeadAttention"
LOWEST = np.finfo(np.float32).min

PROJECTIONS = [
    ("MatMul", ["X", "Wq"], ["q3"], {}),
    ("MatMul", ["X", "Wk"], ["k3"], {}),
    ("MatMul", ["X", "Wv"], ["v3"], {}),
]


PAST = {
    "k": "kt = Transpose <perm = [0, 2, 1, 3]> (k4); all_k = Concat <axis = 2> (past_k, kt); "
    "Transpose <perm = [0, 1, 3, 2]> (all_k)",
    "v": "vt = Transpose <perm = [0, 2, 1, 3]> (v4); Concat <axis = 2> (past_v, vt)",
}
ATTENTION = {
    "k": "Transpose <perm = [0, 2, 1, 3]> (k4)",
    "p": None,
    **dict.fromkeys(("raw", "scaled", "scores")),
}


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Attention (q, k, v)", {}),
        ("Attention <scale = 0.25> (q, k, v)", {"scale": 0.25}),
        ("Attention <is_causal = 1> (q, k, v)", {"unidirectional": 1}),
        ("Attention (q, k, v, mask)", {}),
        ("Attention (q, k, v, keep)", {}),
        ("Attention <is_causal = 1> (q, k, v, keep)", {"unidirectional": 1}),
        ("Attention <is_causal = 1> (q, k, v, mask)", {"unidirectional": 1}),
    ],
)
@pytest.mark.parametrize("hidden", [False, True])
def test_the_op_of_opset_23(fuse, attention, attention_feeds, nodes_of, op, attributes, hidden):
    # a query that sees no key: onnxruntime makes 0 of it, whatever the type of the mask
    inputs = {"keep": "bool[batch,1,length,length]", "mask": "float[batch,1,length,length]"}
    keep = np.ones((B, 1, S, S), bool)
    keep[1, 0, :, 0 if hidden else 2 :] = False
    mask = np.where(keep, np.float32(0), np.float32(-np.inf))
    model = attention(23, **ATTENTION, mixed=op, inputs=inputs)
    feeds = attention_feeds(model, keep=keep, mask=mask)
    masked = len(model.graph.input) > 1
    if not (masked and "unidirectional" in attributes):  # which that op does not know
        own = nodes_of(fuse(FuseAttention(standard=False), model, **feeds).model)
        assert {node[0]: node[3] for node in own}[OP] == {"num_heads": N} | attributes
        assert ("IsNaN" in {node[0] for node in own}) == masked
    # the standard's op takes heads in one axis too, and its mask stays as it is
    names = {"scale": "scale", "unidirectional": "is_causal"}
    attributes = {names[name]: value for name, value in attributes.items()}
    masks = [value.name for value in model.graph.input[1:]]
    assert nodes_of(fuse(FuseAttention(), model, **feeds).model) == [
        *PROJECTIONS,
        (
            "Attention",
            ["q3", "k3", "v3", *masks],
            ["Y"],
            {"q_num_heads": N, "kv_num_heads": N} | attributes,
        ),
    ]


@pytest.mark.parametrize(
    ("scores", "added"),
    [
        ("Identity (scaled)", None),
        ("Add (scaled, mask)", "mask"),
        ("no = Not (keep); Where (no, lowest, scaled)", "fill"),
        ("a = Add (scaled, bias); Add (a, mask)", "both"),
    ],
)
@pytest.mark.parametrize("hidden", [False, True])
def test_attention_is_written_from_opset_23_on(
    fuse, attention, attention_feeds, census, scores, added, hidden
):
    # of scores that all are the lowest float softmax makes a mean, and Attention 0
    model = attention(23, scores=scores)
    keep = np.ones((B, 1, 1, S), bool)
    keep[1, ..., 0 if hidden else 2 :] = False
    mask = np.where(keep, np.float32(0), np.float32(LOWEST))
    after = fuse(FuseAttention(), model, **attention_feeds(model, keep=keep, mask=mask))
    counted = census(after.model)
    assert (counted["Attention"], counted["MultiHeadAttention"]) == (1, 0)
    assert (counted["Max"] > 0) == (added in ("mask", "both"))


def test_keys_of_the_past_stay_with_the_op_that_takes_them(
    fuse, attention, attention_feeds, census
):
    model = attention(23, **PAST, scores="Identity (scaled)")
    after = fuse(FuseAttention(), model, **attention_feeds(model))
    assert census(after.model)["MultiHeadAttention"] == 1
