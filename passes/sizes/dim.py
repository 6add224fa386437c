"""The algebra of sizes: a size is a number, or a number times symbols."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Size:
    """``number`` times ``symbols`` (sorted, at least one); a sum is a symbol "a + b" itself."""

    number: int
    symbols: tuple[str, ...]

    def __mul__(self, other: Dim) -> Dim:
        if isinstance(other, int):
            return Size(self.number * other, self.symbols) if other else 0
        return Size(self.number * other.number, tuple(sorted(self.symbols + other.symbols)))

    __rmul__ = __mul__

    def __str__(self) -> str:
        parts = [str(self.number)] if self.number != 1 else []
        return "*".join([*parts, *(f"({s})" if _is_sum(s) else s for s in self.symbols)])


UNKNOWN = "?"
"""How the symbol of a size begins of which nothing is known."""

Dim: TypeAlias = int | Size
Shape: TypeAlias = tuple[Dim, ...]


def is_unknown(dim: Dim, since: int = 0) -> bool:
    """Whether nothing is known of a size. ``since``: the number of the first that counts."""
    if isinstance(dim, int) or not dim.symbols[0].startswith(UNKNOWN):
        return False
    first = dim.symbols[0].removeprefix(UNKNOWN)
    return not first.isdigit() or int(first) >= since


def symbol(text: str) -> Dim:
    """The size that ``text`` names: "batch", "2*batch", "past + 1", "batch*(past + 1)"."""
    if "+" in re.sub(r"\(.*?\)", "", text):
        return Size(1, (" + ".join(sorted(term.strip() for term in text.split("+"))),))
    factors = [factor.strip("() ") for factor in text.split("*")]
    number = math.prod(int(factor) for factor in factors if factor.isdigit())
    symbols = [symbol(f) if "+" in f else Size(1, (f,)) for f in factors if not f.isdigit()]
    return math.prod(symbols, start=number)


def total(shape: Shape) -> Dim:
    """How many elements a tensor has."""
    return math.prod(shape, start=1)


def plus(a: Dim, b: Dim) -> Dim:
    """a + b."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if 0 in (a, b):
        return b if a == 0 else a
    if isinstance(a, Size) and isinstance(b, Size) and a.symbols == b.symbols:
        return Size(a.number + b.number, a.symbols)
    return Size(1, (" + ".join(sorted(_terms(a) + _terms(b))),))


def minus(a: Dim, b: Dim) -> Dim | None:
    """a - b, where it is no less than 0 whatever the symbols are."""
    if isinstance(a, int) and isinstance(b, int):
        return a - b
    if b == 0:
        return a
    rest = Counter(_terms(a))
    rest.subtract(_terms(b))
    if min(rest.values()) < 0:
        return None
    left = [*rest.elements()]
    return symbol(" + ".join(left)) if left and not left[0].isdigit() else None if left else 0


def over(a: Dim, b: Dim) -> Dim | None:
    """a / b, where it is whole whatever the symbols are."""
    number, rest = _number(a), Counter(_symbols(a))
    rest.subtract(_symbols(b))
    below = _number(b)
    if below == 0 or number % below or any(held < 0 for held in rest.values()):
        return None
    symbols = tuple(sorted(rest.elements()))
    return Size(number // below, symbols) if symbols and number else number // below


def evaluated(dim: Dim, size_of: Callable[[str], int]) -> int:
    """The number that a size is where its symbols are numbers."""
    if isinstance(dim, int):
        return dim
    sums = [[int(t) if t.isdigit() else size_of(t) for t in _split(s)] for s in dim.symbols]
    return dim.number * math.prod(map(sum, sums))


def _number(a: Dim) -> int:
    return a if isinstance(a, int) else a.number


def _symbols(a: Dim) -> tuple[str, ...]:
    return () if isinstance(a, int) else a.symbols


def _terms(a: Dim) -> list[str]:
    plain = isinstance(a, Size) and a.number == 1 and len(a.symbols) == 1
    return _split(a.symbols[0]) if plain and isinstance(a, Size) else [str(a)]


def _split(symbols: str) -> list[str]:
    return symbols.split(" + ")


def _is_sum(symbols: str) -> bool:
    return " + " in symbols
