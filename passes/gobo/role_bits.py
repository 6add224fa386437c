"""How many bits a weight gets: by what it is for, and in which layer it stands."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sardonyx.passes.roles import Place, Role

Bits = Annotated[int, Field(ge=2, le=8)]

Key = Literal["default", Role]


def bits_table(bits: Any) -> Any:
    """``3`` as ``{"default": 3}``; a table as it is."""
    return bits if isinstance(bits, Mapping) else {"default": bits}


BitsTable = Annotated[dict[Key, Bits], BeforeValidator(bits_table)]
"""Bits by role; ``default`` for all roles that are not named."""

LayerCounts = dict[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=0)]]
"""By a model's number of layers, how many of the first ones differ from the rest."""


def bits_for(place: Place, table: Mapping[Any, int], counts: Mapping[int, int], depth: int) -> int:
    """Bits of a weight at ``place`` in a model of ``depth`` layers.

    A role's own bits hold in the first layers only, as many as ``counts`` says (all, if it is
    empty). A packed matrix without bits of its own gets the most that any of its parts would.
    """
    default = table.get("default", 3)
    if counts and place.layer is not None and place.layer >= first_layers(counts, depth):
        return default
    packed = place.role == "query_key_value" and place.role not in table
    roles = ("query", "key", "value") if packed else (place.role,)
    return max(table.get(role, default) for role in roles)


def first_layers(counts: Mapping[int, int], depth: int) -> int:
    """How many layers ``counts`` means; for a depth it does not name, the nearest one's share."""
    nearest = min(counts, key=lambda known: (abs(known - depth), known))
    return -(-counts[nearest] * depth // nearest)
