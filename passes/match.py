"""Patterns that read as the formula they find, however an exporter wrote it down.

    x = Value("x")
    gelu = x * (1 + op("Erf", x / math.sqrt(2))) * 0.5

Products and sums are found as such: in any order and grouping, powers written out or not, numbers
multiplied into one, Identity and a Cast to the same type passed over. A miss says what stood in the
way of the attempt that came farthest.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product as every

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.attempt import State
from sardonyx.passes.origin import behind, maker, named, scalar

RELATIVE = 1e-5
"""How far a constant in a graph may be from a formula's: exporters write about 6 digits."""

_COARSE = {"float16": 2e-3, "bfloat16": 2e-2}
"""The same where a few constants of these types, each rounded, are multiplied."""


Check = Callable[[gs.Tensor], str]
"""Says why a tensor cannot be a formula's operand; empty if it can."""


class Pattern(ABC):
    """Something that a tensor may be."""

    @abstractmethod
    def find(self, tensor: gs.Tensor, state: State) -> Iterator[State]:
        """Every way in which ``tensor`` is this."""

    def __mul__(self, other: Pattern | float) -> Pattern:
        return _product(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Pattern | float) -> Pattern:
        return self * (Inverse(other) if isinstance(other, Pattern) else 1 / other)

    def __pow__(self, exponent: int) -> Pattern:
        return _product(*[self] * exponent)

    def __add__(self, other: Pattern | float) -> Pattern:
        return _sum(self, other)

    __radd__ = __add__

    def __sub__(self, other: Pattern) -> Pattern:
        return op("Sub", self, other)

    def __or__(self, other: Pattern) -> Pattern:
        return Either((self, other))


@dataclass(frozen=True)
class Value(Pattern):
    """Any tensor, the same wherever the name stands in a formula; ``check`` may refuse it."""

    name: str
    check: Check = lambda _: ""

    def find(self, tensor: gs.Tensor, state: State) -> Iterator[State]:
        tensor, _ = behind(tensor)
        known = state.values.get(self.name)
        reason = "" if known is not None else self.check(tensor)
        if reason:
            state.trail.miss(state, f"{self.name} {reason}")
        elif known is None:
            yield replace(state, values=state.values | {self.name: tensor})
        elif known is tensor:
            yield state
        elif scalar(known) is None and scalar(tensor) is None:
            state.trail.miss(state, f"{self.name} is '{known.name}' and '{tensor.name}'")


@dataclass(frozen=True)
class Scalar(Pattern):
    """Any constant of one element, the same wherever the name stands in a formula.

    Among the factors of a product or the terms of a sum: its number, 1 or 0 where it has none.
    """

    name: str

    def find(self, tensor: gs.Tensor, state: State) -> Iterator[State]:
        number = scalar(tensor)
        if number is None:
            state.trail.miss(state, f"{self.name} is no constant: {named(tensor)}")
        else:
            yield from self.bind(number, state)

    def bind(self, number: float, state: State) -> Iterator[State]:
        """The state in which the name stands for a number."""
        known = state.numbers.get(self.name)
        if known is None:
            yield replace(state, numbers=state.numbers | {self.name: number})
        elif math.isclose(number, known, rel_tol=RELATIVE):
            yield state
        else:
            state.trail.miss(state, f"{self.name} is {known:g} and {number:g}")


@dataclass(frozen=True)
class Either(Pattern):
    """One of several ways to write the same, tried in this order."""

    ways: tuple[Pattern, ...]

    def find(self, tensor: gs.Tensor, state: State) -> Iterator[State]:
        for way in self.ways:
            yield from way.find(tensor, state)


@dataclass(frozen=True)
class Op(Pattern):
    """An output of one of some ops; optional operands that a node leaves out are not looked for.

    ``judge``: says why such a node is not the one meant; empty if it is.
    """

    ops: tuple[str, ...]
    operands: tuple[Pattern, ...]
    judge: Callable[[gs.Node], str]

    def find(self, tensor: gs.Tensor, state: State) -> Iterator[State]:
        tensor, steps = behind(tensor)
        node = maker(tensor)
        if node is None or node.op not in self.ops:
            state.trail.miss(state, f"{named(tensor)} is no {' or '.join(self.ops)}")
            return
        reason = self.judge(node)
        if reason:
            state.trail.miss(state, f"{named(tensor)} {reason}")
            return
        yield from _all(self.operands, node.inputs, state.past(*steps, node))


def _all(
    patterns: Sequence[Pattern], tensors: Sequence[gs.Tensor], state: State
) -> Iterator[State]:
    """Every way in which each tensor is its pattern."""
    if not patterns or not tensors:
        yield state
        return
    given = not tensors[0].is_empty()
    for found in patterns[0].find(tensors[0], state) if given else (state,):
        yield from _all(patterns[1:], tensors[1:], found)


def op(names: str, *operands: Pattern, judge: Callable[[gs.Node], str] = lambda _: "") -> Op:
    """The output of an op; several are separated by ``|``."""
    return Op(tuple(names.split("|")), operands, judge)


@dataclass(frozen=True)
class Inverse(Pattern):
    """1 / pattern."""

    pattern: Pattern

    def find(self, tensor: gs.Tensor, state: State) -> Iterator[State]:
        return Product((self,)).find(tensor, state)


@dataclass(frozen=True)
class Product(Pattern):
    """A product of factors, an `Inverse` one perhaps below a fraction line, and of a number.

    ``free``: the number is this one times any, which gets the name.
    """

    factors: tuple[Pattern, ...]
    number: float = 1.0
    free: Scalar | None = None

    def find(self, tensor: gs.Tensor, state: State) -> Iterator[State]:
        for number, found in _factors(tensor, self.factors, state):
            if self.free:
                yield from self.free.bind(number / self.number, found)
            else:
                yield from _equal(number, self.number, tensor, found)


@dataclass(frozen=True)
class Sum(Pattern):
    """A sum of terms and of a number. ``free``: the number is this one plus any, which gets the
    name."""

    terms: tuple[Pattern, ...]
    number: float = 0.0
    free: Scalar | None = None

    def find(self, tensor: gs.Tensor, state: State) -> Iterator[State]:
        for number, found in _terms(tensor, self.terms, state):
            if self.free:
                yield from self.free.bind(number - self.number, found)
            else:
                yield from _equal(number, self.number, tensor, found)


def _product(*factors: Pattern | float) -> Pattern:
    parts: list[Pattern] = []
    number, free = 1.0, None
    for factor in factors:
        if isinstance(factor, Product):
            parts += factor.factors
            number, free = number * factor.number, factor.free or free
        elif isinstance(factor, Scalar):
            free = factor
        elif isinstance(factor, Pattern):
            parts.append(factor)
        else:
            number *= factor
    return Product(tuple(parts), number, free)


def _sum(*terms: Pattern | float) -> Pattern:
    parts: list[Pattern] = []
    number, free = 0.0, None
    for term in terms:
        if isinstance(term, Sum):
            parts += term.terms
            number, free = number + term.number, term.free or free
        elif isinstance(term, Scalar):
            free = term
        elif isinstance(term, Pattern):
            parts.append(term)
        else:
            number += term
    return Sum(tuple(parts), number, free)


def _equal(number: float, wanted: float, tensor: gs.Tensor, found: State) -> Iterator[State]:
    tolerance = _COARSE.get(str(tensor.dtype and np.dtype(tensor.dtype)), RELATIVE)
    if math.isclose(number, wanted, rel_tol=tolerance):
        yield found
    else:
        found.trail.miss(found, f"{named(tensor)} has the constant {number:g}, not {wanted:g}")


Parts = tuple[Pattern, ...]
Partial = Iterator[tuple[float, State]]
"""What a tensor is besides the parts that were found: the number, product or sum of the rest."""


def _factors(tensor: gs.Tensor, factors: Parts, state: State) -> Partial:
    """Every way in which a tensor is the product of factors and a number."""
    if not factors:
        yield from _number(tensor, state)
        return
    if len(factors) == 1 and not isinstance(factors[0], Inverse | Product):
        for found in factors[0].find(tensor, state):
            yield 1.0, found
    tensor, steps = behind(tensor)
    node = maker(tensor)
    if node is None or node.op not in _PRODUCTS:
        return
    yield from _PRODUCTS[node.op](node, factors, state.past(*steps, node))


def _number(tensor: gs.Tensor, state: State) -> Partial:
    number = scalar(tensor)
    if number is None:
        state.trail.miss(state, f"{named(tensor)} is no constant of one element")
    else:
        yield number, state


def _mul(node: gs.Node, factors: Parts, state: State) -> Partial:
    for left, right in _splits(factors, node):
        for a, b, found in _both(node, left, right, _factors, state):
            yield a * b, found


def _div(node: gs.Node, factors: Parts, state: State) -> Partial:
    for above, below in _splits(factors, node):
        if all(isinstance(factor, Inverse) for factor in below):
            for a, b, found in _both(node, above, _inverted(below), _factors, state):
                yield a / b if b else math.inf, found


def _reciprocal(node: gs.Node, factors: Parts, state: State) -> Partial:
    if all(isinstance(factor, Inverse) for factor in factors):
        for below, found in _factors(node.inputs[0], _inverted(factors), state):
            yield 1 / below if below else math.inf, found


def _pow(node: gs.Node, factors: Parts, state: State) -> Partial:
    """``x ** 3`` is three factors x; ``x ** -1`` is an inverse, ``x ** 0.5`` a root."""
    exponent, base = scalar(node.inputs[1]), node.inputs[0]
    one = factors[0]
    if exponent == len(factors) and all(factor == one for factor in factors):
        for number, found in _factors(base, (one,), state):
            yield math.prod([number] * len(factors)), found
    elif exponent == -1 and len(factors) == 1 and isinstance(one, Inverse):
        yield from _reciprocal(node, factors, state)
    elif exponent == (-0.5 if isinstance(one, Inverse) else 0.5) and len(factors) == 1:
        root = one.pattern if isinstance(one, Inverse) else one
        if isinstance(root, Op) and root.ops == ("Sqrt",):
            yield from ((1.0, found) for found in root.operands[0].find(base, state))
    else:
        state.trail.miss(state, f"{named(node.outputs[0])} raises to the power of {exponent}")


_PRODUCTS = {"Mul": _mul, "Div": _div, "Reciprocal": _reciprocal, "Pow": _pow}
"""How factors lie in what an op computes."""


def _both(
    node: gs.Node,
    left: Parts,
    right: Parts,
    search: Callable[[gs.Tensor, Parts, State], Partial],
    state: State,
) -> Iterator[tuple[float, float, State]]:
    """Every way in which two operands hold their parts, a number looked at last."""
    order = (0, 1) if left else (1, 0)
    for one, found in search(node.inputs[order[0]], left or right, state):
        for other, both in search(node.inputs[order[1]], right if left else (), found):
            a, b = (one, other) if left else (other, one)
            yield a, b, both


def _splits(parts: Parts, node: gs.Node) -> Iterator[tuple[Parts, Parts]]:
    """Every way to share parts out to two operands, equal parts being all the same. A number
    holds none, but may be a value."""
    seen: list[Parts] = []
    numbers = [scalar(tensor) is not None for tensor in node.inputs]
    for sides in every((True, False), repeat=len(parts)):
        left = tuple(part for part, side in zip(parts, sides, strict=True) if side)
        right = tuple(part for part, side in zip(parts, sides, strict=True) if not side)
        held = [side for side, number in zip((left, right), numbers, strict=True) if number]
        empty = all(not side or (isinstance(side[0], Value) and len(side) == 1) for side in held)
        if left not in seen and empty:
            seen.append(left)
            yield left, right


def _inverted(factors: Parts) -> Parts:
    return tuple(f.pattern for f in factors if isinstance(f, Inverse))


def _terms(tensor: gs.Tensor, terms: Parts, state: State) -> Partial:
    """Every way in which a tensor is the sum of terms and a number."""
    if not terms:
        yield from _number(tensor, state)
        return
    if len(terms) == 1:
        for found in terms[0].find(tensor, state):
            yield 0.0, found
    tensor, steps = behind(tensor)
    node = maker(tensor)
    if node is None or node.op not in ("Add", "Sub"):
        return
    sign = 1 if node.op == "Add" else -1
    state = state.past(*steps, node)
    for left, right in _splits(terms, node):
        if sign > 0 or not right:
            for a, b, found in _both(node, left, right, _terms, state):
                yield a + sign * b, found
