"""Patterns that read as the formula they find, however an exporter wrote it down.

    x = Value("x")
    gelu = x * (1 + op("Erf", x / math.sqrt(2))) * 0.5

Products and sums are found as such: in any order and grouping, powers written out or not, numbers
multiplied into one. A miss says how far the best attempt came and what stood in its way.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product as every
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from sardonyx.passes.weights import values_of

RELATIVE = 1e-5
"""How far a constant in a graph may be from a formula's: exporters write about 6 digits."""


@dataclass
class Trail:
    """The reason for which the attempt that came farthest failed."""

    depth: int = -1
    reason: str = ""

    def miss(self, state: State, reason: str) -> None:
        """Take down a reason, unless an attempt came farther before."""
        if len(state.nodes) > self.depth:
            self.depth, self.reason = len(state.nodes), reason


@dataclass(frozen=True)
class State:
    """What an attempt found: tensors and numbers by name, nodes from the last to the first."""

    trail: Trail
    values: dict[str, gs.Tensor] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    nodes: tuple[gs.Node, ...] = ()

    def past(self, *nodes: gs.Node) -> State:
        """With more nodes."""
        return replace(self, nodes=(*self.nodes, *nodes))


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
        else:
            state.trail.miss(state, f"{self.name} is '{known.name}' and '{tensor.name}'")


@dataclass(frozen=True)
class Scalar(Pattern):
    """Any constant of one element."""

    name: str

    def find(self, tensor: gs.Tensor, state: State) -> Iterator[State]:
        number = scalar(tensor)
        if number is None:
            state.trail.miss(state, f"{self.name} is no constant: {_named(tensor)}")
        else:
            yield replace(state, numbers=state.numbers | {self.name: number})


@dataclass(frozen=True)
class Op(Pattern):
    """An output of one of some ops. ``judge``: says why such a node is not the one meant."""

    ops: tuple[str, ...]
    operands: tuple[Pattern, ...]
    judge: Callable[[gs.Node], str]

    def find(self, tensor: gs.Tensor, state: State) -> Iterator[State]:
        tensor, steps = behind(tensor)
        node = maker(tensor)
        if node is None or node.op not in self.ops:
            state.trail.miss(state, f"{_named(tensor)} is no {' or '.join(self.ops)}")
            return
        reason = self.judge(node)
        if reason:
            state.trail.miss(state, f"{_named(tensor)} {reason}")
            return
        found = [state.past(*steps, node)]
        for pattern, operand in zip(self.operands, node.inputs, strict=False):
            found = [later for one in found for later in pattern.find(operand, one)]
        yield from found


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
    """A product of factors, an `Inverse` one perhaps below a fraction line, and of a number."""

    factors: tuple[Pattern, ...]
    number: float = 1.0

    def find(self, tensor: gs.Tensor, state: State) -> Iterator[State]:
        for number, found in _factors(tensor, self.factors, state):
            yield from _equal(number, self.number, tensor, state, found)


@dataclass(frozen=True)
class Sum(Pattern):
    """A sum of terms and of a number."""

    terms: tuple[Pattern, ...]
    number: float = 0.0

    def find(self, tensor: gs.Tensor, state: State) -> Iterator[State]:
        for number, found in _terms(tensor, self.terms, state):
            yield from _equal(number, self.number, tensor, state, found)


def _product(*factors: Pattern | float) -> Pattern:
    parts: list[Pattern] = []
    number = 1.0
    for factor in factors:
        if isinstance(factor, Product):
            parts += factor.factors
            number *= factor.number
        elif isinstance(factor, Pattern):
            parts.append(factor)
        else:
            number *= factor
    return Product(tuple(parts), number)


def _sum(*terms: Pattern | float) -> Pattern:
    parts: list[Pattern] = []
    number = 0.0
    for term in terms:
        if isinstance(term, Sum):
            parts += term.terms
            number += term.number
        elif isinstance(term, Pattern):
            parts.append(term)
        else:
            number += term
    return Sum(tuple(parts), number)


def _equal(
    number: float, wanted: float, tensor: gs.Tensor, state: State, found: State
) -> Iterator[State]:
    if math.isclose(number, wanted, rel_tol=RELATIVE):
        yield found
    else:
        state.trail.miss(found, f"{_named(tensor)} has the constant {number:g}, not {wanted:g}")


def _factors(
    tensor: gs.Tensor, factors: tuple[Pattern, ...], state: State
) -> Iterator[tuple[float, State]]:
    """Every way in which a tensor is the product of factors and a number."""
    tensor, steps = behind(tensor)
    number = scalar(tensor)
    if not factors:
        if number is not None:
            yield number, state
        return
    if len(factors) == 1 and not isinstance(factors[0], Inverse | Product):
        for found in factors[0].find(tensor, state):
            yield 1.0, found
    node = maker(tensor)
    if node is None:
        return
    state = state.past(*steps, node)
    if node.op == "Mul":
        yield from _both(node, factors, state, _factors, lambda a, b: a * b)
    elif node.op == "Div":
        yield from _quotient(node, factors, state)
    elif node.op == "Reciprocal" and all(isinstance(f, Inverse) for f in factors):
        for below, found in _factors(node.inputs[0], _inverted(factors), state):
            yield 1 / below, found
    elif node.op == "Pow":
        yield from _power(node, factors, state)


def _both(
    node: gs.Node,
    parts: tuple[Pattern, ...],
    state: State,
    search: Callable[..., Iterator[tuple[float, State]]],
    join: Callable[[float, float], float],
) -> Iterator[tuple[float, State]]:
    """Every way to share parts out to the two operands of a node."""
    for sides in every((True, False), repeat=len(parts)):
        left = tuple(part for part, side in zip(parts, sides, strict=True) if side)
        right = tuple(part for part, side in zip(parts, sides, strict=True) if not side)
        for a, found in search(node.inputs[0], left, state):
            for b, both in search(node.inputs[1], right, found):
                yield join(a, b), both


def _quotient(
    node: gs.Node, factors: tuple[Pattern, ...], state: State
) -> Iterator[tuple[float, State]]:
    inverses = [f for f in factors if isinstance(f, Inverse)]
    for sides in every((True, False), repeat=len(inverses)):
        below = tuple(f for f, side in zip(inverses, sides, strict=True) if side)
        above = tuple(f for f in factors if not any(f is g for g in below))
        for a, found in _factors(node.inputs[0], above, state):
            for b, both in _factors(node.inputs[1], _inverted(below), found):
                yield a / b, both


def _inverted(factors: tuple[Pattern, ...]) -> tuple[Pattern, ...]:
    return tuple(f.pattern for f in factors if isinstance(f, Inverse))


def _power(
    node: gs.Node, factors: tuple[Pattern, ...], state: State
) -> Iterator[tuple[float, State]]:
    """``x ** 3`` is three factors x; ``x ** -1`` is an inverse, ``x ** -0.5`` that of a root."""
    exponent = scalar(node.inputs[1])
    if exponent == len(factors) and all(factor == factors[0] for factor in factors):
        for number, found in _factors(node.inputs[0], factors[:1], state):
            yield number**exponent, found
    elif len(factors) == 1 and isinstance(factors[0], Inverse):
        pattern = factors[0].pattern
        if exponent == -1:
            for number, found in _factors(node.inputs[0], (pattern,), state):
                yield 1 / number, found
        elif exponent == -0.5 and isinstance(pattern, Op) and pattern.ops == ("Sqrt",):
            for found in pattern.operands[0].find(node.inputs[0], state):
                yield 1.0, found


def _terms(
    tensor: gs.Tensor, terms: tuple[Pattern, ...], state: State
) -> Iterator[tuple[float, State]]:
    """Every way in which a tensor is the sum of terms and a number."""
    tensor, steps = behind(tensor)
    number = scalar(tensor)
    if not terms:
        if number is not None:
            yield number, state
        return
    if len(terms) == 1:
        for found in terms[0].find(tensor, state):
            yield 0.0, found
    node = maker(tensor)
    if node is not None and node.op == "Add":
        yield from _both(node, terms, state.past(*steps, node), _terms, lambda a, b: a + b)


def behind(tensor: gs.Tensor) -> tuple[gs.Tensor, tuple[gs.Node, ...]]:
    """The tensor that Identity and a Cast to its own type pass on, and these nodes."""
    steps = []
    while (node := maker(tensor)) is not None and _passes_on(node):
        steps.append(node)
        tensor = node.inputs[0]
    return tensor, tuple(steps)


def _passes_on(node: gs.Node) -> bool:
    if node.op != "Cast":
        return bool(node.op == "Identity")
    dtype = node.inputs[0].dtype
    return dtype is not None and node.attrs["to"] == onnx.helper.np_dtype_to_tensor_dtype(
        np.dtype(dtype)
    )


def maker(tensor: gs.Tensor) -> gs.Node | None:
    """The standard op that makes a tensor, if one does."""
    node = tensor.inputs[0] if tensor.inputs else None
    return node if node is not None and node.domain in (None, "", "ai.onnx") else None


def scalar(tensor: gs.Tensor) -> float | None:
    """The value of a constant of one element."""
    tensor, _ = behind(tensor)
    if not isinstance(tensor, gs.Constant) or math.prod(tensor.shape) != 1:
        return None
    value: Any = values_of(tensor).reshape(())[()]
    return float(value)


def _named(tensor: gs.Tensor) -> str:
    if isinstance(tensor, gs.Constant):
        return f"the constant '{tensor.name}'"
    if not tensor.inputs:
        return f"the input '{tensor.name}'"
    return f"{tensor.inputs[0].op} '{tensor.inputs[0].name or tensor.name}'"
