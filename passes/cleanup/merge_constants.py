"""merge-constants: what several constants hold alike is stored once."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import SparseValues

from sardonyx.passes.base import Pass
from sardonyx.passes.journal import Journal
from sardonyx.passes.rewrite import reread
from sardonyx.passes.scopes import all_constants, all_outputs, bodies
from sardonyx.passes.weights import values_of

_SAMPLE = 256
"""Elements that must agree before all of two constants are read."""


@dataclass(frozen=True)
class MergeConstants(Pass):
    """``c = [1, 2] ... d = [1, 2]``  ->  c, read in place of d.

    Constants of any size, of equal type, shape and bytes: -0 is not 0. A body of If, Loop or Scan
    reads what the graph around it holds. Does not fire where

    1. c or d is an output of its graph,
    2. d is also an input of the model, which callers may override,
    3. sibling bodies alone read c and d,
    4. they hold strings, or are sparse.
    """

    name: ClassVar[str] = "merge-constants"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Merge from the first reader to the last."""
        outputs = all_outputs(graph)
        contents = _contents(c for c in all_constants(graph) if id(c) not in outputs)
        return _merge(graph, contents, {})


def _merge(graph: gs.Graph, contents: dict[int, Hashable], seen: dict[Hashable, gs.Tensor]) -> int:
    """Merge in a graph and those inside it. ``seen``: what those around it read, by contents."""
    seen, gone = dict(seen), set()
    for node in graph.nodes:
        for slot, tensor in enumerate(node.inputs):
            held = contents.get(id(tensor))
            first = tensor if held is None else seen.setdefault(held, tensor)
            if first is not tensor:
                gone.add(id(tensor))
                reread(node, slot, first)
    inside = [body for node in graph.nodes for body in bodies(node)]
    return len(gone) + sum(_merge(body, contents, seen) for body in inside)


def _contents(constants: Iterable[gs.Constant]) -> dict[int, Hashable]:
    """By id, what constants hold that hold the same as another; the rest are not read as a whole.

    Of large ones a hash that nobody has seen two contents share stands for it.
    """
    plain = [c for c in constants if np.dtype(c.dtype).kind != "O" and not _is_sparse(c)]
    kinds = _several((c, (str(c.dtype), tuple(c.shape))) for c in plain)
    samples = _several((c, (kind, _sample(c))) for c, kind in kinds)
    return {id(c): held for c, held in _several((c, (k, _whole(c))) for c, k in samples)}


def _several(keyed: Iterable[tuple[gs.Constant, Hashable]]) -> list[tuple[gs.Constant, Hashable]]:
    """Those that share their key with another."""
    pairs = list(keyed)
    count = Counter(key for _, key in pairs)
    return [(constant, key) for constant, key in pairs if count[key] > 1]


def _sample(constant: gs.Constant) -> bytes:
    """Bytes of some elements, of a small constant of all."""
    size = math.prod(constant.shape)
    places = np.linspace(0, size - 1, _SAMPLE, dtype=np.int64)
    if size > _SAMPLE and hasattr(constant._values, "sample"):
        return bytes(constant._values.sample(places).tobytes())
    values = values_of(constant).reshape(-1)
    return (values if size <= _SAMPLE else values[places]).tobytes()


def _whole(constant: gs.Constant) -> bytes:
    """Empty for a constant that the sample holds whole; else a hash of it."""
    if math.prod(constant.shape) <= _SAMPLE:
        return b""
    values = np.ascontiguousarray(values_of(constant)).reshape(-1)
    return hashlib.blake2b(values.view(np.uint8).data).digest()


def _is_sparse(constant: gs.Constant) -> bool:
    return isinstance(constant._values, SparseValues)
