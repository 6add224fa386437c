"""Patterns: every way to write a formula is found, another formula is not, a miss has a reason."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, strategies

from sardonyx.compiler.load import load
from sardonyx.passes.attempt import State, Trail
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.journal import Journal
from sardonyx.passes.match import Pattern, Scalar, Sum, Value, op

X, Y, Z = Value("x"), Value("y"), Value("z")
NUMBERS = {
    "two": 2.0,
    "three": 3.0,
    "half": 0.5,
    "minus": -1.0,
    "minus_half": -0.5,
    "zero": 0.0,
    "four": 4.0,
    "vector": [1.0, 2.0],
}


@pytest.fixture(scope="module")
def graph(text_model):
    """The graph of a body that makes R from A, B and C."""

    def make(body, kind="float", **constants):
        dtype = np.float16 if kind == "float16" else np.float32
        held = {name: np.asarray(value, dtype) for name, value in NUMBERS.items()} | constants
        inputs = ", ".join(f"{kind}[2] {name}" for name in "ABC")
        text = f"g ({inputs}) => ({kind}[2] R) {{ {body} }}"
        read = load(text_model(text, **held))[1]
        LiftConstants().run(read, Journal())
        return read

    return make


@pytest.fixture(scope="module")
def find(graph):
    """What a pattern finds in a body: the names of tensors and the numbers, or the reason."""

    def search(pattern, body, **constants):
        trail = Trail()
        states: Iterator[State] = pattern.find(graph(body, **constants).outputs[0], State(trail))
        for found in states:
            return {name: t.name for name, t in found.values.items()} | found.numbers
        return trail.reason

    return search


def test_a_value_is_any_tensor(find):
    assert find(X, "R = Neg (A)") == {"x": "R"}
    assert find(X * 2, "R = Mul (A, two)") == {"x": "A"}


def test_a_value_is_the_same_wherever_it_stands(find):
    formula = op("Max", X, X)
    assert find(formula, "R = Max (A, A)") == {"x": "A"}
    assert find(formula, "i = Identity (A) R = Max (i, A)") == {"x": "A"}
    assert find(formula, "R = Max (A, B)") == "x is 'A' and 'B'"


def test_a_value_may_be_refused(find):
    odd = Value("odd", lambda tensor: f"is '{tensor.name}'" if tensor.name != "B" else "")
    assert find(X + odd, "R = Add (A, B)") == {"x": "A", "odd": "B"}
    assert find(X + odd, "R = Add (B, A)") == {"x": "A", "odd": "B"}
    assert find(op("Neg", odd), "R = Neg (A)") == "odd is 'A'"


def test_a_scalar_is_a_constant_of_one_element(find):
    formula = op("Pow", X, Scalar("n"))
    assert find(formula, "R = Pow (A, three)") == {"x": "A", "n": 3.0}
    assert find(formula, "R = Pow (A, one)", one=np.ones((1, 1), np.int64)) == {"x": "A", "n": 1.0}
    assert find(formula, "R = Pow (A, B)") == "n is no constant: the input 'B'"
    assert find(formula, "R = Pow (A, vector)") == "n is no constant: the constant 'vector'"


def test_a_scalar_is_the_same_wherever_it_stands(find):
    formula = op("Max", op("Pow", X, Scalar("n")), op("Pow", Y, Scalar("n")))
    body = "p = Pow (A, two) q = Pow (B, {}) R = Max (p, q)"
    assert find(formula, body.format("two")) == {"x": "A", "y": "B", "n": 2.0}
    assert find(formula, body.format("three")) == "n is 2 and 3"


def test_an_op_and_its_operands_in_their_order(find):
    formula = op("Sub|Max", X, op("Neg", Y))
    assert find(formula, "n = Neg (B) R = Sub (A, n)") == {"x": "A", "y": "B"}
    assert find(formula, "n = Neg (B) R = Max (A, n)") == {"x": "A", "y": "B"}
    assert find(formula, "n = Neg (B) R = Sub (n, A)") == "the input 'A' is no Neg"
    assert find(formula, "R = Min (A, B)") == "Min 'R' is no Sub or Max"


def test_an_op_of_another_domain_is_another_op(find, contrib):
    text = "g (float[B] A) => (float[B] R) { R = com.microsoft.Gelu (A) }"
    tensor = load(contrib(text))[1].outputs[0]
    trail = Trail()
    assert not list(op("Gelu", X).find(tensor, State(trail)))
    assert trail.reason == "Gelu 'R' is no Gelu"


def test_operands_left_out_are_not_looked_for(find):
    formula = op("Clip", X, Y, Z)
    assert find(formula, "R = Clip (A, two, three)") == {"x": "A", "y": "two", "z": "three"}
    assert find(formula, "R = Clip (A, two)") == {"x": "A", "y": "two"}
    assert find(formula, "R = Clip (A, , two)") == {"x": "A", "z": "two"}


def test_a_node_may_be_refused(find):
    formula = op("Neg", X, judge=lambda node: "" if node.name else "has no name")
    assert find(formula, "[n] R = Neg (A)") == {"x": "A"}
    assert find(formula, "R = Neg (A)") == "Neg 'R' has no name"


def test_either(find):
    formula = op("Neg", X) | op("Abs", Y) | op("Exp", Z)
    assert find(formula, "R = Abs (A)") == {"y": "A"}
    assert find(formula, "R = Exp (A)") == {"z": "A"}
    assert find(formula, "R = Log (A)") == "Log 'R' is no Neg"


THREE = op("Neg", X) * op("Abs", Y) * op("Exp", Z)
PARTS = "a = Neg (A) b = Abs (B) c = Exp (C)"


@pytest.mark.parametrize("order", ["abc", "acb", "bac", "bca", "cab", "cba"])
def test_products_and_sums_in_any_order_and_grouping(find, order):
    one, two, three = order
    wanted = {"x": "A", "y": "B", "z": "C"}
    for name, formula in (("Mul", THREE), ("Add", op("Neg", X) + op("Abs", Y) + op("Exp", Z))):
        left = f"{PARTS} d = {name} ({one}, {two}) R = {name} (d, {three})"
        right = f"{PARTS} d = {name} ({one}, {two}) R = {name} ({three}, d)"
        assert find(formula, left) == find(formula, right) == wanted


@pytest.mark.parametrize(
    "body",
    [
        "a = Mul (A, three) R = Mul (a, two)",
        "a = Mul (three, A) R = Div (a, half)",
        "a = Div (A, half) R = Mul (three, a)",
        "i = Identity (A) a = Mul (three, i) j = Identity (a) R = Mul (j, two)",
        "c = Cast <to = 1> (A) a = Mul (c, three) R = Mul (a, two)",
    ],
)
def test_numbers_are_multiplied_into_one(find, body):
    assert find(X * 6, body) == {"x": "A"}
    assert find(2 * X * 3, body) == {"x": "A"}
    assert find(X / (1 / 6), body) == {"x": "A"}
    assert isinstance(find(op("Neg", X) * 6, body), str)


def test_numbers_are_added_up(find):
    for body in (
        "a = Add (A, three) R = Add (a, two)",
        "a = Add (two, A) R = Sub (a, minus3)",
    ):
        assert find(X + 5, body, minus3=np.float32(-3)) == {"x": "A"}
    assert find(op("Neg", X) + 5, "n = Neg (A) R = Add (n, two)") == (
        "Add 'R' has the constant 2, not 5"
    )
    assert find(op("Neg", X) + 5, "n = Neg (A) R = Sub (two, n)") == "Sub 'R' is no Neg"


@pytest.mark.parametrize(
    "body",
    [
        "n = Neg (B) R = Div (A, n)",
        "n = Neg (B) i = Reciprocal (n) R = Mul (A, i)",
        "n = Neg (B) i = Pow (n, minus) R = Mul (i, A)",
        "n = Neg (B) i = Div (one, n) R = Mul (A, i)",
        "n = Neg (B) h = Mul (n, half) i = Div (half, h) R = Mul (A, i)",
        "n = Neg (B) h = Div (A, two) i = Div (h, n) R = Mul (two, i)",
    ],
)
def test_inverses(find, body):
    assert find(X / op("Neg", Y), body, one=np.float32(1)) == {"x": "A", "y": "B"}


def test_more_than_one_factor_below_the_line(find):
    formula = X / op("Neg", Y) / op("Exp", Z)
    parts = "b = Neg (B) c = Exp (C)"
    for body in (
        "m = Mul (b, c) R = Div (A, m)",
        "m = Div (A, c) R = Div (m, b)",
        "i = Reciprocal (b) m = Mul (A, i) R = Div (m, c)",
        "m = Mul (c, b) i = Reciprocal (m) R = Mul (i, A)",
    ):
        assert find(formula, f"{parts} {body}") == {"x": "A", "y": "B", "z": "C"}
    assert isinstance(find(formula, f"{parts} m = Div (b, c) R = Div (A, m)"), str)


@pytest.mark.parametrize(
    "body",
    ["R = Pow (n, three)", "q = Mul (n, n) R = Mul (n, q)", "q = Pow (n, two) R = Mul (q, n)"],
)
def test_powers(find, body):
    cube = op("Neg", X) ** 3
    assert find(cube, f"n = Neg (A) {body}") == {"x": "A"}
    other = f"n = Neg (A) {body}".replace("three", "four").replace("Mul (n, n)", "Mul (n, A)")
    if other != f"n = Neg (A) {body}":
        assert isinstance(find(cube, other), str)


def test_a_power_of_the_wrong_number_is_named(find):
    body = "n = Neg (A) R = Pow (n, two)"
    assert find(op("Neg", X) ** 3, body) == "Pow 'R' raises to the power of 2.0"
    assert (
        find(op("Neg", X) ** 3, body.replace("two", "B")) == "Pow 'R' raises to the power of None"
    )


def test_a_number_to_a_power(find):
    assert find(X**2 * 4, "a = Mul (A, two) R = Pow (a, two)") == {"x": "A"}
    assert find(X**2 * 2, "a = Mul (A, two) R = Pow (a, two)") == (
        "Pow 'R' has the constant 4, not 2"
    )


@pytest.mark.parametrize(
    "body",
    [
        "s = Sqrt (n) R = Div (A, s)",
        "s = Pow (n, half) R = Div (A, s)",
        "i = Pow (n, minus_half) R = Mul (A, i)",
        "s = Sqrt (n) i = Pow (s, minus) R = Mul (A, i)",
    ],
)
def test_roots(find, body):
    formula = X / op("Sqrt", op("Neg", Y))
    assert find(formula, f"n = Neg (B) {body}") == {"x": "A", "y": "B"}
    assert isinstance(find(formula, f"n = Exp (B) {body}"), str)


@pytest.mark.parametrize(
    ("formula", "body", "number"),
    [
        (op("Neg", X) * Scalar("s"), "R = Mul (n, three)", 3),
        (op("Neg", X) * Scalar("s"), "a = Mul (n, three) R = Div (a, two)", 1.5),
        (op("Neg", X) * Scalar("s"), "R = Identity (n)", 1),
        (op("Neg", X) * Scalar("s") * 2, "R = Mul (three, n)", 1.5),
        (op("Neg", X) + Scalar("s"), "R = Add (n, three)", 3),
        (op("Neg", X) + Scalar("s"), "R = Sub (n, three)", -3),
        (op("Neg", X) + Scalar("s"), "R = Identity (n)", 0),
        (Scalar("s") + op("Neg", X) + 2, "R = Add (n, three)", 1),
    ],
)
def test_a_free_number(find, formula, body, number):
    assert find(formula, f"n = Neg (A) {body}") == {"x": "A", "s": number}


def test_a_free_number_that_is_none(find):
    formula = op("Neg", X) + Scalar("s")
    assert find(formula, "n = Neg (A) R = Add (n, B)") == (
        "the input 'B' is no constant of one element"
    )


def test_no_number_is_divided_by_zero(find):
    formula = op("Neg", X) * 2
    assert "constant inf" in find(formula, "n = Neg (A) R = Div (n, zero)")
    assert isinstance(find(X / op("Neg", Y), "n = Neg (A) z = Mul (n, zero) R = Div (B, z)"), str)


def test_a_cast_to_another_type_is_not_passed_over(find):
    body = "c = Cast <to = 10> (A) n = Neg (c) R = Cast <to = 1> (n)"
    assert find(op("Neg", X), body) == "Cast 'R' is no Neg"
    body = "c = Cast <to = 1> (A) n = Neg (c) R = Cast <to = 1> (n)"
    assert find(op("Neg", X), body) == {"x": "A"}


def test_constants_of_float16_are_taken_as_they_round(graph):
    formula = X * 0.044715
    for kind, found in (("float16", True), ("float", False)):
        near = np.asarray(np.float16(0.044715), np.float16 if kind == "float16" else np.float32)
        tensor = graph("R = Mul (A, near)", kind, near=near).outputs[0]
        assert bool(list(formula.find(tensor, State(Trail())))) == found


def test_text_and_complex_constants_are_no_numbers(text_model):
    text = "g (bool C) => (string[1] R) { R = Identity (words) }"
    tensor = load(text_model(text, words=np.array(["word"], object)))[1].outputs[0]
    assert not list(Scalar("s").find(tensor, State(Trail())))


def test_the_nodes_found_are_listed_from_the_last_to_the_first(graph):
    body = "i = Identity (A) n = Neg (i) j = Identity (n) m = Mul (j, two) R = Identity (m)"
    (found,) = (op("Neg", X) * 2).find(graph(body).outputs[0], State(Trail()))
    assert [node.outputs[0].name for node in found.nodes] == ["R", "m", "j", "n"]


def test_the_reason_is_that_of_the_attempt_that_came_farthest(find):
    formula = op("Neg", X) * op("Abs", op("Exp", Y))
    assert (
        find(formula, "n = Neg (A) l = Log (B) b = Abs (l) R = Mul (b, n)") == "Log 'l' is no Exp"
    )


def test_a_reason_near_the_anchor_counts_most(graph):
    read = graph("n = Neg (A) e = Exp (B) b = Abs (e) R = Mul (n, b)")
    nodes = {node.op: node for node in read.nodes}
    trail = Trail(nodes["Neg"])
    state = State(trail)
    trail.miss(state.past(nodes["Mul"], nodes["Abs"], nodes["Exp"]), "far from it")
    assert trail.reason == "far from it"
    trail.miss(state.past(nodes["Neg"]), "at it")
    trail.miss(state.past(nodes["Mul"], nodes["Abs"]), "elsewhere again")
    assert trail.reason == "at it"
    trail.miss(state.past(nodes["Neg"]), "just as far")
    assert trail.reason == "at it"
    trail.miss(state.past(nodes["Neg"]), "all of it, of no use", found=True)
    trail.miss(state.past(nodes["Neg"], nodes["Mul"]), "farther, not all of it")
    assert trail.reason == "all of it, of no use"


def test_equal_factors_are_tried_once(graph):
    square: Pattern = op("Neg", X) ** 2
    found = list(square.find(graph("n = Neg (A) R = Mul (n, n)").outputs[0], State(Trail())))
    assert len(found) == 1


def test_patterns_read_as_formulas():
    assert 1 + X == X + 1 == Sum((X,), 1.0)
    assert Sum((X, Y, Z), 2.0) == (X + Y) + (Z + 2)
    assert (X * 2) * (Y / 4) == 0.5 * X * Y
    assert X**2 == X * X


FORMULA = ("*", "A", ("+", ("Erf", ("*", "A", 0.75)), 2.0), ("/", ("Sqrt", ("+", "B", 3.0))), 0.5)
PATTERN = X * (2 + op("Erf", X * 0.75)) / op("Sqrt", Y + 3) * 0.5


def scaled(term, path, factor):
    """A formula with the number at a path multiplied."""
    if not path:
        return term * factor
    here, *rest = path
    return (*term[:here], scaled(term[here], rest, factor), *term[here + 1 :])


@given(data=strategies.data())
def test_any_writing_is_found(data, graph, write):
    body, constants = write(data.draw, FORMULA)
    tensor = graph(body.replace("Y =", "R ="), **constants).outputs[0]
    found = next(PATTERN.find(tensor, State(Trail())), None)
    assert found is not None
    assert {name: t.name for name, t in found.values.items()} == {"x": "A", "y": "B"}


@given(
    data=strategies.data(),
    path=strategies.sampled_from([(4,), (2, 2), (2, 1, 1, 2), (3, 1, 1, 2)]),
    factor=strategies.sampled_from([0.9, 0.999, 1.001, 2.0, -1.0]),
)
def test_a_writing_with_another_number_is_not(data, graph, write, path, factor):
    body, constants = write(data.draw, scaled(FORMULA, path, factor))
    tensor = graph(body.replace("Y =", "R ="), **constants).outputs[0]
    trail = Trail()
    assert not list(PATTERN.find(tensor, State(trail)))
    assert trail.reason
