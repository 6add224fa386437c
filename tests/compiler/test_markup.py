"""Numbers as people read them, and elements that parse."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from sardonyx.compiler.markup import amount, decade, element, percent, rounded, table, text, ticks


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 s"),
        (7, "7 s"),
        (0.0450549, "45.1 ms"),
        (0.9996, "1.00 s"),
        (999.6, "1.00 ks"),
        (334_512_000, "335 Ms"),
        (1.5e-13, "0.15 ps"),
        (-2500.0, "-2.50 ks"),
    ],
)
def test_three_digits(value, shown):
    assert rounded(value, "s") == shown


def test_the_exact_value_rides_along():
    """In the unit that it is in; the scale is for the eye."""
    found = ElementTree.fromstring(amount(81_712_345_678.25, "J", 1e-12))
    assert found.text == "81.7 mJ"
    assert float(found.get("value")) == 81_712_345_678.25


def test_markup_is_escaped():
    found = ElementTree.fromstring(element("p", text("a < b & c"), class_="x", data_of='"<'))
    assert (found.text, found.attrib) == ("a < b & c", {"class": "x", "data-of": '"<'})


def test_an_empty_element_is_closed_by_a_tag_of_its_own():
    """HTML reads <i /> as the start of an element; only a few may be written so."""
    assert element("i") == "<i></i>"
    assert element("meta", charset="utf-8") == '<meta charset="utf-8" />'


def test_table():
    found = ElementTree.fromstring(table(["a", "b"], [["1", "2"], ["3", "4"]]))
    assert [cell.text for cell in found.iter("th")] == ["a", "b"]
    assert [cell.text for cell in found.iter("td")] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("value", "power"), [(1, 0), (9.999999999999, 0), (10, 1), (-0.02, -2), (1e-13, -13)]
)
def test_decade(value, power):
    assert decade(value) == power


def test_percent():
    assert [percent(1 / 3), percent(1), percent(0), percent(0.105)] == [
        "33.3333%",
        "100%",
        "0%",
        "10.5%",
    ]


@pytest.mark.parametrize(("end", "most"), [(1, 4), (0.045, 5), (787448, 4), (99, 80), (3, 1)])
def test_ticks(end, most):
    marks = ticks(end, most)
    assert marks[0] == 0
    assert marks[-1] <= end * (1 + 1e-9)
    assert most / 3 < len(marks) <= most + 1
