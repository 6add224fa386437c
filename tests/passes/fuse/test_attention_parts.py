"""The parts of an attention are told by what they compute; near-misses, each with its reason."""

import numpy as np
import pytest

from sardonyx.passes.fuse.attention import FuseAttention

B, S, T, N, D = 2, 3, 5, 2, 4


WAYS = [
    {"p": "Softmax (scores)"},
    {"p": "Softmax <axis = 3> (scores)"},
    {"p": "s = Cast <to = 1> (scores); t = Identity (s); Softmax (t)"},
    {"mixed": "j = Cast <to = 1> (p); i = Identity (j); MatMul (i, v)"},
    {"Y": "Reshape (turned, free)"},
    {"Y": "i = Identity (turned); Reshape (i, merge)"},
    {"Y": "m = Reshape (turned, merge); Relu (m)"},
    {"turned": "i = Identity (mixed); Transpose <perm = [0, 2, 1, 3]> (i)"},
    {"k": "t = Transpose <perm = [0, 2, 1, 3]> (k4); Transpose <perm = [0, 1, 3, 2]> (t)"},
    {"k": "t = Transpose <perm = [2, 0, 1, 3]> (k4); Transpose <perm = [1, 0, 3, 2]> (t)"},
    {
        "k4": "n = Shape (X); b = Slice (n, at0, at2); s = Concat <axis = 0> (b, tail); "
        "Reshape (k3, s)"
    },
]
TO_NUMBERS = [
    {"q4": "r = Reshape (q3, rows); Reshape (r, back)"},
    {"v4": "r = Reshape (v3, back); Identity (r)"},
    {"Y": "m = Reshape (turned, rows); Reshape (m, whole)"},
]
FIXED = f"{B},{S}"


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [(way, sizes) for way in WAYS for sizes in ("batch,length", FIXED, f"batch,{S}", f"{B},length")]
    + [(way, FIXED) for way in TO_NUMBERS],
)
def test_ways_to_split_and_merge(fuse_attention, attention, changes, sizes):
    batch, length = sizes.split(",")
    inputs = {"X": f"float[{sizes},8]", "mask": f"float[{batch},1,1,{length}]"}
    given = {
        "tail": np.array([N, D]),
        "back": np.array([B, S, N, D]),
        "whole": np.array([B, S, N * D]),
    }
    fuse_attention(attention(inputs=inputs, given=given, **changes))


@pytest.mark.parametrize(
    "sizes", [(1, 3, 2, 4), (2, 1, 2, 4), (1, 1, 2, 4), (2, 2, 2, 2), (1, 1, 1, 1), (2, 4, 1, 4)]
)
@pytest.mark.parametrize("fixed", [True, False])
def test_sizes_that_are_1_or_equal(fuse_attention, attention, normal, sizes, fixed):
    batch, length, heads, size = sizes
    width = heads * size
    weights = {f"W{name}": normal(width, width, seed=i) * 20 for i, name in enumerate("qkv")}
    given = {"split": np.array([0, 0, heads, size]), "merge": np.array([0, 0, width])}
    front = f"{batch},{length}" if fixed else "batch,length"
    model = attention(
        inputs={"X": f"float[{front},{width}]"},
        outputs={"Y": f"float[{front},{width}]"},
        scores="Identity (scaled)",
        given=weights | given,
    )
    fuse_attention(model, X=normal(batch, length, width) * 25)


@pytest.mark.parametrize(
    ("mask", "x"),
    [
        ("float[sentences,1,1,tokens]", "float[batch,length,8]"),
        ("float[batch,some,queries,keys]", "float[batch,length,8]"),
        ("float[sentences,1,1,tokens]", f"float[{B},{S},8]"),
        ("float[1,1,1,1]", "float[1,1,8]"),
    ],
)
def test_a_mask_whose_sizes_have_other_names(fuse_attention, attention, normal, mask, x):
    numbers = [B, 1, 1, S] if "[1" not in mask else [1, 1, 1, 1]
    front = (B, S) if "[1" not in mask else (1, 1)
    model = attention(inputs={"X": x, "mask": mask})
    fuse_attention(model, X=normal(*front, 8) * 25, mask=normal(*numbers, seed=3))


def test_values_of_another_size(fuse_attention, attention, normal):
    model = attention(
        given={
            "Wv": normal(8, 6, seed=3) * 20,
            "wide": np.array([0, 0, N, 3]),
            "thin": np.array([0, 0, 6]),
        },
        v4="Reshape (v3, wide)",
        Y="Reshape (turned, thin)",
        outputs={"Y": "float[batch,length,6]"},
    )
    fuse_attention(model)


MISSES = {
    "case 2, softmax over the queries": (
        {"p": "Softmax <axis = -2> (scores)"},
        "its Softmax is along axis -2, not along the keys",
    ),
    "case 2, softmax over the heads": (
        {"p": "Softmax <axis = 1> (scores)"},
        "its Softmax is along axis 1, not along the keys",
    ),
    "case 2, probabilities changed": (
        {"mixed": "d = Relu (p); MatMul (d, v)"},
        "'p', its probabilities, are not multiplied by values alone",
    ),
    "case 2, probabilities on the right": (
        {"mixed": "m = MatMul (raw, p); MatMul (m, v)"},
        "'p', its probabilities, are not multiplied by values alone",
    ),
    "case 2, NaN becomes another number": (
        {"mixed": "n = IsNaN (p); s = Where (n, half, p); MatMul (s, v)"},
        "'p', its probabilities, are not multiplied by values alone",
    ),
    "case 2, values scaled": (
        {"v": "t = Transpose <perm = [0, 2, 1, 3]> (v4); Mul (t, half)"},
        "its values are multiplied by a number",
    ),
    "case 4, keys of one head for all": (
        {"k3": "MatMul (X, Wone)", "k4": "Reshape (k3, one_head)"},
        "its queries are 2 heads of 4, its keys 1 of 4, its values 2",
    ),
    "case 4, keys of one sentence for all": (
        {"k3": "MatMul (S, Wk)"},
        "its queries are a batch of batch, its keys of 1, its values of batch",
    ),
    "case 4, a mask of more sentences than scores": (
        {"q3": "MatMul (S, Wq)", "k3": "MatMul (S, Wk)", "v3": "MatMul (S, Wv)"},
        "'mask', added to its scores, has batch for 1",
    ),
    "case 4, a mask of more axes than scores": (
        {"scores": "m = Unsqueeze (mask, at0); s = Add (scaled, m); Squeeze (s, at0)"},
        "'scores' is no product of queries and keys, scaled and masked",
    ),
    "case 4, a mask of unknown axes": (
        {"scores": "m = Reshape (mask, any); Add (scaled, m)"},
        "'m', added to its scores, is not known to have their axes",
    ),
    "case 4, queries never merged": (
        {"q3": None, "q4": None, "q": "Relu (past_q)"},
        "its queries were never [batch, length, heads x size]",
    ),
    "case 4, split without Transpose": (
        {
            "q4": "Reshape (q3, split3)",
            "q": "Identity (q4)",
            "turned": "Identity (mixed)",
        },
        "its queries were never [batch, length, heads x size]",
    ),
    "case 4, heads and size swapped": (
        {"q4": "Reshape (q3, swapped)", "q": "Transpose <perm = [0, 3, 1, 2]> (q4)"},
        "its queries were never [batch, length, heads x size]",
    ),
    "case 4, only keys changed after the split": (
        {"k": "r = Relu (k4); Transpose <perm = [0, 2, 3, 1]> (r)"},
        "its keys and values have different forms",
    ),
    "case 4, merged without Transpose": (
        {"turned": "Identity (mixed)"},
        "'turned' is not merged to [batch, length, heads x size]",
    ),
    "case 4, merged with heads and size swapped": (
        {"turned": "Transpose <perm = [0, 2, 3, 1]> (mixed)"},
        "'Y' is not merged to [batch, length, heads x size]",
    ),
    "case 4, merged with lengths first": (
        {"turned": "Transpose <perm = [2, 0, 1, 3]> (mixed)", "Y": "Reshape (turned, rows)"},
        "'Y' is not merged to [batch, length, heads x size]",
    ),
    "case 4, changed before it is merged": (
        {"Y": "t = Relu (turned); Reshape (t, merge)"},
        "'turned' is not merged to [batch, length, heads x size]",
    ),
    "case 4, an unknown number of heads": (
        {"q4": "Reshape (q3, any4)", "k4": "Reshape (k3, any4)", "v4": "Reshape (v3, any4)"},
        "'q' has no fixed number or size of heads",
    ),
    "case 4, no heads": (
        {
            **dict.fromkeys(("q4", "k4", "v4", "turned")),
            "q": "Identity (q3)",
            "k": "Transpose <perm = [0, 2, 1]> (k3)",
            "v": "Identity (v3)",
            "scores": "Identity (scaled)",
            "Y": "Identity (mixed)",
        },
        "'q' is not known to have four axes",
    ),
}
INPUTS = {
    "S": "float[1,length,8]",
    "past_q": "float[batch,2,length,4]",
    "any": "int64[rank]",
    "any4": "int64[4]",
}


@pytest.mark.parametrize("miss", MISSES)
def test_near_misses(missed, attention, normal, miss):
    changes, reason = MISSES[miss]
    given = {
        "Wone": normal(8, 4) * 20,
        "one_head": np.array([0, 0, 1, 4]),
        "split3": np.array([0, N, -1, D]),
        "swapped": np.array([0, 0, D, N]),
    }
    model = attention(given=given, inputs=INPUTS, **changes)
    assert missed(FuseAttention(), model) == [f"p: {reason}"]


SIZES = {"p": "length", "raw": "length", "mixed": "4"}


@pytest.mark.parametrize("read", SIZES)
def test_near_miss_5_an_output(missed, attention, read):
    model = attention(outputs={read: f"float[batch,2,length,{SIZES[read]}]"})
    reason = f"p: '{read}' inside it is also read by the graph's outputs"
    assert missed(FuseAttention(), model) == [reason]


@pytest.mark.parametrize("read", SIZES)
def test_near_miss_5_another_reader(missed, attention, read):
    model = attention(outputs={"Z": f"float[batch,2,length,{SIZES[read]}]"}, Z=f"Relu ({read})")
    assert missed(FuseAttention(), model) == [f"p: '{read}' inside it is also read by Relu"]


def test_near_miss_5_a_reader_inside_a_branch(missed, attention):
    branches = "then_branch = t () => (float[a,b,d,e] P) { P = Relu (p) }, "
    branches += "else_branch = f () => (float[a,b,d,e] P) { P = Neg (p) }"
    model = attention(outputs={"Z": "float[a,b,d,e]"}, Z=f"If (c) <{branches}>")
    (reason,) = missed(FuseAttention(), model)
    assert reason in (
        "p: 'p' inside it is also read by Relu",
        "p: 'p' inside it is also read by Neg",
    )


def test_other_readers_of_what_goes_in_or_comes_out_are_fine(fuse, attention, attention_feeds):
    model = attention(
        outputs={"Z": "float[batch,length,8]", "k4": "float[batch,length,2,4]"}, Z="Add (q3, Y)"
    )
    after = fuse(FuseAttention(), model, **attention_feeds(model))
    assert after.rewrites == 1


def test_near_miss_1_float16(missed, attention, attention_constants):
    half = {
        name: value.astype(np.float16)
        for name, value in attention_constants.items()
        if value.dtype == np.float32 and name != "lowest"
    }
    inputs = {"X": "float16[batch,length,8]", "mask": "float16[batch,1,1,length]"}
    model = attention(given=half, inputs=inputs, outputs={"Y": "float16[batch,length,8]"})
    assert missed(FuseAttention(), model) == ["p: 'q' is float16; the kernel takes float32 only"]


def test_near_miss_2_a_softmax_of_an_old_opset(missed, fuse_attention, attention):
    # before opset 13 a Softmax that names no axis is along the second and all after it
    model = attention(11, p="Softmax (scores)")
    assert missed(FuseAttention(), model) == ["p: its Softmax is along axis 1, not along the keys"]
    fuse_attention(attention(11))


ATTENTION = {"k": "Transpose <perm = [0, 2, 1, 3]> (k4)", **dict.fromkeys(("raw", "scaled", "p"))}


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (
            "Attention <softcap = 2.0> (q, k, v)",
            "it caps its scores, which MultiHeadAttention does not",
        ),
        ("Attention (q, k, v, , past_k, past_v)", "it holds a past or padded keys of its own"),
    ],
)
def test_near_miss_2_an_attention_of_opset_23(missed, attention, op, reason):
    model = attention(23, **ATTENTION, scores=None, mixed=op)
    assert missed(FuseAttention(), model) == [f"mixed: {reason}"]


def test_near_miss_2_an_attention_that_returns_its_scores(missed, attention):
    model = attention(23, **ATTENTION, scores=None, mixed="Attention (q, k, v)")
    (node,) = (node for node in model.graph.node if node.op_type == "Attention")
    node.output.extend(["", "", "raw"])
    assert missed(FuseAttention(), model) == ["mixed: it returns more than its result"]


def test_near_miss_2_an_attention_of_unequal_lengths_that_is_causal(missed, attention):
    model = attention(
        23,
        **ATTENTION,
        scores=None,
        k3="MatMul (E, Wk)",
        v3="MatMul (E, Wv)",
        mixed="Attention <is_causal = 1> (q, k, v)",
    )
    assert missed(FuseAttention(), model) == [
        "mixed: it is causal, and its numbers of queries and keys may differ"
    ]


def test_an_attention_that_splits_heads_itself_is_no_candidate(missed, attention):
    model = attention(
        23,
        **ATTENTION | dict.fromkeys(("q4", "k4", "v4", "q", "k", "v", "turned", "scores")),
        mixed="Attention <q_num_heads = 2, kv_num_heads = 2> (q3, k3, v3)",
        Y="Identity (mixed)",
    )
    assert missed(FuseAttention(), model) == []


def test_a_softmax_of_a_classifier_is_no_attention(missed, text_model):
    model = text_model("g (float[n,4] X) => (float[n,4] Y) { Y = Softmax <axis = -1> (X) }")
    assert missed(FuseAttention(), model) == []
