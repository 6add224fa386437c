"""unfuse-multi-head-attention: the same outputs from standard ops; what stays fused, and why."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sardonyx.passes.unfuse.multi_head_attention import UnfuseMultiHeadAttention

B, S, T, PAST, WIDTH, HEADS, SIZE = 2, 3, 5, 4, 16, 2, 8
PASS = UnfuseMultiHeadAttention()

BOUND = 2e-6
"""Relative to the largest output: sums of tens of products in another order."""

KEYS = {
    "as many": ("float[B,S,16] K, float[B,S,16] V", (B, S, WIDTH), (B, S, WIDTH)),
    "others": ("float[B,T,16] K, float[B,T,16] V", (B, T, WIDTH), (B, T, WIDTH)),
    "narrow values": ("float[B,T,16] K, float[B,T,8] V", (B, T, WIDTH), (B, T, SIZE)),
    "in heads": ("float[B,2,T,8] K, float[B,2,T,8] V", (B, 2, T, SIZE), (B, 2, T, SIZE)),
}
"""Declarations and shapes of key and value; queries are [B, S, 16]."""

MASKS = {
    "none": ("", lambda keys: None),
    "lengths": ("int32[B] M", lambda keys: np.array([keys, 2])),
    "keys": ("int32[B,U] M", lambda keys: 1 - np.outer([1, 2], np.arange(keys)) % 3),
    "queries and keys": ("int32[B,S,U] M", lambda keys: np.tri(S, keys, 1)[None].repeat(B, 0)),
}
"""Declaration and values of a mask, some of which are below 0; each query has a key."""

BIASES = {"none": "", "constant": "constant", "computed": "float[A] bias"}

FORMS = st.fixed_dictionaries(
    {
        "keys": st.sampled_from(list(KEYS)),
        "mask": st.sampled_from(list(MASKS)),
        "bias": st.sampled_from(list(BIASES)),
        "attention_bias": st.sampled_from([None, (B, HEADS), (1, HEADS), (B, 1)]),
        "past": st.booleans(),
        "present": st.booleans(),
        "attrs": st.sampled_from(["", ", scale = 0.7", ", mask_filter_value = -2.0"]),
        "unidirectional": st.integers(0, 1),
    }
).filter(lambda form: not form["past"] or (form["present"] and form["keys"] != "narrow values"))
"""onnxruntime's kernel wants presents with a past, and a past as wide as the keys."""

PLAIN = {
    "keys": "others",
    "mask": "none",
    "bias": "none",
    "attention_bias": None,
    "past": False,
    "present": False,
    "attrs": "",
    "unidirectional": 0,
}


def inputs_of(form, normal):
    """Declarations and values of all inputs; where the mask, the biases and the past are."""
    declared, key, value = KEYS[form["keys"]]
    keys = key[-2] + (PAST if form["past"] else 0)
    length = 2 * WIDTH + (SIZE if form["keys"] == "narrow values" else WIDTH)
    scale = np.float32(25)
    feeds = {"Q": normal(B, S, WIDTH), "K": normal(*key, seed=1), "V": normal(*value, seed=2)}
    feeds = {name: scale * values for name, values in feeds.items()}
    declared = ["float[B,S,16] Q", declared]
    slots = ["bias" if form["bias"] != "none" else "", "", "", "", ""]
    bias = scale * normal(length, seed=3)
    if form["bias"] == "computed":
        declared.append(BIASES["computed"])
        feeds["bias"] = bias
    if form["mask"] != "none":
        slots[1] = "M"
        declared.append(MASKS[form["mask"]][0])
        feeds["M"] = MASKS[form["mask"]][1](keys).astype(np.int32)
    if form["attention_bias"]:
        slots[2] = "AB"
        declared.append(f"float[{','.join(map(str, form['attention_bias']))},S,U] AB")
        feeds["AB"] = scale * normal(*form["attention_bias"], S, keys, seed=4)
    if form["past"]:
        slots[3:] = ["PK", "PV"]
        declared.append("float[B,2,P,8] PK, float[B,2,P,8] PV")
        feeds |= {n: scale * normal(B, 2, PAST, SIZE, seed=5 + len(n)) for n in ("PK", "PV")}
    return declared, slots, feeds, {"bias": bias} if form["bias"] == "constant" else {}


def case(contrib, normal, **changes):
    """A model of one MultiHeadAttention, and its inputs."""
    form = PLAIN | changes
    declared, slots, feeds, constants = inputs_of(form, normal)
    width = SIZE if form["keys"] == "narrow values" else WIDTH
    outputs, results = [f"float[B,S,{width}] Y"], ["Y"]
    if form["present"]:
        outputs += ["float[B,2,U,8] NK", f"float[B,2,U,{width // HEADS}] NV"]
        results += ["NK", "NV"]
    attrs = f"num_heads = 2, unidirectional = {form['unidirectional']}{form['attrs']}"
    operands = ", ".join(["Q", "K", "V", *slots]).rstrip(", ")
    text = (
        f"g ({', '.join(declared)}) => ({', '.join(outputs)}) {{ {', '.join(results)} = "
        f"com.microsoft.MultiHeadAttention <{attrs}> ({operands}) }}"
    )
    return contrib(text, **constants), feeds


def is_standard(model):
    return all(node.domain == "" for node in model.graph.node)


@given(FORMS)
@settings(max_examples=200)
def test_every_form(unfuse, contrib, normal, form):
    assert is_standard(unfuse(PASS, *case(contrib, normal, **form), BOUND))


@pytest.mark.parametrize(
    ("keys", "past"), [*((keys, False) for keys in KEYS), ("as many", True), ("others", True)]
)
def test_causality(unfuse, contrib, normal, keys, past):
    form = {"keys": keys, "past": past, "present": past, "unidirectional": 1}
    after = unfuse(PASS, *case(contrib, normal, **form), BOUND)
    assert sum(node.op_type == "Range" for node in after.graph.node) == 2


@pytest.mark.parametrize("filtered", [-2.0, -3.4028234663852886e38])
@pytest.mark.parametrize("mask", ["lengths", "keys", "queries and keys"])
def test_the_value_of_what_is_masked(unfuse, contrib, normal, mask, filtered):
    attrs = f", mask_filter_value = {filtered}"
    unfuse(PASS, *case(contrib, normal, mask=mask, attrs=attrs, attention_bias=(B, 1)), BOUND)


def test_a_query_without_any_key(unfuse, contrib, normal):
    for mask in ("lengths", "keys", "queries and keys"):
        model, feeds = case(contrib, normal, mask=mask, unidirectional=1)
        unfuse(PASS, model, feeds | {"M": np.zeros_like(feeds["M"])})


def test_text(unfuse, contrib, normal):
    """Names, notes, and no size of a batch or sequence."""
    model, feeds = case(contrib, normal, bias="constant", mask="keys")
    model.graph.node[0].name = "attend"
    model.graph.node[0].doc_string = "a line"
    after = unfuse(PASS, model, feeds)
    written = [f"{n.op_type} {n.name.removeprefix('attend/')}" for n in after.graph.node]
    steps = ("Add {}_biased", "Reshape {}_split", "Transpose {}")
    assert written == [
        *(step.format(part) for part in ("query", "key", "value") for step in steps),
        "Transpose key_turned",
        "MatMul scores",
        "Mul scaled",
        "Unsqueeze mask_held",
        "Greater counts",
        "Where mask",
        "Add shifted",
        "Softmax shares",
        "MatMul context",
        "Transpose context_merged",
        "Reshape output",
    ]
    sizes = {t.name: onnx_values(t) for t in after.graph.initializer if t.name.endswith("/sizes")}
    assert sizes == {
        "attend/query/sizes": [0, 0, 2, 8],
        "attend/key/sizes": [0, 0, 2, 8],
        "attend/value/sizes": [0, 0, 2, 8],
        "attend/output/sizes": [0, 0, 16],
    }
    held = {t.name: list(t.dims) for t in after.graph.initializer if t.name.startswith("bias")}
    assert held == {f"bias.{part}": [16] for part in ("query", "key", "value")}
    last = after.graph.node[-1]
    assert last.doc_string == "a line"
    notes = [{prop.key: prop.value for prop in node.metadata_props} for node in after.graph.node]
    assert notes == [{"sardonyx.pass": PASS.name}] * len(notes)


def onnx_values(tensor):
    return np.frombuffer(tensor.raw_data, np.int64).tolist()


@pytest.mark.parametrize("sizes", [(1, 1), (3, 7), (2, 0), (0, 3)])
def test_other_sizes_of_batch_and_sequence(apply, contrib, normal, run_ort, sizes):
    model, _ = case(contrib, normal, keys="as many", bias="constant", unidirectional=1)
    after = apply(PASS, model).model
    feeds = {name: normal(*sizes, WIDTH, seed=i) for i, name in enumerate("QKV")}
    (have,) = run_ort(after, feeds)
    assert have.shape == (*sizes, WIDTH)
    if have.size:
        (want,) = run_ort(model, feeds)
        assert np.allclose(have, want, rtol=0, atol=PASS.bound * np.abs(want).max())


def test_half_precision(apply, contrib, normal, run_ort):
    text = """g (float16[B,S,16] Q, int32[B,S] M) => (float16[B,S,16] Y) {
      Y = com.microsoft.MultiHeadAttention <num_heads = 2, mask_filter_value = -3e38> (Q, Q, Q, , M)
    }"""
    model = contrib(text)
    after = apply(PASS, model)
    feeds = {"Q": normal(B, S, WIDTH, dtype=np.float16), "M": np.array([[1, 0, 1], [1, 1, 0]])}
    feeds["M"] = feeds["M"].astype(np.int32)
    (want,), (have,) = (run_ort(m, feeds) for m in (model, after.model))
    assert (after.rewrites, have.dtype) == (1, np.float16)
    assert np.abs(want - have).max() <= 2e-3 * np.abs(want).max()  # float16 rounds to 1e-3


def test_inside_a_branch(unfuse, contrib, normal):
    model = contrib(
        """g (float[B,S,16] X, bool c) => (float[B,S,16] Y) {
             Y = If (c) <
               then_branch = t () => (float[B,S,16] P) {
                 P = com.microsoft.MultiHeadAttention <num_heads = 2> (X, X, X, bias) },
               else_branch = e () => (float[B,S,16] Q) { Q = Neg (X) }>
           }""",
        bias=normal(3 * WIDTH),
    )
    for chosen in (True, False):
        unfuse(PASS, model, {"X": normal(B, S, WIDTH), "c": np.array(chosen)})


X = "float[B,S,16] X"

NEAR_MISSES = {
    "1 all packed": ("float[B,S,2,3,8] X", "(X)", "query, key and value are packed in one tensor"),
    "1 keys and values packed": (
        f"{X}, float[B,S,2,2,8] K",
        "(X, K)",
        "query, key and value are packed in one tensor",
    ),
    "2 a buffer": (
        f"{X}, float[B,2,P,8] p, int32[1] n",
        "(X, X, X, , , , p, p, n)",
        "it keeps the past in a buffer",
    ),
    "2 no presents": (
        f"{X}, float[B,2,P,8] p",
        "(X, X, X, , , , p, p)",
        "it has a past and not both presents, on which onnxruntime's own kernel is wrong",
    ),
    "4 no width": (
        "float[B,S,N] X",
        "(X, X, X)",
        "how wide its query, key and value are is not known",
    ),
    "4 no rank of the keys": (
        f"{X}, int64[R] shape",
        "(X, R, R)",
        "how wide its query, key and value are is not known",
    ),
    "5 lengths and starts": (
        f"{X}, int32[N] M",
        "(X, X, X, , M)",
        "its mask has another form than lengths, [batch, keys] or [batch, queries, keys]",
    ),
    "6 a bias of unknown rank": (
        f"{X}, int64[R] shape",
        "(X, X, X, R)",
        "its bias is not known to be a vector",
    ),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses(apply, contrib, kept, name):
    declared, operands, reason = NEAR_MISSES[name]
    made = "R = Reshape (X, shape)\n" if "shape" in declared else ""
    text = (
        f"g ({declared}) => (float[B,S,16] Y) {{ {made}"
        f"Y = com.microsoft.MultiHeadAttention <num_heads = 2> {operands} }}"
    )
    assert kept(PASS, contrib(text)) == reason


def test_near_miss_3_scores_that_are_read(kept, contrib):
    text = f"""g ({X}) => (float[B,S,16] Y, float[B,2,S,S] Z) {{
      Y, , , Z = com.microsoft.MultiHeadAttention <num_heads = 2> (X, X, X) }}"""
    assert kept(PASS, contrib(text)) == "its scores are read"


def test_one_present_alone_is_no_near_miss(unfuse, contrib, normal):
    text = f"""g ({X}) => (float[B,S,16] Y, float[B,2,S,8] N) {{
      Y, , N = com.microsoft.MultiHeadAttention <num_heads = 2> (X, X, X) }}"""
    unfuse(PASS, contrib(text), {"X": normal(B, S, WIDTH)})


def test_lengths_of_a_batch_that_has_a_name(unfuse, contrib, normal):
    model, feeds = case(contrib, normal, mask="lengths")
    assert is_standard(unfuse(PASS, model, feeds))


def test_below_opset_13_nothing_is_taken_apart(apply, contrib):
    text = f"""g ({X}) => (float[B,S,16] Y) {{
      Y = com.microsoft.MultiHeadAttention <num_heads = 2> (X, X, X) }}"""
    assert apply(PASS, contrib(text, opset=12)).rewrites == 0
