"""The algebra of sizes: a size is a number, or a polynomial in symbols."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from itertools import pairwise, product
from typing import TypeAlias

_Symbols: TypeAlias = tuple[str, ...]
"""A product of symbols, sorted; of none, 1."""


@dataclass(frozen=True)
class Size:
    """A sum of products of symbols, each times a number that is not 0.

    ``terms``: products and numbers, sorted; at least one product has symbols. A size of a tensor
    has no number below 0; a value computed from sizes may have.
    """

    terms: tuple[tuple[_Symbols, int], ...]

    def __mul__(self, other: Dim) -> Dim:
        terms: Counter[_Symbols] = Counter()
        for (a, m), (b, n) in product(_terms(self), _terms(other)):
            terms[tuple(sorted(a + b))] += m * n
        return _dim(terms)

    __rmul__ = __mul__

    def __str__(self) -> str:
        return " + ".join(_written(*term) for term in self.terms)

    @cached_property
    def symbols(self) -> frozenset[str]:
        """All symbols in it."""
        return frozenset(symbol for symbols, _ in self.terms for symbol in symbols)

    @cached_property
    def newest(self) -> int:
        """The highest number of its symbols of which nothing is known; -1 if there is none."""
        numbers = (s.removeprefix(UNKNOWN) for s in self.symbols if s.startswith(UNKNOWN))
        return max(map(int, numbers), default=-1)

    @cached_property
    def is_length(self) -> bool:
        """Whether it may be the size of an axis."""
        return is_natural(self) and not is_large(self)


Dim: TypeAlias = int | Size
Shape: TypeAlias = tuple[Dim, ...]

UNKNOWN = "?"
"""How the symbol of a size begins of which nothing is known."""


_MANY = 64
"""Terms and symbols of a size above which it is not followed."""


def named(name: str) -> Size:
    """The size that is this symbol and no more."""
    return Size((((name,), 1),))


def is_unknown(dim: Dim, since: int = 0) -> bool:
    """Whether nothing is known of a part of a size. ``since``: the number of the first such symbol
    that counts."""
    return isinstance(dim, Size) and dim.newest >= since


@lru_cache(1 << 16)
def symbol(text: str) -> Dim:
    """The size that ``text`` names: "batch", "2*batch", "past + 1", "batch*(past + 1)".

    What is written with other signs, "length // 2", is one symbol.
    """
    text = text.strip()
    terms, factors = _split(text, "+"), _split(text, "*")
    if len(terms) > 1 and all(terms):
        return reduce(plus, map(symbol, terms))
    if len(factors) > 1 and all(factors) and not re.search("[-/%]", _bare(text).lstrip("-")):
        return math.prod(map(symbol, factors), start=1)
    if re.fullmatch("-?[0-9]+", text):
        return int(text)
    bracketed = text.startswith("(") and not _bare(text).strip(_BLANK)
    return symbol(text[1:-1]) if bracketed else named(text)


def total(shape: Shape) -> Dim:
    """How many elements a tensor has."""
    return math.prod(shape, start=1)


def plus(a: Dim, b: Dim) -> Dim:
    """a + b."""
    terms = Counter(dict(_terms(a)))
    terms.update(dict(_terms(b)))
    return _dim(terms)


def minus(a: Dim, b: Dim) -> Dim:
    """a - b, which may be below 0."""
    return plus(a, -1 * b)


def is_natural(dim: Dim) -> bool:
    """Whether it is 0 or more whatever the symbols are, as sizes are."""
    return all(number > 0 for _, number in _terms(dim))


def is_large(dim: Dim) -> bool:
    """Whether it is no size that a graph which runs computes."""
    if isinstance(dim, int):
        return abs(dim) >= 1 << 63
    numbers = any(abs(number) >= 1 << 31 for _, number in dim.terms)
    return numbers or sum(1 + len(symbols) for symbols, _ in dim.terms) > _MANY


def over(a: Dim, b: Dim) -> Dim | None:
    """a / b, where it is whole whatever the symbols are."""
    if b == 0:
        return None
    below, divisor = _leading(b)
    result: Dim = 0
    while a != 0:
        above, number = _leading(a)
        symbols = Counter(above)
        symbols.subtract(below)
        if number % divisor or min(symbols.values(), default=0) < 0:
            return None
        step = _dim({tuple(sorted(symbols.elements())): number // divisor})
        a, result = minus(a, step * b), plus(result, step)
    return result


def evaluated(dim: Dim, size_of: Callable[[str], int]) -> int:
    """The number that a size is where its symbols are numbers."""
    return sum(number * math.prod(map(size_of, symbols)) for symbols, number in _terms(dim))


def _terms(dim: Dim) -> tuple[tuple[_Symbols, int], ...]:
    return dim.terms if isinstance(dim, Size) else (((), dim),) if dim else ()


def _dim(terms: Mapping[_Symbols, int]) -> Dim:
    held = tuple(sorted((symbols, number) for symbols, number in terms.items() if number))
    return Size(held) if any(symbols for symbols, _ in held) else sum(n for _, n in held)


def _leading(dim: Dim) -> tuple[_Symbols, int]:
    """The term of most symbols, of these the first: products keep this order."""
    return min(_terms(dim), key=lambda term: (-len(term[0]), term[0]))


def _written(symbols: _Symbols, number: int) -> str:
    if number == 1 and len(symbols) == 1:
        return symbols[0]
    factors = [str(number)] if number != 1 or not symbols else []
    return "*".join([*factors, *(f"({s})" if re.search("[-/%]", s) else s for s in symbols)])


_BLANK = "_"


def _bare(text: str) -> str:
    """The text with blanks for all that stands in brackets."""
    while (bare := re.sub(r"\([^()]*\)", lambda found: _BLANK * len(found[0]), text)) != text:
        text = bare
    return text


def _split(text: str, sign: str) -> list[str]:
    """What stands between signs that are in no brackets."""
    places = [-1, *(i for i, c in enumerate(_bare(text)) if c == sign), len(text)]
    return [text[a + 1 : b].strip() for a, b in pairwise(places)]
