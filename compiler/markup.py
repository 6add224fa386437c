"""markup: elements of a page (HTML and the SVG in it) as text, and numbers as people read them."""

from collections.abc import Iterable
from html import escape

_VOID = {"input", "meta"}
_PREFIXES = {-4: "p", -3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}
"""Of powers of 1000."""


def element(name: str, /, *content: str, **attributes: object) -> str:
    """An element around ``content``, which is markup already (`text` makes some of plain text).

    Of attribute names, ``_`` at the end is dropped, other ``_`` become ``-``.
    """
    pairs = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
    ]
    start = f"<{name}{''.join(pairs)}"
    return f"{start} />" if name in _VOID else f"{start}>{''.join(content)}</{name}>"


def text(plain: object) -> str:
    """Plain text as markup."""
    return escape(str(plain), quote=False)


def exact(value: float, shown: str) -> str:
    """A figure as it is shown, which carries the exact one for whom it is not enough."""
    return element("data", text(shown), value=repr(value), title=f"{value:,}")


def amount(value: float, unit: str, scale: float = 1.0) -> str:
    """``value`` times ``scale``, to three digits with the prefix of its size: 45.1 ms."""
    return exact(value, rounded(value * scale, unit))


def rounded(value: float, unit: str) -> str:
    """A quantity to three digits, with the prefix of its size, as plain text."""
    power = 0
    if value:
        power = decade(float(f"{value:.2e}")) // 3  # 999.6 is 1.00 k
        power = min(max(power, min(_PREFIXES)), max(_PREFIXES))
    scaled = value / 1000.0**power
    digits = 0 if scaled == int(scaled) and abs(scaled) < 1000 and not power else _decimals(scaled)
    return f"{scaled:.{digits}f} {_PREFIXES[power]}{unit}".strip()


def _decimals(scaled: float) -> int:
    """Decimals that leave three digits."""
    return 0 if abs(scaled) >= 99.95 else 1 if abs(scaled) >= 9.995 else 2


def decade(value: float) -> int:
    """The power of ten of a number's first digit."""
    return int(f"{value:.17e}".partition("e")[2])


def percent(share: float) -> str:
    """A place or a length of a drawing: its share of the whole."""
    return f"{100 * share:.4f}".rstrip("0").rstrip(".") + "%"


def ticks(end: float, most: int) -> list[float]:
    """Round numbers from 0 up to ``end``, ``most`` + 1 of them at most."""
    step = 10.0 ** decade(end / most)
    step *= next(factor for factor in (1, 2, 5, 10, 20) if factor * step * most >= end)
    return [step * number for number in range(int(end / step + 1e-9) + 1)]


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of markup that scrolls where it is too wide."""
    head = element("tr", *(element("th", cell, scope="col") for cell in header))
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    whole = element("table", element("thead", head), element("tbody", *body))
    return element("div", whole, class_="scroll")
