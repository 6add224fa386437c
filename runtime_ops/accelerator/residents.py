"""Which activations stay on the chip from the layer that writes them to the last that reads them.

They lie in the activation buffer, beside the tiles of what does not stay. Those with the shortest
lives are tried first; one stays if the layers that it spans then cost no more (`schedule`), with
what they save in moving it and lose in room for tiles.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sardonyx.runtime_ops.accelerator.work import Layer

Cost = Callable[[Layer, frozenset[str], int], float]
"""Cost of a layer, given what stays of all activations and the bytes that are left for tiles."""


@dataclass(frozen=True)
class Residents:
    """Names of the activations that stay, and the bytes left for tiles at each layer."""

    names: frozenset[str]
    room: tuple[int, ...]


@dataclass(frozen=True)
class _Life:
    name: str
    nbytes: int
    first: int
    last: int


def residents(layers: Sequence[Layer], capacity: int, cost: Cost) -> Residents:
    """Choose what stays in an activation buffer of ``capacity`` bytes."""
    names: frozenset[str] = frozenset()
    room = [capacity] * len(layers)
    for life in sorted(_lives(layers), key=lambda life: life.last - life.first):
        span = range(life.first, life.last + 1)
        if any(room[number] < life.nbytes for number in span):
            continue
        more = names | {life.name}
        before = sum(cost(layers[n], names, room[n]) for n in span)
        after = sum(cost(layers[n], more, room[n] - life.nbytes) for n in span)
        if after <= before:
            names = more
            for number in span:
                room[number] -= life.nbytes
    return Residents(names, tuple(room))


def _lives(layers: Sequence[Layer]) -> Iterator[_Life]:
    """What is written and then read on the chip."""
    read: dict[str, int] = {}
    on_host: set[str] = set()
    for number, layer in enumerate(layers):
        read |= {value.name: number for value in layer.reads}
        if layer.on == "host":
            on_host |= {value.name for value in (*layer.reads, *layer.writes)}
    for number, layer in enumerate(layers):
        for value in layer.writes:
            if value.name in read and value.name not in on_host:
                yield _Life(value.name, value.nbytes, number, read[value.name])
