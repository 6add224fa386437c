"""Elements of shapes, and numbers computed from them."""

import numpy as np

from sardonyx.compiler.load import load
from sardonyx.passes.sizes import Size, Sizes


def floats(*shape):
    return np.zeros(shape, np.float32)


def test_equal_sizes_are_told_from_numbers_they_cannot_be(told, text_model):
    text = """g (float[a,b] X, float[a,n] Z) => (bool[4] Y) {
      x = Shape (X)
      z = Shape (Z)
      more = Add (x, one)
      left = Concat <axis = 0> (x, more)
      right = Concat <axis = 0> (z, x)
      Y = Equal (left, right)
      low = Equal (x, minus)
      zero_or_not = Equal (x, zero)
    }"""
    model = text_model(text, one=np.array(1), minus=np.array(-1), zero=np.array(0))
    found = told(model, X=floats(2, 3), Z=floats(2, 4))
    assert found.values["Y"] == "True, ?, False, False"
    assert found.values["low"] == "False, False"
    assert found.values["zero_or_not"] == "?, ?"


def test_a_slice_backwards_of_sizes_is_not_followed(told, text_model):
    # onnxruntime puts a start before the front at the front, and steps back from there
    text = (
        "g (float[a,b] X) => (int64[?] Y) { n = Shape (X)\n Y = Slice (n, low, less, at0, minus) }"
    )
    numbers = {"low": -3, "less": -9, "at0": 0, "minus": -1}
    model = text_model(text, **{name: np.array([number]) for name, number in numbers.items()})
    assert told(model, X=floats(2, 3)).values["Y"] == "?"


def test_sizes_through_floats_and_other_types(told, text_model):
    text = """g (float[a,b] X) => (float[?] Y) {
      n = Shape (X)
      f = Cast <to = 1> (n)
      half = Mul (f, point5)
      more = Add (f, point5)
      root = Sqrt (sixteen)
      whole = Cast <to = 7> (root)
      gone = Cast <to = 7> (half)
      back = Cast <to = 7> (f)
      up = Cast <to = 7> (more)
      true = Cast <to = 9> (five)
      counted = Cast <to = 7> (true)
      some = Cast <to = 9> (n)
      small = Cast <to = 10> (n)
      low = Cast <to = 3> (large)
      Y = Identity (half)
    }"""
    model = text_model(
        text,
        point5=np.float32(0.5),
        sixteen=np.float32(16),
        five=np.array(5),
        large=np.array(300),
    )
    values = told(model, X=floats(4, 3)).values
    assert values["back"] == "a, b"
    assert values["whole"] == "4"
    assert (values["true"], values["counted"]) == ("True", "1")
    for lost in ("half", "more", "gone", "up", "some", "small", "low"):
        assert set(values[lost]) <= set("?, "), lost


def test_whole_numbers_are_divided_as_onnxruntime_does(told, text_model):
    text = "g (int64[5] X) => (int64[5] Y) { Y = Div (a, b) }"
    a, b = np.array([7, -7, 7, -7, (1 << 62) + 1]), np.array([2, 2, -2, -2, 2])
    found = told(text_model(text, a=a, b=b), X=a)
    assert found.values["Y"] == f"3, -3, -3, 3, {1 << 61}"


def test_what_no_size_is(told, text_model):
    text = """g (float[a] X) => (float[?] Y) {
      n = Shape (X)
      t = Mul (n, many)
      u = Mul (t, t)
      v = Mul (u, u)
      less = Sub (n, two)
      Y = ConstantOfShape (less)
    }"""
    model = text_model(text, many=np.array([1 << 31]), two=np.array([2]))
    found = told(model, X=floats(5))
    assert found.values["less"] == "-2 + a"
    assert found.shapes["Y"] == "?"


def test_nodes_that_cannot_run_tell_nothing(text_model):
    text = """g (float[a] X, int64[1] n) => (int64[1] Y) {
      same = Where (true, three, three)
      root = Sqrt (eighty1)
      nine = Cast <to = 7> (root)
      low = Gather (same, nine)
      zero = Div (three, nothing)
      steps = Range (start, nine, nothing0)
      Y = Add (low, zero)
    }"""
    numbers = {"three": [3], "nothing": [0], "nothing0": 0, "start": 0}
    arrays = {name: np.array(number) for name, number in numbers.items()}
    _, graph = load(text_model(text, true=np.array([True]), eighty1=np.float32(81), **arrays))
    sizes = Sizes(graph)
    same, _, nine, low, zero, steps = (node.outputs[0] for node in graph.nodes[:6])
    assert sizes.number(nine) == 9
    assert sizes.values(same).tolist() == [3]
    assert sizes.values(low) is None
    assert sizes.values(zero).tolist() == [None]
    assert isinstance(sizes.shape(steps)[0], Size)


def test_numbers_found_here_come_before_declared_ones(told, text_model):
    # onnx's inference takes a Cast to bool for one that keeps values
    text = """g (float[6] X) => (float[?] Y) {
      b = Cast <to = 9> (six)
      n = Cast <to = 7> (b)
      Y = ConstantOfShape (n)
    }"""
    found = told(text_model(text, six=np.array([6])), X=floats(6))
    assert (found.values["n"], found.shapes["Y"]) == ("1", "1")
