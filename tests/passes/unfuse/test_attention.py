"""unfuse-attention: the same outputs from three weights; what stays fused, and why."""

import itertools

import numpy as np
import pytest

from sardonyx.passes.gobo.encode import Gobo
from sardonyx.passes.roles import Place
from sardonyx.passes.unfuse.attention import UnfuseAttention

B, S, PAST, WIDTH, HEADS = 2, 3, 4, 16, 2

MASKS = {
    "no mask": ("", None),
    "lengths": ("int32[B] mask", np.array([3, 2])),
    "keys": ("int32[B,K] mask", np.array([[1, 1, 1, 0, 1, 1, 0], [1, 0, 1, 1, 1, 1, 1]])),
    "queries and keys": ("int32[B,S,K] mask", np.tri(S, PAST + S, PAST)[None].repeat(B, 0)),
}
OPTIONS = ("past", "bias", "unidirectional", "narrow")


@pytest.fixture(scope="module")
def weights(normal):
    """A packed weight and its bias, wide enough to tell keys from queries."""

    def make(columns):
        scale = np.float32(10)
        return {"W": scale * normal(WIDTH, columns), "bias": normal(columns, seed=1)}

    return make


def case(mask, options, normal):
    """The text of one Attention, its inputs, and how many columns its weight has."""
    past, keys = "past" in options, (PAST + S if "past" in options else S)
    declared, values = MASKS[mask]
    columns = [16, 16, 8 if "narrow" in options else 16]
    inputs = {"float[B,S,16] X": normal(B, S, WIDTH) * np.float32(25)}
    operands = ["X", "W", "bias", "", "", ""]
    if declared:
        operands[3] = "mask"
        inputs[declared] = values[..., :keys].astype(np.int32)
    if past:
        operands[4] = "past"
        inputs["float[2,B,2,P,8] past"] = normal(2, B, HEADS, PAST, 8, seed=2) * np.float32(25)
    if "bias" in options:
        operands[5] = "AB"
        inputs["float[B,2,S,K] AB"] = normal(B, HEADS, S, keys, seed=3) * np.float32(25)
    attrs = f"num_heads = 2, unidirectional = {int('unidirectional' in options)}"
    if "narrow" in options:
        attrs += f", qkv_hidden_sizes = {columns}"
    outputs = {"Y": f"float[B,S,{columns[2]}] Y"} | ({"N": "float[2,B,2,K,8] N"} if past else {})
    text = (
        f"g ({', '.join(inputs)}) => ({', '.join(outputs.values())}) {{ {', '.join(outputs)} = "
        f"com.microsoft.Attention <{attrs}> ({', '.join(operands).rstrip(', ')}) }}"
    )
    return text, {name.split()[-1]: value for name, value in inputs.items()}, sum(columns)


COMBINATIONS = [
    options
    for count in range(5)
    for options in itertools.combinations(OPTIONS, count)
    if "past" not in options or not {"narrow", "bias"} & set(options)  # onnxruntime refuses both
]


@pytest.mark.parametrize("options", COMBINATIONS, ids="-".join)
@pytest.mark.parametrize("mask", MASKS)
def test_every_form(unfuse, contrib, weights, normal, census, mask, options):
    text, feeds, columns = case(mask, options, normal)
    after = unfuse(UnfuseAttention(), contrib(text, **weights(columns)), feeds)
    past = {"Gather": 2, "Unsqueeze": 2, "Concat": 1} if "past" in options else {}
    assert census(after) == {"MatMul": 3, "MultiHeadAttention": 1} | past


SIMPLE = """g (float[B,S,16] X) => (float[B,S,16] Y) {
  Y = com.microsoft.Attention <num_heads = 2> (X, W, bias)
}"""


def test_names_notes_and_weights(unfuse, contrib, weights, normal):
    before = contrib(SIMPLE, **weights(48))
    before.graph.node[0].name = "attend"
    before.graph.node[0].doc_string = "a line"
    before.graph.node[0].metadata_props.add(key="note", value="kept")
    after = unfuse(UnfuseAttention(), before, {"X": normal(B, S, WIDTH)})
    names = ["attend/query", "attend/key", "attend/value", "attend/Attend"]
    assert [node.name for node in after.graph.node] == names
    attend = after.graph.node[-1]
    assert attend.doc_string == "a line"
    notes = {prop.key: prop.value for prop in attend.metadata_props}
    assert notes == {"note": "kept", "sardonyx.pass": "unfuse-attention"}
    notes = {prop.key: prop.value for prop in after.graph.node[0].metadata_props}
    assert notes == {"sardonyx.from": "W", "sardonyx.pass": "unfuse-attention"}
    held = {tensor.name: list(tensor.dims) for tensor in after.graph.initializer}
    thirds = {f"W.{part}": [16, 16] for part in ("query", "key", "value")}
    assert held == {**thirds, "bias": [48]}


@pytest.mark.parametrize("attribute", ["scale = 0.1", "mask_filter_value = -1.0"])
def test_attributes_that_change_the_result_are_kept(
    unfuse, contrib, weights, normal, run_ort, attribute
):
    text, feeds, columns = case("keys", ("unidirectional",), normal)
    plain = contrib(text, **weights(columns))
    other = contrib(text.replace("num_heads", f"{attribute}, num_heads"), **weights(columns))
    unfuse(UnfuseAttention(), other, feeds)
    assert not np.allclose(*(run_ort(model, feeds)[0] for model in (plain, other)), atol=1e-3)


def test_lengths_counted_from_a_mask(unfuse, contrib, weights, normal):
    before = contrib(
        """g (float[B,S,16] X, int32[N,S] mask) => (float[B,S,16] Y) {
             L = ReduceSum <keepdims = 0> (mask, one)
             Y = com.microsoft.Attention <num_heads = 2> (X, W, bias, L)
           }""",
        one=np.array([1]),
        **weights(48),
    )
    mask = np.array([[1, 1, 1], [1, 0, 0]], np.int32)
    unfuse(UnfuseAttention(), before, {"X": normal(B, S, WIDTH), "mask": mask})


def test_inside_a_branch(unfuse, contrib, weights, normal, run_ort):
    before = contrib(
        """g (float[B,S,16] X, bool c) => (float[B,S,16] Y) {
             Y = If (c) <
               then_branch = t () => (float[B,S,16] P) {
                 P = com.microsoft.Attention <num_heads = 2> (X, W, bias) },
               else_branch = e () => (float[B,S,16] Q) { Q = Neg (X) }>
           }""",
        **weights(48),
    )
    for chosen in (True, False):
        unfuse(UnfuseAttention(), before, {"X": normal(B, S, WIDTH), "c": np.array(chosen)})


def test_layers_that_share_a_weight_share_its_parts(apply, contrib, weights, normal, run_ort):
    before = contrib(
        """g (float[B,S,16] X) => (float[B,S,16] Y) {
             A = com.microsoft.Attention <num_heads = 2> (X, W, bias)
             Y = com.microsoft.Attention <num_heads = 2> (A, W, bias)
           }""",
        **weights(48),
    )
    parts = apply(UnfuseAttention(), before)
    assert parts.rewrites == 2
    feeds = {"X": normal(B, S, WIDTH)}
    want, have = (run_ort(model, feeds)[0] for model in (before, parts.model))
    assert np.allclose(want, have, rtol=0, atol=UnfuseAttention.bound * np.abs(want).max())
    done = apply(Gobo(min_weights=1), parts.model)
    entries = {entry.name: (len(entry.nodes), entry.place) for entry in done.journal.encoded}
    assert entries == {f"W.{r}": (2, Place(r, 0)) for r in ("query", "key", "value")}


def kept(apply, model):
    """How Gobo explains a weight whose Attention was left alone."""
    after = apply(UnfuseAttention(), model)
    assert after.rewrites == 0
    done = apply(Gobo(min_weights=1), model)
    assert done.journal.encoded == []
    return next(skip for skip in done.journal.skipped if skip.name == "W")


@pytest.mark.parametrize("attribute", ["do_rotary", "past_present_share_buffer"])
def test_near_miss_1_an_attribute(apply, contrib, weights, attribute):
    model = contrib(SIMPLE.replace("num_heads", f"{attribute} = 1, num_heads"), **weights(48))
    skip = kept(apply, model)
    assert skip.reason == f"inside Attention, which stays fused: it has {attribute}"
    assert skip.eligible


@pytest.mark.parametrize("attribute", ["do_rotary", "past_present_share_buffer"])
def test_an_attribute_that_is_off_is_no_near_miss(unfuse, contrib, weights, normal, attribute):
    model = contrib(SIMPLE.replace("num_heads", f"{attribute} = 0, num_heads"), **weights(48))
    unfuse(UnfuseAttention(), model, {"X": normal(B, S, WIDTH)})


def test_near_miss_1_without_bias(apply, contrib, weights):
    # nothing is run here: onnxruntime's kernel crashes on it
    skip = kept(apply, contrib(SIMPLE.replace(", bias", ""), W=weights(48)["W"]))
    assert skip.reason.endswith("it has no bias, on which onnxruntime's own kernel crashes")


def test_near_miss_2_a_weight_that_is_computed(apply, contrib, weights):
    text = SIMPLE.replace("X)", "X, float[16,48] V)").replace("Y =", "W = Neg (V)\n Y =")
    after = apply(UnfuseAttention(), contrib(text, bias=weights(48)["bias"]))
    assert after.rewrites == 0


@pytest.mark.parametrize("shape", ["B,1,M,M", "N", "6", "?", "B,1", "1,1"])
def test_near_miss_3_a_mask_of_another_form(apply, contrib, weights, shape):
    text = SIMPLE.replace("X)", f"X, int32[{shape}] mask)").replace("bias)", "bias, mask)")
    assert kept(apply, contrib(text, **weights(48))).reason == (
        "inside Attention, which stays fused: its mask has another form than lengths, "
        "[batch, keys] or [batch, queries, keys]"
    )


def test_near_miss_3_two_unknown_sizes_are_not_equal(apply, contrib, weights):
    text = SIMPLE.replace("float[B,S,16] X)", "float[?,S,16] X, int32[?] mask)")
    model = contrib(text.replace("bias)", "bias, mask)"), **weights(48))
    assert "its mask has another form" in kept(apply, model).reason


def test_near_miss_3_a_mask_of_unknown_rank(apply, contrib, weights):
    text = SIMPLE.replace("X)", "X, int32[B,S] M, int64[R] shape)")
    text = text.replace("Y =", "mask = Reshape (M, shape)\n Y =").replace("bias)", "bias, mask)")
    assert "its mask has another form" in kept(apply, contrib(text, **weights(48))).reason
