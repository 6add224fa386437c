"""Sites: BERT-base's 161, and what makes one or none, case by case."""

import re
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sardonyx.compiler.load import load
from sardonyx.models import EncoderConfig, seeded_bert
from sardonyx.passes.activation_sites import activation_sites
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import annotate

BASE = EncoderConfig(vocab_size=20, hidden=8, layers=12, heads=2, intermediate=16, max_positions=12)

LAYER = (
    *("query", "key", "value", "scores", "probabilities", "context", "attention_output"),
    *("sum", "norm", "activation", "ffn_out", "sum", "norm"),
)


def graph_of(model):
    graph = load(model)[1]
    LiftConstants().run(graph, Journal())
    return graph


def classifier(opset):
    """BERT-base in small: 12 layers, pooler, and a classifier behind it."""
    model = seeded_bert(BASE, 0, pooler=True, opset=opset)
    weight = np.ones((8, 3), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "classifier"))
    model.graph.node.append(helper.make_node("MatMul", ["pooler_output", "classifier"], ["logits"]))
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 3])
    del model.graph.output[:]
    model.graph.output.append(logits)
    return model


@pytest.mark.parametrize("opset", [13, 17])
def test_bert_base_has_161(opset):
    """At opset 13 LayerNormalization is written out."""
    sites = activation_sites(graph_of(classifier(opset)))
    kinds = Counter(site.kind for site in sites)
    assert len(sites) == 161
    assert kinds["x"] + kinds["h"] + kinds["y"] == 36
    assert kinds["g"] == 12
    for layer in range(12):
        assert Counter(s.role for s in sites if s.layer == layer) == Counter(LAYER)
    outside = [(site.role, site.kind) for site in sites if site.layer is None]
    assert outside == [
        ("sum", "r"),
        ("sum", "r"),
        ("norm", ""),
        ("activation", ""),
        ("head", ""),
    ]


CONSTANTS = {
    "W": np.ones((8, 8), np.float32),
    "W_3": np.ones((3, 8), np.float32),
    "W_5": np.ones((5, 8), np.float32),
    "W_to_3": np.ones((8, 3), np.float32),
    "b": np.ones(8, np.float32),
    "table": np.ones((20, 8), np.float32),
    "half": np.float32(0.5),
    "one": np.float32(1),
    "two": np.float32(2),
    "three": np.float32(3),
    "cubic": np.float32(0.044715),
    "pi": np.float32((2 / np.pi) ** 0.5),
    "root": np.float32(2**0.5),
    "eps": np.float32(1e-5),
    "first": np.array(0),
    "last": np.array([-1]),
    "count": np.array([5]),
    "start": np.array([0]),
    "halves": np.array([3, 5]),
}

GELU = """scaled = Div (a, root)
    erf = Erf (scaled)
    plus = Add (erf, one)
    product = Mul (a, plus)
    r = Mul (product, half)
    """
TANH_GELU = """cube = Pow (a, three)
    small = Mul (cube, cubic)
    sum = Add (a, small)
    scaled = Mul (sum, pi)
    tanh = Tanh (scaled)
    plus = Add (tanh, one)
    product = Mul (a, plus)
    r = Mul (product, half)
    """
NORM = """mean = ReduceMean (X, last)
    dev = Sub (X, mean)
    square = Mul (dev, dev)
    variance = ReduceMean (square, last)
    raised = Add (variance, eps)
    std = Sqrt (raised)
    normal = Div (dev, std)
    scaled = Mul (normal, b)
    r = Add (scaled, b)
    """
RMS_NORM = """square = Pow (X, two)
    mean = ReduceMean (square, last)
    raised = Add (mean, eps)
    root_mean = Sqrt (raised)
    inverse = Div (one, root_mean)
    normal = Mul (X, inverse)
    r = Mul (b, normal)
    """
LINEAR = "p = MatMul (X, W)\n a = Add (p, b)\n"

CASES = {
    "a product by a weight": ("r = MatMul (X, W)", ["r other"]),
    "its bias": ("p = MatMul (X, W)\n r = Add (b, p)", ["r other"]),
    "its bias after a move": (
        "p = MatMul (X, W)\n m = Unsqueeze (p, start)\n r = Add (m, b)",
        ["r other"],
    ),
    "a Gemm": ("m = Squeeze (X, start)\n r = Gemm (m, W, b)", ["r other"]),
    "a function behind a product": (f"{LINEAR} r = Relu (a)", ["r activation"]),
    "GELU behind a product": (LINEAR + GELU, ["r activation"]),
    "GELU by tanh": (LINEAR + TANH_GELU, ["r activation"]),
    "SiLU": (f"{LINEAR} s = Sigmoid (a)\n r = Mul (a, s)", ["r activation"]),
    "a function that is not alone": (
        f"{LINEAR} f = Relu (a)\n r = Add (f, a)",
        ["a other", "f activation", "r sum"],
    ),
    "a transposition by Einsum": ('r = Einsum <equation = "abc->acb"> (X)', []),
    "a gate": (
        "p = MatMul (X, W)\n f = Relu (p)\n q = MatMul (X, W)\n r = Mul (f, q)",
        ["f activation", "q other", "r gate"],
    ),
    "a square": ("p = MatMul (X, W)\n r = Mul (p, p)", ["p other"]),
    "a product with a mask": ("m = Cast <to = 1> (mask)\n r = Mul (X, m)", []),
    "a scaling": ("p = MatMul (X, W)\n r = Mul (p, half)", ["p other"]),
    "a normalization": (NORM, ["r norm"]),
    "a normalization without mean": (RMS_NORM, ["r norm"]),
    "a normalization by an op": ("r = LayerNormalization (X, b)", ["r norm"]),
    "lookups": ("r = Gather (table, ids)", []),
    "a sum of lookups": (
        "w = Gather (table, ids)\n p = Slice (table, start, count)\n r = Add (w, p)",
        ["r sum"],
    ),
    "a sum with rows of a constant": ("r = Add (X, table)", ["r sum"]),
    "a sum with a vector": ("r = Add (X, b)", []),
    "a residual": ("p = MatMul (X, W)\n r = Add (p, X)", ["p other", "r sum"]),
    "moves": ("m = Transpose <perm = [0, 2, 1]> (X)\n r = Concat <axis = 2> (m, m)", []),
    "means over tokens": ("r = ReduceMean (X, last)", []),
}


@pytest.fixture(scope="module")
def sites_of(text_model):
    """The sites of a graph from the text of nodes that make r, with the constants it names."""

    def make(text, **notes):
        words = set(re.findall(r"\w+", text))
        held = {name: value for name, value in CONSTANTS.items() if name in words}
        inputs = "float[1,T,8] X, int64[1,T] ids, bool[1,T,1] mask"
        model = text_model(f"g ({inputs}) => (float[I,J,K] r) {{ {text} }}", 18, **held)
        graph = graph_of(model)
        for node in graph.nodes:
            annotate(node, **notes.get(node.outputs[0].name, {}))
        return activation_sites(graph)

    return make


@pytest.mark.parametrize("name", CASES)
def test_case(sites_of, name):
    text, expected = CASES[name]
    assert [f"{site.tensor.name} {site.role}" for site in sites_of(text)] == expected


ATTENTION = """q = MatMul (X, W)
    k = MatMul (X, W)
    v = MatMul (X, W)
    small = Mul (q, half)
    turned = Transpose <perm = [0, 2, 1]> (k)
    scores = MatMul (small, turned)
    far = Cast <to = 1> (mask)
    masked = Add (scores, far)
    near = Gather (table, ids)
    biased = Add (masked, near)
    soft = Softmax (biased)
    bad = IsNaN (soft)
    good = Where (bad, half, soft)
    r = MatMul (good, v)
    """


def test_attention(sites_of):
    """Masks and terms of scores from tables are none; nor is what guards a softmax."""
    assert [site.tensor.name for site in sites_of(ATTENTION)] == [
        *("q", "k", "v", "scores", "soft", "r")
    ]


def test_a_product_that_is_an_output_too(text_model):
    text = "g (float[N,8] X) => (float[N,8] P, float[N,8] Y) { P = MatMul (X, W)\n Y = Relu (P) }"
    sites = activation_sites(graph_of(text_model(text, W=CONSTANTS["W"])))
    assert [site.tensor.name for site in sites] == ["P", "Y"]


def test_sum_of_two_scores(sites_of):
    text = ATTENTION.replace("near = Gather (table, ids)", "near = MatMul (q, turned)")
    names = {site.tensor.name: site.role for site in sites_of(text)}
    assert (names["near"], names["biased"]) == ("scores", "scores")


SPLIT = """x = LayerNormalization (X, b)
    x1, x2 = Split <axis = 2> (x, halves)
    p1 = MatMul (x1, W_3)
    p2 = MatMul (x2, W_5)
    p = Add (p1, p2)
    a = Add (p, b)
    g = Relu (a)
    h1 = MatMul (g, W_to_3)
    y1 = Add (x1, h1)
    y = Concat <axis = 2> (y1, x2)
    r = LayerNormalization (y, b)
    """


def test_split_tensors(sites_of):
    """A tensor that is split into sites is none; partial products are none, nor is their sum."""
    product = {"role": "ffn_in", "layer": 3}
    sites = sites_of(
        SPLIT,
        x1={"site": "x", "layer": 3},
        p1={"partial": True, **product},
        p2={"partial": True, **product},
        g={"site": "g", "layer": 3},
        h1={"site": "h", "layer": 3, "group": 0, "role": "ffn_out"},
        y1={"site": "y", "layer": 3, "group": 0},
    )
    assert [(s.tensor.name, s.role, s.layer, s.kind, s.group) for s in sites] == [
        ("x1", "norm", 3, "x", 0),
        ("x2", "norm", 3, "x", 1),
        ("g", "activation", 3, "g", None),
        ("h1", "ffn_out", 3, "h", 0),
        ("y1", "sum", 3, "y", 0),
        ("r", "norm", 3, "", None),
    ]


def test_sum_of_partial_products_without_a_function(sites_of):
    product = {"partial": True, "role": "ffn_out", "layer": 1}
    text = "p1 = MatMul (X, W)\n p2 = MatMul (X, W)\n p = Add (p1, p2)\n r = Add (p, b)"
    (site,) = sites_of(text, p1=product, p2=product)
    assert (site.tensor.name, site.role, site.layer) == ("r", "ffn_out", 1)
