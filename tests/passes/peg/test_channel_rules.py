"""What each op does with channels: where a stream goes through, and where it ends and why."""

import re

import numpy as np
import pytest

B, S, K, N = 2, 3, 8, 6

RANK3, RANK2 = f"float[B,S,{K}] X", f"float[B,{K}] X"


def drawn(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


HELD = {
    "W": drawn(K, K),
    "V": drawn(K, N),
    "Vt": drawn(N, K),
    "v": drawn(K),
    "b": drawn(K),
    "b111": drawn(1, 1, 1, K),
    "c": drawn(1),
    "row": drawn(1, S, K),
    "row3": drawn(B, S, K),
    "M": drawn(K, K),
    "n": drawn(N),
    "table": drawn(5, K),
    "turned": drawn(K, 5),
    "three": drawn(3, N),
    "all3": np.array([[0, 0, 1], [1, 2, 7]]),
    "kernel": drawn(N, K, 2),
    "back": drawn(K, K, 1),
    "narrow": drawn(K, 1, 2),
    "half": np.float32(0.5),
    "low": np.float32(0),
    "none": np.array([1, 1, 1]),
    "rows": np.array([-1, K]),
    "cube": np.array([B, S, K]),
    "heads": np.array([0, 0, 2, K // 2]),
    "joined": np.array([0, 0, K]),
    "at0": np.array([0]),
    "at1": np.array([1]),
    "at2": np.array([2]),
    "at3": np.array([3]),
    "end": np.array([-1]),
    "all": np.array([0, 1, 2]),
    "both": np.array([1, 2]),
    "first": np.array(0),
    "some": np.array([5, -1, 0]),
    "places": np.array([[1, 2], [0, 0]]),
    "split": np.array([1, 2]),
    "pairs": np.array([[1], [0]]),
}


@pytest.fixture
def channels(contrib, shaped, shuffled):
    """From text that makes Y of h = Sigmoid (X W): the stream of h put in order."""

    def run(body, opset=17, x=RANK3, **feeds):
        text = f"p = MatMul (X, W) h = Sigmoid (p) {body}"
        inputs = ", ".join([x, *(f"int64[{','.join('?' * v.ndim)}] {n}" for n, v in feeds.items())])
        held = {name: HELD[name] for name in HELD if re.search(rf"[(, ]{name}[,)]", text)}
        model = contrib(f"g ({inputs}) => (float Y) {{ {text} }}", opset, **held)
        feeds["X"] = drawn(B, S, K) if x == RANK3 else drawn(B, K)
        return shuffled(shaped(model, feeds), feeds, "h")

    return run


INTO_A_PRODUCT = "Y = MatMul (t, V)"

POINTWISE = [
    "t = Identity (h)",
    "t = Add (h, b)",
    "t = Sub (b111, h) s = Squeeze (t, at0) Y = MatMul (s, V)",
    "t = Div (c, h)",
    "t = Pow (h, half)",
    "t = Mul (h, row)",
    "q = MatMul (X, W) t = Mul (h, q)",
    "d = Greater (h, half) t = Where (d, h, low)",
    "t = Clip (h, low, half)",
    "t = Max (h, b, half)",
    "t = PRelu (h, b)",
    "e = Cast <to = 11> (h) t = Cast <to = 1> (e)",
    "t = Softmax <axis = -1> (h)",
    "t = Softmax <axis = 1> (h)",
    "t = LayerNormalization (h, v, b)",
    "t = LayerNormalization <axis = 1> (h, row)",
    "t = SimplifiedLayerNormalization (h, v)",
    "t = com.microsoft.SkipLayerNormalization (h, h, v, b)",
    "q, , , t = com.microsoft.SkipLayerNormalization (h, row3, v, b, b) z = Add (q, t) "
    "Y = MatMul (z, V)",
    "t = com.microsoft.BiasGelu (h, b)",
    "t = com.microsoft.FastGelu (h, b)",
    "t = Dropout (h)",
    "s = Shape (h) t = Expand (h, s)",
    "t = Expand (h, none)",
    "m = ReduceMean <axes = [-1]> (h) d = Sub (h, m) s = Mul (d, d) "
    "q = ReduceMean <axes = [2]> (s) r = Sqrt (q) e = Div (d, r) f = Mul (e, v) t = Add (f, b)",
    "q = ReduceL2 <axes = [-1]> (h) t = Div (h, q)",
    "q = ReduceMax (h) t = Div (h, q)",
    "q = ReduceSum <noop_with_empty_axes = 1> (h) t = Div (h, q)",
    "s = Shape (h) u = ConstantOfShape (s) t = Add (h, u)",
]

MOVED = [
    "t = ReduceSum <keepdims = 0> (h, at1)",
    "t = ReduceSum (h, at1)",
    "u = Unsqueeze (h, both) s = Squeeze (u, at1) t = Squeeze (s, at1)",
    "t = Transpose <perm = [1, 0, 2]> (h)",
    "u = Transpose <perm = [2, 0, 1]> (h) m = ReduceMean <axes = [1], keepdims = 0> (u) "
    "t = Transpose (m)",
    "t = Concat <axis = 1> (h, h)",
    "t = Concat <axis = 0> (row, h)",
    "t = Slice (h, at0, at2, at1)",
    "u, w = Split <axis = 1> (h, split) t = Add (u, w)",
    "t = Gather <axis = 1> (h, first)",
    "t = Gather <axis = -2> (h, at1)",
    "t = GatherND (h, places)",
    "t = GatherND <batch_dims = 1> (h, pairs)",
    "t = Reshape (h, rows)",
    "u = Reshape (h, rows) t = Reshape (u, cube)",
    "t = Flatten <axis = 2> (h)",
]

PRODUCTS = [
    "Y = MatMul (h, V)",
    "u = Transpose (Vt) Y = MatMul (h, u)",
    "e = Cast <to = 11> (V) u = Cast <to = 1> (e) Y = MatMul (h, u)",
    "u = Transpose <perm = [0, 2, 1]> (h) Y = MatMul (h, u)",
    "u = Transpose <perm = [0, 2, 1]> (h) Y = MatMul (Vt, u)",
    "u = Transpose <perm = [0, 2, 1]> (h) q = MatMul (u, h) Y = ReduceMax <keepdims = 0> (q)",
    "u = Transpose <perm = [0, 2, 1]> (h) Y = Conv (u, kernel, n)",
]

GEMMS = [
    "Y = Gemm (h, V)",
    "Y = Gemm <transB = 1> (h, Vt, n)",
    "u = Transpose (h) Y = Gemm <transA = 1, transB = 1> (u, Vt)",
    "q = Gemm (h, M, b) t = Relu (h) Y = Gemm <transB = 1> (q, Vt)",
]


PLAIN = [body for body in POINTWISE if "Y =" not in body]
ALL = [body if "Y =" in body else f"{body} Y = MatMul (t, V)" for body in POINTWISE + MOVED]


@pytest.mark.parametrize("body", [*ALL, *PRODUCTS])
def test_goes_through(channels, body):
    after = channels(body)
    assert after.gathers == []
    assert after.why == []
    assert any("h/ordered = Sigmoid" in line for line in after.wiring)


@pytest.mark.parametrize("body", GEMMS)
def test_goes_into_a_gemm(channels, body):
    after = channels(body, x=RANK2)
    assert after.gathers == []


@pytest.mark.parametrize("body", PLAIN)
def test_at_an_output_there_is_one_gather(channels, body):
    after = channels(f"{body} Y = Identity (t)")
    assert len(after.gathers) == 1
    assert after.wiring[-1] == "Y = Gather (Y/ordered, Y/Order/places)"


def test_embeddings(channels):
    after = channels(
        "e = Gather (table, ids) f = Gather <axis = 1> (turned, ids) "
        "g = Transpose <perm = [1, 2, 0]> (f) s = Add (e, g) t = Add (s, h) Y = MatMul (t, V)",
        ids=np.array([[4, 1, 0], [2, 2, 3]]),
    )
    assert after.gathers == []
    assert {"table/ordered", "turned/ordered"} <= after.constants.keys()


def test_convolution(channels):
    after = channels(
        "a = Transpose <perm = [0, 2, 1]> (X) w = Conv (a, back, b) d = Transpose "
        "<perm = [0, 2, 1]> (w) t = Add (d, h) Y = MatMul (t, V)"
    )
    assert after.gathers == []


def test_places_that_are_chosen_are_other_places(channels):
    body = "u = Gather <axis = -1> (h, some) t = Relu (u) Y = MatMul (t, three)"
    after = channels(body)
    assert after.gathers == []
    before, now = HELD["W"], after.constants["W/ordered"]
    assert np.array_equal(now[:, after.constants["some/ordered"]], before[:, HELD["some"]])


ENDS = {
    "q = CumSum (h, first) Y = MatMul (q, V)": "nothing is known of how CumSum treats channels",
    "q = Concat <axis = -1> (h, h) Y = Relu (q)": "Concat mixes channels",
    "q, r = Split <axis = -1> (h) Y = Add (q, r)": "Split mixes channels",
    "q = Slice (h, at0, at2, at2) Y = Relu (q)": "Slice mixes channels",
    "q = Reshape (h, heads) Y = Relu (q)": "Reshape mixes channels",
    "q = Flatten (h) Y = Relu (q)": "Flatten mixes channels",
    "q = GatherND (h, all3) Y = Relu (q)": "GatherND mixes channels",
    "q = Gather <axis = -1> (h, first) Y = Relu (q)": "Gather mixes channels",
    "q = Gather <axis = -1> (h, ids) Y = Relu (q)": "Gather mixes channels",
    "Y = MatMul (h, v)": "it multiplies by a vector",
    "u = Transpose <perm = [0, 2, 1]> (h) Y = Conv <group = 8> (u, narrow)": "it works on groups",
    "q = ReduceMax (h, ids) Y = Relu (q)": "the axes that ReduceMax reduces are not known",
    "q, m = LayerNormalization (h, v) Y = Add (q, m)": "LayerNormalization makes more than one",
    "q, m = Dropout (h) d = Cast <to = 1> (m) Y = Add (q, d)": "Dropout makes more than one",
    "s = Cast <to = 7> (h) q = Gather (table, s) Y = Relu (q)": "Gather mixes channels",
    'q = Einsum <equation = "abi,ij->abj"> (h, V) Y = Relu (q)': "nothing is known of how Einsum",
    "q = Unique <axis = 2> (h) Y = Relu (q)": "nothing is known of how Unique",
}
"""Why a stream ends, by what reads it."""


@pytest.mark.parametrize("body", ENDS)
def test_where_a_stream_ends_there_is_one_gather(channels, body):
    feeds = {"ids": np.array([-1])} if "ids" in body else {}
    after = channels(body, opset=18 if "ReduceMax" in body else 17, **feeds)
    assert len(after.gathers) == 1
    assert ENDS[body] in after.why[0]
    assert after.gathers[0].output[0] in "hsu"


def test_an_operand_that_may_have_one_element_ends_a_stream(contrib, shuffled):
    model = contrib(
        f"g ({RANK3}, float[D] c) => (float[B,S,{K}] Y)"
        "{ h = MatMul (X, W) q = Add (h, c) Y = Relu (q) }",
        W=HELD["W"],
    )
    for wide in (1, K):
        after = shuffled(model, {"X": drawn(B, S, K), "c": drawn(wide)}, "h")
        assert after.why == [f"'c' is not known to have {K} channels"]
        assert [list(node.output) for node in after.gathers] == [["h"]]
