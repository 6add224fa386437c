"""What stays of ops that are not standard: which nodes count, where they are, and why."""

import pytest
from onnx import helper

from sardonyx.compiler.load import load
from sardonyx.passes.kept import kept_ops


@pytest.fixture
def kept(contrib):
    """Name, op and reason of what stays in a graph of X [B, 16], with a matrix W and vectors."""

    def find(text, opset=17, functions=(), domains=()):
        declared = "float[B,16] X, uint8[16,1,8] Q, float[16] s, bool c"
        model = contrib(f"g ({declared}) => (float[B,16] Y) {{ {text} }}", opset)
        model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in domains)
        _, graph = load(model)
        return [(entry.node, entry.op, entry.reason) for entry in kept_ops(graph, set(functions))]

    return find


@pytest.mark.parametrize(
    "text",
    [
        "Y = Neg (X)",
        "Y = LayerNormalization (X, s)",
        "B = ai.onnx.ml.Binarizer (X)\n Y = Neg (B)",
        "Y = sardonyx.GoboMatMul3 <shape = [16, 16]> (X, Q, s, s, s)",
    ],
)
def test_standard_ops_and_ours_are_not_listed(kept, text):
    assert kept(text, domains=("ai.onnx.ml", "sardonyx")) == []


CASES = {
    "quantized weights": (
        "Y = com.microsoft.MatMulNBits <K = 16, N = 16, block_size = 16> (X, Q, s)",
        "it computes with quantized weights",
    ),
    "an op nobody knows": ("Y = com.microsoft.Mystery (X)", "nothing is known of its parts"),
    "an op with a pass": ("Y = com.microsoft.Gelu (X)", "no pass took it apart"),
    "an op in the standard domain": (
        "Y = SimplifiedLayerNormalization (X, s)",
        "no pass took it apart",
    ),
    "another domain": ("Y = my.Op (X)", "nothing is known of domain 'my'"),
}


@pytest.mark.parametrize("name", CASES)
def test_others_are_listed_with_a_reason(kept, name):
    text, reason = CASES[name]
    ((node, op, why),) = kept(text, domains=("my",))
    assert (node, why) == ("Y", reason)
    assert op in text


def test_layer_normalization_below_17(kept):
    text = "Y = LayerNormalization (X, s)"
    assert kept(text, opset=16) == [("Y", "LayerNormalization", "no pass took it apart")]


def test_below_13_the_opset_is_the_reason(kept):
    why = "the model uses opset 12; ops are taken apart from 13 on"
    assert kept("Y = com.microsoft.Gelu (X)", opset=12) == [("Y", "Gelu", why)]


def test_a_function_of_the_model_is_not_listed(kept):
    assert kept("Y = my.Op (X)", functions={("my", "Op")}, domains=("my",)) == []


def test_bodies_are_searched(kept):
    text = """Y = If (c) < then_branch = t () => (float[B,16] P) { P = com.microsoft.Gelu (X) },
                           else_branch = e () => (float[B,16] N) { N = Neg (X) }>"""
    assert [entry[:2] for entry in kept(text)] == [("P", "Gelu")]
