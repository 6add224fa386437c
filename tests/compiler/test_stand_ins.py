"""Stand-ins: onnx learns the types behind onnxruntime's own ops, and what it knows stays."""

import numpy as np
import onnx
import pytest
from onnx import helper

from sardonyx.compiler.load import load
from sardonyx.compiler.stand_ins import uses_unknown_ops, with_stand_ins

HIDDEN = "float[B,S,8]"

CALLS = {
    "BiasGelu": ("Y = com.microsoft.BiasGelu (X, v)", "v"),
    "FastGelu": ("Y = com.microsoft.FastGelu (X)", ""),
    "Gelu": ("Y = com.microsoft.Gelu (X)", ""),
    "QuickGelu": ("Y = com.microsoft.QuickGelu (X)", ""),
    "MultiHeadAttention": ("Y = com.microsoft.MultiHeadAttention <num_heads = 2> (X, X, X)", ""),
    "SkipLayerNormalization": ("Y = com.microsoft.SkipLayerNormalization (X, X, v, v)", "v"),
    "SkipSimplifiedLayerNormalization": (
        "Y = com.microsoft.SkipSimplifiedLayerNormalization (X, X, v)",
        "v",
    ),
    "the sum of SkipLayerNormalization": (
        "N, , , Y = com.microsoft.SkipLayerNormalization (X, X, v, v)",
        "v",
    ),
    "Attention": ("Y = com.microsoft.Attention <num_heads = 2> (X, P, p)", "Pp"),
    "FusedMatMul": ("Y = com.microsoft.FusedMatMul (X, E)", "E"),
    "FusedMatMul, turned": (
        "S = com.microsoft.FusedMatMul <transB = 1> (X, X)\n"
        "Y = com.microsoft.FusedMatMul <transA = 1> (S, X)",
        "",
    ),
    "FusedMatMul, its batch turned": (
        "T = Transpose <perm = [1, 0, 2]> (X)\n"
        "S = com.microsoft.FusedMatMul <transBatchB = 1, transB = 1> (X, T)\n"
        "Y = MatMul (S, X)",
        "",
    ),
    "DynamicQuantizeMatMul": ("Y = com.microsoft.DynamicQuantizeMatMul (X, C, s)", "Cs"),
    "MatMulIntegerToFloat": (
        "q = com.microsoft.QuantizeLinear (X, s, z)\n"
        "Y = com.microsoft.MatMulIntegerToFloat (q, C, s, s, z)",
        "Csz",
    ),
    "DequantizeLinear": (
        "q = com.microsoft.QuantizeLinear (X, s, w)\nY = com.microsoft.DequantizeLinear (q, s, w)",
        "sw",
    ),
    "SimplifiedLayerNormalization": ("Y = SimplifiedLayerNormalization (X, v)", "v"),
    "EmbedLayerNormalization": (
        "Y, L = com.microsoft.EmbedLayerNormalization (I, , W, W, , v, v)",
        "Wv",
    ),
    "the sum of EmbedLayerNormalization": (
        "N, L, Y = com.microsoft.EmbedLayerNormalization (I, , W, W, , v, v)",
        "Wv",
    ),
}
"""A call that makes Y, as wide as X, and which constants it needs."""

CONSTANTS = {
    "C": np.ones((8, 8), np.int8),
    "s": np.float32(1),
    "z": np.uint8(1),
    "w": np.uint16(1),
    "v": np.ones(8, np.float32),
    "W": np.ones((10, 8), np.float32),
    "P": np.ones((8, 24), np.float32),
    "p": np.ones(24, np.float32),
    "E": np.ones((8, 8), np.float32),
}


@pytest.fixture
def model(text_model):
    def make(text, used="", opset=17):
        given = {name: CONSTANTS[name] for name in used}
        made = text_model(
            f"g ({HIDDEN} X, int32[B,S] I, bool c) => ({HIDDEN} Z) {{ {text}\n Z = Neg (Y) }}",
            opset,
            **given,
        )
        made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return made

    return make


def known(model, name):
    """Element type and sizes that load finds for a tensor."""
    kind = load(model)[0].shapes[name].tensor_type
    return kind.elem_type, [dim.dim_param or dim.dim_value for dim in kind.shape.dim]


@pytest.mark.parametrize("call", CALLS)
def test_the_type_of_each(model, call):
    assert known(model(*CALLS[call]), "Y") == (onnx.TensorProto.FLOAT, ["B", "S", 8])


def test_the_mask_index_holds_a_length_for_each_sequence(model):
    text, used = CALLS["EmbedLayerNormalization"]
    assert known(model(text, used), "L") == (onnx.TensorProto.INT32, ["B"])


@pytest.mark.parametrize("call", CALLS)
def test_runtimes_agree(model, call, run_ort):
    """What load knows is what onnxruntime makes."""
    text, used = CALLS[call]
    made = model(text, used)
    if call != "SimplifiedLayerNormalization":
        onnx.checker.check_model(made)
    x = np.ones((2, 3, 8), np.float32)
    feeds = {"X": x, "I": np.zeros((2, 3), np.int32), "c": np.array(True)}
    read = {name for node in made.graph.node for name in node.input}
    (out,) = run_ort(made, feeds | {name: feeds[name] for name in read & feeds.keys()})
    assert (out.shape, out.dtype) == (x.shape, x.dtype)


def test_the_type_of_a_gemm(text_model):
    made = text_model(
        """g (float[M,8] X) => (float[M,5] Z) {
             Y = com.microsoft.FusedGemm <activation = "Relu", transB = 1> (X, W)
             Z = Neg (Y)
           }""",
        W=np.ones((5, 8), np.float32),
    )
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert known(made, "Y") == (onnx.TensorProto.FLOAT, ["M", 5])


def test_the_type_of_codes(model):
    text, used = CALLS["MatMulIntegerToFloat"]
    assert known(model(text, used), "q") == (onnx.TensorProto.UINT8, ["B", "S", 8])
    made = model(text, used, 13)  # there is no CastLike yet: its type is not known, nor needed
    assert known(made, "Y")[0] == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("opset", [17, 18])
def test_split_before_and_after_it_counts_its_parts(model, opset):
    text, used = CALLS["Attention"]
    assert known(model(text, used, opset), "Y") == (onnx.TensorProto.FLOAT, ["B", "S", 8])


def test_of_an_attention_with_narrow_values_nothing_is_said(model):
    text, used = CALLS["Attention"]
    made = model(text.replace("= 2", "= 2, qkv_hidden_sizes = [4, 4, 16]"), used)
    assert not load(made)[0].shapes.get("Y", onnx.TypeProto()).tensor_type.elem_type


def test_inside_bodies(model):
    made = model(
        """Y = If (c) <
             then_branch = t () => (float[B,S,8] P) { G = com.microsoft.FastGelu (X)
                                                      P = Neg (G) },
             else_branch = e () => (float[B,S,8] Q) { Q = Neg (X) }>"""
    )
    assert known(made, "G") == (onnx.TensorProto.FLOAT, ["B", "S", 8])


def test_an_op_that_onnx_does_not_know_inside_bodies(model):
    made = model(
        """Y = If (c) <
             then_branch = t () => (float[B,S,8] P) { G = SimplifiedLayerNormalization (X, v)
                                                      P = Neg (G) },
             else_branch = e () => (float[B,S,8] Q) { Q = Neg (X) }>""",
        "v",
    )
    assert uses_unknown_ops(made)
    assert known(made, "G") == (onnx.TensorProto.FLOAT, ["B", "S", 8])


def test_nothing_else_changes(model):
    text, used = CALLS["BiasGelu"]
    made = model(text, used)
    before = made.SerializeToString()
    stood = with_stand_ins(made)
    assert made.SerializeToString() == before
    assert [node.op_type for node in stood.graph.node] == ["Identity", "Neg"]
    assert stood.graph.node[1] == made.graph.node[1]
    assert stood.graph.initializer == made.graph.initializer


@pytest.mark.parametrize(
    "text", ["Y = com.microsoft.BiasDropout (X, X)", "Y = my.FastGelu (X)", "Y = Gelu (X)"]
)
def test_unknown_ops_and_other_domains_stay(model, text):
    made = model(text, opset=20)
    assert with_stand_ins(made) == made
    assert not uses_unknown_ops(made)


@pytest.mark.parametrize(("opset", "unknown"), [(13, True), (16, True), (17, False)])
def test_an_op_that_onnx_knows_from_17_on(model, opset, unknown):
    made = model("Y = LayerNormalization (X, v, v)", "v", opset)
    assert uses_unknown_ops(made) == unknown
    assert (with_stand_ins(made) == made) != unknown
    assert known(made, "Y") == (onnx.TensorProto.FLOAT, ["B", "S", 8])
