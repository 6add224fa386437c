"""Bits by role and layer: the table, its first layers, and what the gobo pass makes of it."""

from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from sardonyx.models import TINY_BERT, EncoderConfig, seeded_bert
from sardonyx.passes.gobo.encode import Gobo
from sardonyx.passes.gobo.role_bits import (
    BitsTable,
    Key,
    LayerCounts,
    bits_for,
    bits_table,
    first_layers,
)
from sardonyx.passes.roles import ROLES, Place

PAPER = {12: 6, 24: 14}
"""GOBO's table for RoBERTa: 6 of 12 layers, 14 of 24."""


@pytest.mark.parametrize(
    ("depth", "layers"),
    [(12, 6), (24, 14), (6, 3), (1, 1), (3, 2), (18, 9), (19, 12), (48, 28), (0, 0)],
)
def test_first_layers(depth, layers):
    """A depth between two takes the share of the nearest, the smaller one at a tie, rounded up."""
    assert first_layers(PAPER, depth) == layers


@pytest.mark.parametrize(
    ("counts", "depth", "layers"), [({12: 0}, 12, 0), ({12: 0}, 6, 0), ({12: 12}, 6, 6)]
)
def test_none_and_all(counts, depth, layers):
    assert first_layers(counts, depth) == layers


@pytest.mark.parametrize(
    ("table", "role", "bits"),
    [
        ({"default": 3}, "value", 3),
        ({"default": 3, "value": 4}, "value", 4),
        ({"default": 3, "value": 4}, "key", 3),
        ({"default": 4, "value": 2}, "value", 2),
        ({"value": 4}, "key", 3),
        ({"default": 3, "head": 6}, "head", 6),
        ({"default": 3, "other": 6}, "other", 6),
    ],
)
def test_a_role_takes_its_own(table, role, bits):
    assert bits_for(Place(role, 0), table, {}, 12) == bits


@pytest.mark.parametrize(
    ("table", "bits"),
    [
        ({"default": 3}, 3),
        ({"default": 3, "value": 4}, 4),
        ({"default": 3, "query": 2, "key": 5, "value": 4}, 5),
        ({"default": 3, "query_key_value": 6, "value": 4}, 6),
        ({"default": 3, "query_key_value": 2, "value": 4}, 2),
        ({"default": 3, "ffn_in": 6}, 3),
    ],
)
def test_a_packed_matrix_takes_the_most(table, bits):
    assert bits_for(Place("query_key_value", 0), table, {}, 12) == bits


@pytest.mark.parametrize("parts", [("query",), ("query", "key"), ("query", "key", "value")])
def test_a_packed_matrix_whose_parts_ask_for_less(parts):
    """Only where all three do: a part that the table does not name asks for the default."""
    table = {"default": 3} | dict.fromkeys(parts, 2)
    want = 2 if len(parts) == 3 else 3
    assert bits_for(Place("query_key_value", 0), table, {}, 12) == want


@pytest.mark.parametrize(("layer", "bits"), [(0, 4), (5, 4), (6, 3), (11, 3), (None, 4)])
def test_only_the_first_layers(layer, bits):
    """What is outside layers takes its role's bits."""
    assert bits_for(Place("value", layer), {"default": 3, "value": 4}, PAPER, 12) == bits


def test_every_role_is_a_key():
    assert set(get_args(Key)) == {"default", *ROLES}


def test_a_number_is_a_table():
    assert bits_table(4) == {"default": 4}
    assert bits_table({"value": 4}) == {"value": 4}


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (BitsTable, {"norm": 4}, "'default', 'query', 'key'"),
        (BitsTable, {"value": 9}, "less than or equal to 8"),
        (BitsTable, {"value": 1}, "greater than or equal to 2"),
        (BitsTable, {"value": 3.5}, "valid integer"),
        (BitsTable, "three", "valid integer"),
        (LayerCounts, {0: 1}, "greater than or equal to 1"),
        (LayerCounts, {12: -1}, "greater than or equal to 0"),
    ],
)
def test_tables_are_checked(kind, value, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(kind).validate_python(value)


def taken(apply, model, **arguments):
    """Bits by role and layer."""
    entries = apply(Gobo(min_weights=1, **arguments), model).journal.encoded
    return {(e.place.role, e.place.layer): e.format.bits for e in entries}


def test_the_pass_asks_roles(apply):
    model = seeded_bert(TINY_BERT, 0, pooler=True)
    table = {"default": 2, "value": 4, "ffn_out": 5, "head": 6}
    found = taken(apply, model, bits=table, embedding_bits=3)
    assert found == {
        (role, layer): {"value": 4, "ffn_out": 5}.get(role, 2)
        for role in ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
        for layer in (0, 1)
    } | {("embedding", None): 3, ("head", None): 6}


def test_the_pass_counts_layers(apply):
    config = EncoderConfig(100, 32, 12, 2, 48, 16, position_offset=2)
    model = seeded_bert(config, 0)
    found = taken(apply, model, bits={"default": 2, "value": 4, "ffn_in": 4}, role_layers=PAPER)
    more = {
        (role, layer) for (role, layer), bits in found.items() if layer is not None and bits > 2
    }
    assert more == {(role, layer) for role in ("value", "ffn_in") for layer in range(6)}


def test_embeddings_are_a_role_too(text_model, normal, apply):
    text = "g (int64[N] I) => (float[N,64] Y) { Y = Gather (E, I) }"
    for table, bits in (({"default": 3}, 4), ({"default": 3, "embedding": 5}, 5)):
        (entry,) = apply(Gobo(bits=table), text_model(text, E=normal(100, 64))).journal.encoded
        assert entry.format.bits == bits
