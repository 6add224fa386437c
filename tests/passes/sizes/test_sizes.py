"""The ways in which exporters compute with sizes are known exactly."""

import numpy as np
import onnx
import pytest

from sardonyx.compiler.load import load
from sardonyx.passes.sizes import Sizes
from sardonyx.passes.sizes.dim import is_unknown


def number_in(text):
    return int(text) if text.isdigit() else text


def floats(*shape):
    return np.zeros(shape, np.float32)


TO_HEADS = """g (float[batch,length,64] X) => (float[B,S,N,D] Y) {
  all = Shape (X)
  b = Gather (all, zero)
  s = Gather (all, one)
  B = Unsqueeze (b, at0)
  S = Unsqueeze (s, at0)
  shape = Concat <axis = 0> (B, S, heads, size)
  Y = Reshape (X, shape)
  back = Concat <axis = 0> (B, S, free)
  Z = Reshape (Y, back)
}"""
PLACES = {"zero": np.array(0), "one": np.array(1), "at0": np.array([0]), "free": np.array([-1])}


@pytest.mark.parametrize(("heads", "size"), [(4, 16), (-1, 16), (4, -1)])
def test_a_reshape_to_computed_sizes(told, text_model, heads, size):
    model = text_model(TO_HEADS, heads=np.array([heads]), size=np.array([size]), **PLACES)
    found = told(model, X=floats(2, 3, 64))
    assert found.shapes["Y"] == "batch, length, 4, 16"
    assert found.shapes["Z"] == "batch, length, 64"
    assert found.values["shape"] == f"batch, length, {heads}, {size}"


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        ([0, 0, 4, 16], "batch, length, 4, 16"),
        ([0, 0, -1, 16], "batch, length, 4, 16"),
        ([0, -1, 16], "batch, 4*length, 16"),
        ([-1, 64], "batch*length, 64"),
        ([-1], "64*batch*length"),
        ([0, 4, -1], "batch, 4, 16*length"),
        ([2, -1, 64], "2, ?, 64"),
        ([1, -1, 128], "1, ?, 128"),
    ],
)
def test_reshape(told, text_model, target, shape):
    text = "g (float[batch,length,64] X) => (float[unknown] Y) { Y = Reshape (X, target) }"
    model = text_model(text.replace("unknown", ",".join("?" * len(target))), target=target)
    assert told(model, X=floats(2, 4, 64)).shapes["Y"] == shape


def test_a_reshape_that_allows_0(told, text_model):
    text = "g (float[b,n] X) => (float[?,?] Y) { Y = Reshape <allowzero = 1> (X, target) }"
    assert told(text_model(text, target=np.array([0, 7])), X=floats(0, 5)).shapes["Y"] == "0, 7"


EXPAND = """g (float[length,past] X, float[batch,length] A) => (float[?,?,?,?] Y) {
  a = Shape (A)
  b = Gather (a, zero)
  B = Unsqueeze (b, at0)
  shape = Concat <axis = 0> (B, one1, free, free)
  flat = Reshape (shape, free)
  rank = Shape (flat)
  ones = ConstantOfShape <value = int64[1] {1}> (rank)
  marks = Mul (ones, minus)
  same = Equal (flat, marks)
  target = Where (same, ones, flat)
  Y = Expand (X, target)
}"""


def test_an_expand_in_which_minus_1_keeps_a_size(told, text_model):
    model = text_model(EXPAND, one1=np.array([1]), minus=np.array(-1), **PLACES)
    found = told(model, X=floats(3, 5), A=floats(2, 3))
    assert found.values["target"] == "batch, 1, 1, 1"
    assert found.shapes["Y"] == "batch, 1, length, past"


SLICE = """g (float[N] X, float[a] A, float[b] B) => (float[?] Y) {
  x = Shape (X)
  a = Shape (A)
  b = Shape (B)
  both = Add (a, b)
  less_a = Neg (a)
  less_b = Neg (b)
  Y = Slice (X, START, END, axis)
}"""


@pytest.mark.parametrize(
    ("size", "start", "end", "length"),
    [
        ("a", "zero", "a", "a"),
        ("a", "zero", "last", "a"),
        ("a", "zero", "b", "?"),
        ("a", "b", "last", "?"),
        ("a", "one", "last", "?"),
        ("a", "zero", "two", "?"),
        ("a", "zero", "minus", "?"),
        ("a", "zero", "less_b", "?"),
        ("a", "less_b", "last", "?"),
        ("a + b", "zero", "a", "a"),
        ("a + b", "a", "last", "b"),
        ("a + b", "a", "both", "b"),
        ("a + b", "less_a", "last", "a"),
        ("a + b", "zero", "less_a", "b"),
        ("a + 3", "one", "last", "2 + a"),
        ("a + 3", "zero", "two", "2"),
        ("a + 3", "minus", "last", "1"),
        ("a + 3", "zero", "minus", "2 + a"),
        ("7", "two", "minus", "4"),
        ("7", "two", "last", "5"),
        ("7", "minus", "two", "0"),
        ("7", "zero", "a", "a"),
        ("7", "a", "both", "b"),
        ("7", "less_a", "last", "a"),
    ],
)
def test_slice(told, text_model, size, start, end, length):
    text = SLICE.replace("START", start).replace("END", end)
    numbers = {"zero": 0, "one": 1, "two": 2, "minus": -1, "last": np.iinfo(np.int64).max}
    places = {name: np.array([number]) for name, number in numbers.items()}
    model = text_model(text, axis=np.array([0]), **places)
    sized = onnx.helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, [number_in(size)])
    model.graph.input[0].CopyFrom(sized)
    for a, b in ((4, 3), (2, 4), (3, 3)):  # a table of 7 is long enough for the symbols
        x = floats(eval(size, {"a": a, "b": b}))
        found = told(model, X=x, A=floats(a), B=floats(b))
        assert found.shapes["Y"] == length


def test_a_slice_in_steps_or_of_unknown_bounds(told, text_model):
    text = """g (float[a,7] X, int64[1] end) => (float[?,?] Y) {
      Y = Slice (X, zero, end, one)
      odd = Slice (X, zero, five, one, two)
      back = Slice (X, minus, low, one, minus)
    }"""
    numbers = {"zero": 0, "one": 1, "two": 2, "five": 5, "minus": -1, "low": -9}
    model = text_model(text, **{name: np.array([number]) for name, number in numbers.items()})
    found = told(model, X=floats(2, 7), end=np.array([3]))
    assert [found.shapes[name] for name in ("Y", "odd", "back")] == ["?, ?", "a, 3", "a, 7"]


def test_the_last_positions_of_a_bias(told, text_model):
    # T5 with a past: the bias of all positions, cut to those of the queries
    text = """g (float[1,8,all,all] bias, float[batch,length,64] X, float[batch,8,past,8] K)
      => (float[?,?,?,?] Y) {
      x = Shape (X)
      k = Shape (K)
      s = Gather (x, one)
      p = Gather (k, two)
      t = Add (s, p)
      T = Unsqueeze (t, at0)
      S = Unsqueeze (s, at0)
      square = Concat <axis = 0> (ones, T, T)
      whole = Expand (small, square)
      low = Neg (S)
      Y = Slice (whole, low, last, two1)
    }"""
    model = text_model(
        text,
        ones=np.array([1, 8]),
        small=floats(1, 8, 1, 1),
        two=np.array(2),
        two1=np.array([2]),
        last=np.array([np.iinfo(np.int64).max]),
        **PLACES,
    )
    found = told(model, bias=floats(1, 8, 1, 1), X=floats(2, 3, 64), K=floats(2, 8, 4, 8))
    assert found.shapes["Y"] == "1, 8, length, length + past"


RANGE = """g (float[batch,length] X, float[batch,past] P) => (int64[?] Y) {
  x = Shape (X)
  p = Shape (P)
  s = Gather (x, one)
  q = Gather (p, one)
  t = Add (s, q)
  Y = Range (START, END, STEP)
}"""


@pytest.mark.parametrize(
    ("start", "end", "step", "length"),
    [
        ("zero", "s", "one", "length"),
        ("zero", "t", "one", "length + past"),
        ("q", "t", "one", "length"),
        ("one", "s", "one", "?"),
        ("q", "s", "one", "?"),
        ("s", "zero", "minus", "?"),
        ("zero", "s", "two", "?"),
        ("one", "seven", "one", "6"),
        ("one", "seven", "two", "3"),
        ("seven", "one", "one", "0"),
        ("seven", "one", "minus", "6"),
    ],
)
def test_range(told, text_model, start, end, step, length):
    text = RANGE.replace("START", start).replace("END", end).replace("STEP", step)
    numbers = {"zero": 0, "one": 1, "two": 2, "seven": 7, "minus": -1}
    model = text_model(text, **{name: np.array(number) for name, number in numbers.items()})
    for s, p in ((2, 3), (4, 1)):
        assert told(model, X=floats(2, s), P=floats(2, p)).shapes["Y"] == length


def test_a_range_of_floats(told, text_model):
    text = "g (float[n] X) => (float[?] Y) { Y = Range (start, end, step) }"
    model = text_model(text, start=np.float32(0), end=np.float32(2.5), step=np.float32(1))
    assert told(model, X=floats(2)).shapes["Y"] == "3"


ONE_NODE = {
    "Abs (X)": "a, b, 6",
    "Transpose (X)": "6, b, a",
    "Transpose <perm = [1, 0, 2]> (X)": "b, a, 6",
    "Flatten (X)": "a, 6*b",
    "Flatten <axis = 2> (X)": "a*b, 6",
    "Flatten <axis = -1> (X)": "a*b, 6",
    "Flatten <axis = 0> (X)": "1, 6*a*b",
    "Unsqueeze (X, at0)": "1, a, b, 6",
    "Unsqueeze (X, ends)": "1, a, b, 6, 1",
    "Squeeze (U, at0)": "a, b, 6",
    "Squeeze (U)": "?",
    "ReduceMean <axes = [-1]> (X)": "a, b, 1",
    "ReduceMean <axes = [0, 2], keepdims = 0> (X)": "b",
    "ReduceSum (X, at0)": "1, b, 6",
    "ReduceSum <keepdims = 0> (X, at0)": "b, 6",
    "ReduceSum <keepdims = 0> (X, none)": "",
    "ReduceSum <noop_with_empty_axes = 1> (X, none)": "a, b, 6",
    "Concat <axis = 0> (X, X)": "2*a, b, 6",
    "Concat <axis = -2> (X, Z, X)": "a, 1 + 2*b, 6",
    "Gather <axis = 1> (X, ids)": "a, 2, 2, 6",
    "Gather <axis = -1> (X, one)": "a, b",
    "GatherElements <axis = 1> (X, corner)": "1, 2, 3",
    "MatMul (X, W)": "a, b, 4",
    "MatMul (X, V)": "a, b",
    "Gemm (M, N)": "a, a",
    "Gemm <transB = 1> (M, M)": "a, a",
    "Gemm <transA = 1> (M, M)": "6, 6",
    "Tile (X, thrice)": "3*a, b, 6",
    "Add (X, Z)": "a, b, 6",
    "Add (X, V)": "a, b, 6",
    "Where (truth, X, Z)": "a, b, 6",
    "CumSum (X, one)": "a, b, 6",
    "ScatterND (X, place, row)": "a, b, 6",
    "LayerNormalization (X, V)": "a, b, 6",
}


@pytest.mark.parametrize("node", ONE_NODE)
def test_what_one_node_makes(told, text_model, node):
    wanted = ONE_NODE[node]
    text = f"""g (float[a,b,6] X, float[a,2,6] Z2, bool[1,1,6] truth) => (float[?] R) {{
      R = Reshape (X, free)
      Z = Slice (Z2, at0, at1, at1)
      U = Unsqueeze (X, at0)
      M = ReduceSum <keepdims = 0> (X, at1)
      N = Transpose (M)
      Y = {node}
    }}"""
    model = text_model(
        text,
        free=np.array([-1]),
        at0=np.array([0]),
        at1=np.array([1]),
        corner=np.zeros((1, 2, 3), np.int64),
        ends=np.array([0, -1]),
        none=np.zeros(0, np.int64),
        ids=np.zeros((2, 2), np.int64),
        one=np.array(1),
        W=floats(6, 4),
        V=floats(6),
        thrice=np.array([3, 1, 1]),
        place=np.array([[0, 1]]),
        row=floats(1, 6),
    )
    for a, b in ((2, 3), (5, 2)):
        found = told(model, X=floats(a, b, 6), Z2=floats(a, 2, 6), truth=np.ones((1, 1, 6), bool))
        assert found.shapes["Y"] == wanted


def test_the_pass_of_a_broadcast(told, text_model):
    text = """g (float[a,b,6] X, float[a,1,6] Z, float[c,b,1] W, float[3,1,1] T)
      => (float[?,?,?] Y) {
      Y = Add (X, Z)
      both = Add (X, W)
      three = Add (X, T)
    }"""
    found = told(
        text_model(text), X=floats(1, 2, 6), Z=floats(1, 1, 6), W=floats(4, 2, 1), T=floats(3, 1, 1)
    )
    assert found.shapes["Y"] == "a, b, 6"
    assert found.shapes["both"] == "?, b, 6"
    assert found.shapes["three"] == "3, b, 6"


def test_sizes_of_the_same_declared_name_are_equal(told, text_model):
    text = """g (float["past + 1"] A, float["1 + past"] B, float["?"] C, float[""] D)
      => (float[?] Y) { Y = Identity (A) }"""
    model = text_model(text.replace('["?"]', "[m]").replace('[""]', "[k]"))
    model.graph.input[2].type.tensor_type.shape.dim[0].dim_param = "?0"
    model.graph.input[3].type.tensor_type.shape.dim[0].dim_param = ""
    found = told(model)
    assert found.shapes["A"] == found.shapes["B"] == "1 + past"
    assert found.shapes["C"] == found.shapes["D"] == "?"


def test_bodies(told, text_model):
    text = """g (float[a,6] X, bool c) => (float[?,6] Y) {
      n = Shape (X)
      Y = If (c) <
        then_branch = t () => (float[?,6] P) { P = Expand (row, n) },
        else_branch = e () => (float[?,6] P) { P = Concat <axis = 0> (X, X) }>
    }"""
    _, graph = load(text_model(text, row=floats(1, 6)))
    sizes = Sizes(graph)
    bodies = graph.nodes[1].attrs["then_branch"], graph.nodes[1].attrs["else_branch"]
    shapes = [", ".join(map(str, sizes.shape(body.nodes[0].outputs[0]))) for body in bodies]
    assert shapes == ["a, 6", "2*a, 6"]


def test_what_an_if_chooses(text_model):
    """A size in which the branches differ is not known, nor anything where the ranks differ."""
    model = text_model(
        """g (bool C, float[N,4] X) => (float[?,?] Y, float[?,?] Z, int64[?] V) {
             Y, Z, v = If (C) <
               then_branch = t () => (float[?,?] P, float[?,?] Q, float R) {
                 P = Relu (X)
                 Q = Concat <axis = 0> (X, X)
                 R = ReduceMax <keepdims = 0> (X)
               },
               else_branch = e () => (float[?,?] P, float[?,?] Q, float[?,?] R) {
                 P = Neg (X)
                 Q = Neg (X)
                 R = Abs (X)
               }
             >
             V = Shape (v)
           }"""
    )
    _, graph = load(model)
    chosen = graph.nodes[0].outputs
    for tensor in chosen:
        tensor.shape = None  # which onnx found from the branches as they were read
    y, z, v = map(Sizes(graph).shape, chosen)
    assert (list(map(str, y)), z[1], v) == (["N", "4"], 4, None)
    assert is_unknown(z[0])
