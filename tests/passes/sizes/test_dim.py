"""The algebra of sizes against sympy, and how sizes are written."""

from __future__ import annotations

from collections import defaultdict

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.passes.sizes.dim import (
    Size,
    evaluated,
    is_large,
    is_natural,
    is_unknown,
    minus,
    named,
    over,
    plus,
    symbol,
    total,
)

NAMES = ["batch", "past", "length", "onnx::Shape_1", "unk__0"]
LEAVES = st.one_of(st.integers(-3, 4), st.sampled_from(NAMES))


def trees(leaves):
    pairs = lambda parts: st.tuples(st.sampled_from("+-*"), parts, parts)  # noqa: E731
    return st.recursive(leaves, pairs, max_leaves=6)


def dim_of(tree):
    if isinstance(tree, tuple):
        op, a, b = tree[0], dim_of(tree[1]), dim_of(tree[2])
        return plus(a, b) if op == "+" else minus(a, b) if op == "-" else a * b
    return symbol(tree) if isinstance(tree, str) else tree


def sympy_of(tree):
    if isinstance(tree, tuple):
        op, a, b = tree[0], sympy_of(tree[1]), sympy_of(tree[2])
        return a + b if op == "+" else a - b if op == "-" else a * b
    return sympy.Symbol(tree) if isinstance(tree, str) else sympy.Integer(tree)


def expanded(dim):
    """A size as sympy has it."""
    terms = dim.terms if isinstance(dim, Size) else (((), dim),)
    return sum((n * sympy.prod(map(sympy.Symbol, s)) for s, n in terms), sympy.Integer(0))


@given(trees(LEAVES))
def test_sums_and_products(tree):
    want, have = sympy.expand(sympy_of(tree)), dim_of(tree)
    assert expanded(have) == want
    assert isinstance(have, int) == want.is_Integer


@given(trees(LEAVES), trees(LEAVES))
def test_equal_sizes_are_equal_objects(a, b):
    same = sympy.expand(sympy_of(a) - sympy_of(b)) == 0
    assert (dim_of(a) == dim_of(b)) == same
    assert not same or str(dim_of(a)) == str(dim_of(b))


@given(trees(LEAVES), st.lists(st.integers(0, 9), min_size=5, max_size=5))
def test_evaluated(tree, numbers):
    at = dict(zip(NAMES, numbers, strict=True))
    want = sympy_of(tree).subs({sympy.Symbol(name): number for name, number in at.items()})
    assert evaluated(dim_of(tree), at.__getitem__) == want


@given(trees(LEAVES), trees(LEAVES))
def test_a_product_over_one_factor_is_the_other(a, b):
    a, b = dim_of(a), dim_of(b)
    assert over(a * b, b) == (None if b == 0 else a)


@given(trees(LEAVES), trees(LEAVES))
def test_over_is_a_whole_polynomial_or_nothing(a, b):
    have = over(dim_of(a), dim_of(b))
    assert have is None or have * dim_of(b) == dim_of(a)
    if have is None and dim_of(b) != 0:
        ratio = sympy.cancel(sympy_of(a) / sympy_of(b))
        polynomial = sympy.Poly(ratio, *map(sympy.Symbol, NAMES)) if ratio.is_polynomial() else None
        assert polynomial is None or not all(c.is_Integer for c in polynomial.coeffs())


@given(trees(LEAVES), st.lists(st.integers(0, 9), min_size=5, max_size=5))
def test_what_is_natural_is_never_below_0(tree, numbers):
    dim = dim_of(tree)
    value = evaluated(dim, dict(zip(NAMES, numbers, strict=True)).__getitem__)
    assert value >= 0 or not is_natural(dim)


@given(trees(st.one_of(LEAVES, st.sampled_from(["s0 // 2", "a - b", "max(1, s)"]))))
def test_written_and_read_again(tree):
    dim = dim_of(tree)
    assert symbol(str(dim)) == dim


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a", "a"),
        ("12", "12"),
        ("a + b", "a + b"),
        ("b+a", "a + b"),
        ("past + 1", "1 + past"),
        ("2*a", "2*a"),
        ("a*2", "2*a"),
        ("b*(a + 1)", "a*b + b"),
        ("(a + 1) * (a + 1)", "1 + 2*a + a*a"),
        ("((a))", "a"),
        ("a + 2*(b + c)", "a + 2*b + 2*c"),
        ("a + 1 + 1", "2 + a"),
        ("a + a", "2*a"),
        ("batch-size", "batch-size"),
        ("s1 + s0 - 1", "s0 - 1 + s1"),
        ("c + s0 - 1", "c + s0 - 1"),
        ("Max(1, a + b)", "Max(1, a + b)"),
    ],
)
def test_names_of_sizes(text, written):
    assert str(symbol(text)) == written
    assert symbol(written) == symbol(text)


@pytest.mark.parametrize(
    "text", ["", "a//2", "(a + b)//2", "a*b//2", "a*(b - 1)//2", "a**2", "a +", "*", "a)", "(a"]
)
def test_what_is_written_otherwise_is_one_symbol(text):
    assert symbol(text) == named(text)


def test_what_is_written_otherwise_is_not_taken_apart():
    # (a + b)//2 less a is not b//2, and a (b//2) is not (a b)//2
    assert not is_natural(minus(symbol("(a + b)//2"), symbol("a")))
    assert over(symbol("a*b//2"), symbol("a")) is None
    assert symbol("s0 - 1 + s1") == plus(symbol("s0 - 1"), symbol("s1"))


def test_the_numbers_of_unknown_sizes():
    dim = named("?7") * named("batch")
    assert is_unknown(dim)
    assert is_unknown(dim, 7)
    assert not is_unknown(dim, 8)
    assert not is_unknown(symbol("batch"))
    assert not is_unknown(7)


def test_what_no_graph_computes_is_large():
    dim = symbol("a + 1")
    assert not is_large(dim * dim * dim)
    for _ in range(6):
        dim = dim * dim if not is_large(dim) else dim
    assert is_large(dim)
    assert is_large(1 << 63)
    assert not is_large((1 << 63) - 1)
    assert is_large(total([symbol(f"s{i}") for i in range(99)]))


def test_sizes_are_keys():
    held = defaultdict(int)
    held[symbol("a*b")] += 1
    held[symbol("b*a")] += 1
    assert held == {symbol("a*b"): 2}
