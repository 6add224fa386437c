"""Roles: what each weight is for, told from structure; here names say it too, to be compared."""

import copy
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from sardonyx.passes.roles import Place

WIDTH, INNER, TOKENS = 8, 16, 30
SHAPES = {
    "query_key_value": (WIDTH, 3 * WIDTH),
    "ffn_in": (WIDTH, INNER),
    "ffn_out": (INNER, WIDTH),
    "embedding": (TOKENS, WIDTH),
}
"""By role; all others are square. A weight is called ROLE__LAYER or ROLE__WORD."""

INPUTS = """float[1,T,8] X, float[1,S,8] M, float[1,1,1,K] mask, int64[1,T] ids,
            float[1,2,P,4] past_k, float[1,2,P,4] past_v, bool c"""

CONSTANTS = {
    "bias": np.float32(0.1),
    "low": np.float32(-1e9),
    "one": np.float32(1),
    "two": np.array([2.0], np.float32),
    "scale": np.ones(WIDTH, np.float32),
    "heads": np.array([0, 0, 2, 4]),
    "merged": np.array([0, 0, WIDTH]),
    "rows": np.array([-1, WIDTH]),
    "tokens": np.array([1, -1, WIDTH]),
    "packed": np.array([1, -1, 3 * WIDTH]),
    "first": np.array(0),
    "last": np.array([-1]),
}


def linear(out, x, weight):
    return f"{out}_product = MatMul ({x}, {weight})\n {out} = Add ({out}_product, bias)\n"


def heads(out, x, order="0, 2, 1, 3"):
    return f"{out}_4d = Reshape ({x}, heads)\n {out} = Transpose <perm = [{order}]> ({out}_4d)\n"


def softmax(out, scores):
    return f"{out} = Softmax <axis = -1> ({scores})\n"


def masked_softmax(out, scores):
    """As SDPA is exported: rows without any key give NaN, and then 0."""
    return f"""{out}_masked = Where (c, {scores}, low)
    {out}_raw = Softmax <axis = -1> ({out}_masked)
    {out}_bad = IsNaN ({out}_raw)
    {out} = Where ({out}_bad, bias, {out}_raw)
    """


def core(out, query, key, value, soft=softmax):
    """softmax(query key + mask) value, heads merged again; key is [batch, heads, size, keys]."""
    return f"""{out}_scores = MatMul ({query}, {key})
    {out}_masked = Add ({out}_scores, mask)
    {soft(f"{out}_soft", f"{out}_masked")}
    {out}_mixed = MatMul ({out}_soft, {value})
    {out}_turned = Transpose <perm = [0, 2, 1, 3]> ({out}_mixed)
    {out} = Reshape ({out}_turned, merged)
    """


def split_core(out, soft=softmax):
    """The same of query, key and value whose heads lie side by side."""
    return f"""{heads(f"{out}_q", f"{out}_query")}
    {heads(f"{out}_k", f"{out}_key", "0, 2, 3, 1")}
    {heads(f"{out}_v", f"{out}_value")}
    {core(f"{out}_context", f"{out}_q", f"{out}_k", f"{out}_v", soft)}
    """


def projections(out, x, memory, name):
    return "".join(
        linear(f"{out}_{part}", source, f"{part}__{name}")
        for part, source in (("query", x), ("key", memory), ("value", memory))
    )


def decomposed(out, x, name, memory=None, soft=softmax):
    """Multi-head attention in standard ops, with its output projection."""
    return f"""{projections(out, x, memory or x, name)}
    {split_core(out, soft)}
    {linear(out, f"{out}_context", f"attention_output__{name}")}
    """


def sdpa(out, x, name, memory=None):
    return decomposed(out, x, name, memory, masked_softmax)


def fused(op):
    """The same by one op of query, key and value."""

    def attention(out, x, name, memory=None):
        return f"""{projections(out, x, memory or x, name)}
        {out}_context = {op} ({out}_query, {out}_key, {out}_value)
        {linear(out, f"{out}_context", f"attention_output__{name}")}
        """

    return attention


def norm(out, x):
    return f"{out} = LayerNormalization ({x}, scale, scale)\n"


def norm_of_13(out, x):
    return f"""{out}_mean = ReduceMean <axes = [-1]> ({x})
    {out}_centred = Sub ({x}, {out}_mean)
    {out}_square = Pow ({out}_centred, two)
    {out}_variance = ReduceMean <axes = [-1]> ({out}_square)
    {out}_positive = Add ({out}_variance, bias)
    {out}_deviation = Sqrt ({out}_positive)
    {out}_normed = Div ({out}_centred, {out}_deviation)
    {out}_scaled = Mul ({out}_normed, scale)
    {out} = Add ({out}_scaled, scale)
    """


def rms_norm(out, x):
    return f"""{out}_square = Pow ({x}, two)
    {out}_mean = ReduceMean ({out}_square, last)
    {out}_positive = Add ({out}_mean, bias)
    {out}_root = Sqrt ({out}_positive)
    {out}_normed = Div ({x}, {out}_root)
    {out} = Mul ({out}_normed, scale)
    """


def gelu(out, x):
    return f"""{out}_erf = Erf ({x})
    {out}_plus = Add ({out}_erf, one)
    {out}_times = Mul ({x}, {out}_plus)
    {out} = Div ({out}_times, two)
    """


def plain_ffn(out, x, name):
    return (
        linear(f"{out}_in", x, f"ffn_in__{name}")
        + gelu(f"{out}_gelu", f"{out}_in")
        + linear(out, f"{out}_gelu", f"ffn_out__{name}")
    )


def gated_ffn(out, x, name):
    return f"""{linear(f"{out}_in", x, f"ffn_in__{name}_gate")}
    {gelu(f"{out}_gelu", f"{out}_in")}
    {linear(f"{out}_up", x, f"ffn_in__{name}_up")}
    {out}_gated = Mul ({out}_gelu, {out}_up)
    {linear(out, f"{out}_gated", f"ffn_out__{name}")}
    """


def experts(out, x, name):
    """Two networks side by side."""
    both = (plain_ffn(f"{out}_{i}", x, f"{name}_{i}") for i in "ab")
    return "".join(both) + f"{out} = Add ({out}_a, {out}_b)\n"


def post_norm(out, x, name, attention=decomposed, norm=norm, tag=None):
    """A BERT layer. ``tag``: names its tensors where ``name``, of its weights, comes twice."""
    p = f"L{name if tag is None else tag}"
    return f"""{attention(f"{p}_attention", x, name)}
    {p}_sum = Add ({p}_attention, {x})
    {norm(f"{p}_norm", f"{p}_sum")}
    {plain_ffn(f"{p}_ffn", f"{p}_norm", name)}
    {p}_all = Add ({p}_ffn, {p}_norm)
    {norm(out, f"{p}_all")}
    """


def pre_norm(out, x, name, attention=decomposed, norm=norm, ffn=plain_ffn, memory=None):
    """A GPT or T5 layer; with ``memory``, of a decoder that attends to it too."""
    p, crossed = f"L{name}", f"L{name}_sum"
    text = f"""{norm(f"{p}_normed", x)}
    {attention(f"{p}_attention", f"{p}_normed", name)}
    {p}_sum = Add ({p}_attention, {x})
    """
    if memory:
        crossed = f"{p}_crossed"
        text += f"""{norm(f"{p}_asking", f"{p}_sum")}
        {attention(f"{p}_cross", f"{p}_asking", f"{name}_cross", memory)}
        {crossed} = Add ({p}_cross, {p}_sum)
        """
    return f"""{text}
    {norm(f"{p}_again", crossed)}
    {ffn(f"{p}_ffn", f"{p}_again", name)}
    {out} = Add ({p}_ffn, {crossed})
    """


def packed_gemms(out, x, name):
    """GPT-2's attention: rows, one Gemm for query, key and value, Split."""
    return f"""{out}_rows = Reshape ({x}, rows)
    {out}_gemm = Gemm ({out}_rows, query_key_value__{name}, bias)
    {out}_packed = Reshape ({out}_gemm, packed)
    {out}_query, {out}_key, {out}_value = Split <axis = 2> ({out}_packed)
    {split_core(out)}
    {out}_context_rows = Reshape ({out}_context, rows)
    {out}_out = Gemm ({out}_context_rows, attention_output__{name}, bias)
    {out} = Reshape ({out}_out, tokens)
    """


def cached(out, x, name):
    """Keys and values of the past ahead of the new ones."""
    return f"""{projections(out, x, x, name)}
    {heads(f"{out}_q", f"{out}_query")}
    {heads(f"{out}_new_k", f"{out}_key")}
    {heads(f"{out}_new_v", f"{out}_value")}
    {out}_all_k = Concat <axis = 2> (past_k, {out}_new_k)
    {out}_v = Concat <axis = 2> (past_v, {out}_new_v)
    {out}_k = Transpose <perm = [0, 1, 3, 2]> ({out}_all_k)
    {core(f"{out}_context", f"{out}_q", f"{out}_k", f"{out}_v")}
    {linear(out, f"{out}_context", f"attention_output__{name}")}
    """


def remembered(out, x, name):
    """All keys and values come from a cache."""
    return f"""{linear(f"{out}_query", x, f"query__{name}")}
    {heads(f"{out}_q", f"{out}_query")}
    {out}_k = Transpose <perm = [0, 1, 3, 2]> (past_k)
    {core(f"{out}_context", f"{out}_q", f"{out}_k", "past_v")}
    {linear(out, f"{out}_context", f"attention_output__{name}")}
    """


def two_layers(layer, **parts):
    return layer("A", "X", "0", **parts) + layer("Y", "A", "1", **parts)


EMBEDDED = """words = Gather (embedding__words, ids)
places = Gather (embedding__places, ids)
E = Add (words, places)
"""
HEAD = """cls = Gather <axis = 1> (A, first)
pooled = Gemm <transB = 1> (cls, head__pooler)
active = Tanh (pooled)
Y = Gemm (active, head__classifier, bias)
"""
PROJECTED = linear("P", "E", "other__projection")
TIED = "table = Transpose <perm = [1, 0]> (embedding__words)\n Y = MatMul (A, table)\n"

STANDARD = "Attention <q_num_heads = 2, kv_num_heads = 2>"
CONTRIB = "com.microsoft.MultiHeadAttention <num_heads = 2>"

MODELS = {
    "post-norm": (two_layers(post_norm), 17),
    "post-norm, decomposed norm": (two_layers(post_norm, norm=norm_of_13), 13),
    "experts": (two_layers(pre_norm, ffn=experts), 17),
    "T5": (two_layers(pre_norm, norm=rms_norm, ffn=gated_ffn), 18),
    "decoder": (two_layers(pre_norm, memory="M"), 17),
    "Attention": (two_layers(pre_norm, attention=fused(STANDARD), memory="M"), 23),
    "MultiHeadAttention": (two_layers(post_norm, attention=fused(CONTRIB)), 17),
    "SDPA": (two_layers(pre_norm, attention=sdpa), 17),
    "GPT-2": (EMBEDDED + pre_norm("A", "E", "0", attention=packed_gemms) + TIED, 13),
    "keys of the past": (two_layers(pre_norm, attention=cached), 17),
    "keys of the past only": (two_layers(pre_norm, attention=remembered), 17),
    "embeddings and head": (EMBEDDED + post_norm("A", "E", "0") + HEAD, 17),
    "projected embeddings": (EMBEDDED + PROJECTED + post_norm("Y", "P", "0"), 17),
    "shared layers": (post_norm("A", "X", "0") + post_norm("Y", "A", "0", tag="again"), 17),
}


@pytest.fixture(scope="module")
def model(text_model):
    """A model from the text of its nodes, with the weights that their names ask for."""

    def make(text, opset=17):
        words = set(re.findall(r"\w+", text))
        weights = sorted(word for word in words if "__" in word)
        held = {name: SHAPES.get(name.split("__")[0], (WIDTH, WIDTH)) for name in weights}
        constants = {name: value for name, value in CONSTANTS.items() if name in words}
        held = {name: np.ones(shape, np.float32) for name, shape in held.items()}
        text = f"g ({INPUTS}) => (float[I,J,K] Y) {{ {text} }}"
        made = text_model(text, opset, **constants, **held)
        made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return made

    return make


def truth(name):
    """The place that a weight's name tells."""
    role, _, rest = name.partition("__")
    return Place(role, int(rest[0]) if rest[0].isdigit() else None)


@pytest.mark.parametrize("name", MODELS)
def test_roles(model, places, name):
    made = model(*MODELS[name])
    weights = [tensor.name for tensor in made.graph.initializer if "__" in tensor.name]
    assert places(made) == {weight: truth(weight) for weight in weights}


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=3)
@given(random=st.randoms(use_true_random=False))
def test_names_do_not_matter(model, places, name, random):
    """Weights, tensors and nodes take each other's names."""
    plain = model(*MODELS[name])
    mixed, renamed = _renamed(plain, random)
    want, have = places(plain), places(mixed)
    assert have == {renamed[weight]: place for weight, place in want.items()}


def _renamed(model, random):
    made = copy.deepcopy(model)
    graph = made.graph
    names = [t.name for t in (*graph.initializer, *graph.input)]
    names += [output for node in graph.node for output in node.output]
    renamed = dict(zip(names, random.sample(names, len(names)), strict=True))
    for value in (*graph.initializer, *graph.input, *graph.output):
        value.name = renamed[value.name]
    for node, name in zip(graph.node, random.sample(names, len(graph.node)), strict=True):
        node.name = name
        node.input[:] = [renamed[read] for read in node.input]
        node.output[:] = [renamed[made] for made in node.output]
    return made, renamed


NEAR_MISSES = {
    "a softmax of one linear": """
        G = MatMul (X, other__gate)
        P = Softmax (G)
        V = MatMul (X, other__expert)
        Y = MatMul (P, V)
        """,
    "a softmax whose product nobody mixes": """
        Q = MatMul (X, other__a)
        K = MatMul (X, other__b)
        T = Transpose <perm = [0, 2, 1]> (K)
        S = MatMul (Q, T)
        Y = Softmax (S)
        """,
    "a softmax that is multiplied by a weight": """
        Q = MatMul (X, other__a)
        T = Transpose <perm = [0, 2, 1]> (X)
        S = MatMul (Q, T)
        P = Softmax (S)
        Y = MatMul (P, other__b)
        """,
    "two linears without a residual": """
        A = MatMul (X, other__a)
        B = MatMul (A, other__b)
        Y = Add (B, bias)
        """,
    "two linears, then a product with what came in": """
        A = MatMul (X, other__a)
        C = MatMul (A, other__b)
        Y = Mul (C, X)
        """,
    "the sum inside a gelu": f"""
        A = MatMul (X, other__a)
        B = MatMul (A, other__b)
        {gelu("Y", "B")}
        """,
    "a pair to another width": """
        A = MatMul (X, other__a)
        B = MatMul (A, ffn_in__wide)
        R = Concat <axis = 2> (X, X)
        Y = Add (B, R)
        """,
    "one linear in a residual sum": "A = MatMul (X, other__a)\n Y = Add (A, X)",
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_miss(model, places, name):
    found = places(model(NEAR_MISSES[name]))
    assert found
    assert set(found.values()) <= {Place("other"), Place("head")}


def test_layers_in_both_bodies_of_an_if(model, places):
    bodies = {
        "then_branch": pre_norm("B", "X", "0", cached) + "T = MatMul (B, head__lm)",
        "else_branch": pre_norm("B", "X", "0", decomposed) + "E = MatMul (B, head__lm)",
    }
    bodies["else_branch"] = re.sub(r"\b(L0|B)(?=_|\b)", r"Other\1", bodies["else_branch"])
    branches = [
        f"{name} = {name} () => (float[A,B,C] {name[0].upper()}) {{ {text} }}"
        for name, text in bodies.items()
    ]
    found = places(model(f"Y = If (c) <{', '.join(branches)}>"))
    assert found == {name: truth(name) for name in found}
    assert len(found) == 7
