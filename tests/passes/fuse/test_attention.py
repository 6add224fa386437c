"""fuse-attention: exporters' ways to write attention become one op, with the same outputs."""

import numpy as np
import pytest

from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.fuse.attention import FuseAttention
from sardonyx.passes.gobo.encode import Gobo

B, S, T, N, D = 2, 3, 5, 2, 4
OP = "com.microsoft.MultiHeadAttention"
LOWEST = np.finfo(np.float32).min

PROJECTIONS = [
    ("MatMul", ["X", "Wq"], ["q3"], {}),
    ("MatMul", ["X", "Wk"], ["k3"], {}),
    ("MatMul", ["X", "Wv"], ["v3"], {}),
]


LENGTHS = [
    ("Shape", ["q3"], ["p/Queries:0"], {"start": 1, "end": 2}),
    ("Concat", ["p/Queries:0", "p/One"], ["p/Shape:0"], {"axis": 0}),
]


def attend(*operands, **attributes):
    return (OP, list(operands), ["Y"], {"num_heads": N} | attributes)


def test_eager(fuse, attention, attention_feeds, nodes_of):
    model = attention()
    after = fuse(FuseAttention(), model, **attention_feeds(model))
    assert nodes_of(after.model) == [
        *PROJECTIONS,
        *LENGTHS,
        ("Expand", ["mask", "p/Shape:0"], ["p/Expand:0"], {}),
        attend("q3", "k3", "v3", "", "", "p/Expand:0"),
    ]
    (done,) = after.journal.fused
    assert (done.by, done.op, done.replaced) == ("fuse-attention", "MultiHeadAttention", 13)
    assert after.journal.missed == []


def test_names_and_notes(apply, attention):
    before = attention()
    softmax = next(node for node in before.graph.node if node.op_type == "Softmax")
    softmax.name, softmax.doc_string = "layer/Softmax", "a line"
    softmax.metadata_props.add(key="note", value="kept")
    node = apply(FuseAttention(), before).model.graph.node[-1]
    assert (node.name, node.doc_string) == ("layer/Softmax/Attend", "a line")
    notes = {prop.key: prop.value for prop in node.metadata_props}
    assert notes == {"note": "kept", "sardonyx.pass": "fuse-attention"}


def test_without_a_mask(fuse_attention, attention, nodes_of):
    after = fuse_attention(attention(scores="Identity (scaled)"))
    assert nodes_of(after) == [*PROJECTIONS, attend("q3", "k3", "v3")]


BOTH = {"raw": "qs = Mul (q, quarter); ks = Mul (k, quarter); MatMul (qs, ks)"}
GUARD = {"mixed": "none = IsNaN (p); sure = Where (none, zero, p); MatMul (sure, v)"}


def test_sdpa_with_a_guard(fuse_attention, attention, nodes_of):
    model = attention(**BOTH, **GUARD, scaled="Identity (raw)")
    hidden = np.zeros((B, 1, 1, S), np.float32)
    hidden[1] = -np.inf
    after = fuse_attention(model, mask=hidden)
    assert nodes_of(after) == [
        *PROJECTIONS,
        *LENGTHS,
        ("Expand", ["mask", "p/Shape:0"], ["p/Expand:0"], {}),
        (OP, ["q3", "k3", "v3", "", "", "p/Expand:0"], ["p/Attend:0"], {"num_heads": N}),
        ("IsNaN", ["p/Attend:0"], ["p/Nobody:0"], {}),
        ("Where", ["p/Nobody:0", "p/Zero", "p/Attend:0"], ["Y"], {}),
    ]


def test_filled_scores(fuse_attention, attention, nodes_of):
    # DistilBERT
    after = fuse_attention(attention(scores="no = Not (keep); Where (no, lowest, scaled)"))
    assert nodes_of(after) == [
        *PROJECTIONS,
        ("Not", ["keep"], ["no"], {}),
        ("Where", ["no", "lowest", "p/Zero"], ["p/Mask:0"], {}),
        *LENGTHS,
        ("Expand", ["p/Mask:0", "p/Shape:0"], ["p/Expand:0"], {}),
        attend("q3", "k3", "v3", "", "", "p/Expand:0"),
    ]


def test_relative_positions_and_a_mask(fuse_attention, attention, nodes_of):
    # T5, which does not scale, and MPNet, which does
    model = attention(scaled="Identity (raw)", scores="a = Add (scaled, bias); Add (a, mask)")
    assert nodes_of(fuse_attention(model)) == [
        *PROJECTIONS,
        ("Add", ["bias", "mask"], ["p/Bias:0"], {}),
        attend("q3", "k3", "v3", "", "", "p/Bias:0", scale=1.0),
    ]


def test_a_bias_made_ahead(fuse_attention, attention, nodes_of):
    model = attention(scores="both = Add (bias, mask); Add (both, scaled)")
    assert nodes_of(fuse_attention(model))[-1] == attend("q3", "k3", "v3", "", "", "both")


CROSS = {"k3": "MatMul (E, Wk)", "v3": "MatMul (E, Wv)"}


def test_cross_attention(fuse_attention, attention, nodes_of):
    model = attention(**CROSS, inputs={"mask": "float[batch,1,1,other]"})
    mask = np.zeros((B, 1, 1, T), np.float32)
    mask[1, ..., 2:] = LOWEST
    after = fuse_attention(model, mask=mask)
    assert nodes_of(after)[-1] == attend("q3", "k3", "v3", "", "", "p/Expand:0")


def test_causal_by_a_mask(fuse_attention, attention, nodes_of):
    lines = "n = Shape <start = 1, end = 2> (X); s = Concat <axis = 0> (n, n); "
    lines += (
        "one = ConstantOfShape <value = float[1] {-1e9}> (s); m = Trilu <upper = 1> (one, next)"
    )
    model = attention(
        scores=f"{lines}; z = Unsqueeze (m, front); Add (scaled, z)",
        given={"next": np.array(1), "front": np.array([0, 1])},
    )
    assert nodes_of(fuse_attention(model))[-1] == attend("q3", "k3", "v3", "", "", "z")


PAST = {
    "k": "kt = Transpose <perm = [0, 2, 1, 3]> (k4); all_k = Concat <axis = 2> (past_k, kt); "
    "Transpose <perm = [0, 1, 3, 2]> (all_k)",
    "v": "vt = Transpose <perm = [0, 2, 1, 3]> (v4); Concat <axis = 2> (past_v, vt)",
}
PRESENT = {"all_k": "float[batch,2,all,4]", "v": "float[batch,2,all,4]"}


@pytest.mark.parametrize("outputs", [{}, PRESENT])
def test_keys_of_the_past(fuse, attention, attention_feeds, nodes_of, outputs):
    model = attention(**PAST, outputs=outputs, inputs={"mask": "float[batch,1,1,total]"})
    model.graph.input[1].type.tensor_type.shape.dim[3].dim_param = "past + length"
    assert {value.name for value in model.graph.input} == {"X", "mask", "past_k", "past_v"}
    mask = np.zeros((B, 1, 1, T + S), np.float32)
    mask[1, ..., :2] = LOWEST
    after = fuse(FuseAttention(), model, **attention_feeds(model, mask=mask))
    assert nodes_of(after.model) == [
        *PROJECTIONS,
        ("Reshape", ["k3", "split"], ["k4"], {}),
        ("Reshape", ["v3", "split"], ["v4"], {}),
        ("Transpose", ["k4"], ["kt"], {"perm": [0, 2, 1, 3]}),
        ("Concat", ["past_k", "kt"], ["all_k"], {"axis": 2}),
        ("Transpose", ["v4"], ["vt"], {"perm": [0, 2, 1, 3]}),
        ("Concat", ["past_v", "vt"], ["v"], {"axis": 2}),
        *LENGTHS,
        ("Expand", ["mask", "p/Shape:0"], ["p/Expand:0"], {}),
        attend("q3", "all_k", "v", "", "", "p/Expand:0"),
    ]


def test_split_keys_that_are_inputs(fuse_attention, attention, nodes_of):
    model = attention(
        k="Transpose <perm = [0, 1, 3, 2]> (past_k)",
        **dict.fromkeys(("k3", "k4", "v3", "v4", "v")),
        mixed="MatMul (p, past_v)",
        scores="Identity (scaled)",
    )
    assert nodes_of(fuse_attention(model)) == [
        PROJECTIONS[0],
        attend("q3", "past_k", "past_v"),
    ]


def test_new_keys_that_are_outputs(fuse, attention, attention_feeds, nodes_of):
    # the first step of a decoder: what it returns is read split, and nothing is split for it twice
    model = attention(
        k="kt = Transpose <perm = [0, 2, 1, 3]> (k4); Transpose <perm = [0, 1, 3, 2]> (kt)",
        outputs={"kt": "float[batch,2,length,4]", "v": "float[batch,2,length,4]"},
    )
    after = fuse(FuseAttention(), model, **attention_feeds(model))
    assert nodes_of(after.model)[-1] == attend("q3", "kt", "v", "", "", "p/Expand:0")


def test_rows(fuse_attention, attention, nodes_of):
    # GPT-2, whose projection is a Gemm
    model = attention(
        Y="m = Reshape (turned, rows); g = Gemm (m, Wv); n = Shape (X); Reshape (g, n)",
        scores="Identity (scaled)",
    )
    assert nodes_of(fuse_attention(model)) == [
        *PROJECTIONS,
        (OP, ["q3", "k3", "v3"], ["p/Attend:0"], {"num_heads": N}),
        ("Reshape", ["p/Attend:0", "p/Rows/Shape"], ["m"], {}),
        ("Gemm", ["m", "Wv"], ["g"], {}),
        ("Shape", ["X"], ["n"], {}),
        ("Reshape", ["g", "n"], ["Y"], {}),
    ]


def test_after_gobo(apply, attention, attention_feeds, run_ort, census):
    encoded = apply(Gobo(min_weights=1), attention()).model
    after = apply(FuseAttention(), encoded)
    assert after.rewrites == 1
    assert census(after.model)["GoboMatMul3"] == 3
    feeds = attention_feeds(encoded)
    want, have = (run_ort(model, feeds)[0] for model in (encoded, after.model))
    assert np.allclose(want, have, rtol=0, atol=FuseAttention.bound * np.abs(want).max())


def test_inside_branches_that_use_equal_names(
    apply, attention, attention_feeds, run_ort, text_model, attention_constants
):
    one = attention()
    other = attention(scaled="Mul (raw, quarter)", scores="Add (mask, scaled)")
    outer = text_model(
        """g (float[batch,length,8] X, float[batch,1,1,length] mask, bool c)
          => (float[batch,length,8] Z) {
          Z = If (c) <then_branch = t () => (float[batch,length,8] Y) { Y = Neg (X) },
                      else_branch = e () => (float[batch,length,8] Y) { Y = Neg (X) }>
        }""",
        **{t.name: attention_constants[t.name] for t in (*one.graph.initializer,)},
        quarter=attention_constants["quarter"],
    )
    for attribute, body in zip(outer.graph.node[0].attribute, (one, other), strict=True):
        del attribute.g.node[:]
        attribute.g.node.extend(body.graph.node)
    after = apply(FuseAttention(), outer)
    assert (after.rewrites, after.again) == (2, 0)
    for chosen in (True, False):
        feeds = attention_feeds(outer, c=np.array(chosen))
        want, have = (run_ort(model, feeds)[0] for model in (outer, after.model))
        assert np.allclose(want, have, rtol=0, atol=FuseAttention.bound * np.abs(want).max())


def test_what_is_left_is_used(apply, attention):
    after = apply(FuseAttention(), attention())
    assert apply(RemoveUnused(), after.model).rewrites == 0


def test_a_scale_of_0(missed, attention):
    model = attention(given={"root": np.float32(np.inf)})
    assert missed(FuseAttention(), model) == ["p: its scores are multiplied by 0"]


def test_a_scale_below_0_is_for_one_op_only(fuse_attention, attention, census):
    model = fuse_attention(attention(23, given={"root": np.float32(-2)}))
    assert census(model)["MultiHeadAttention"] == 1
