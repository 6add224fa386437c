"""Sizes that a graph's inputs have, read off the inputs themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.metadata import RESERVED, annotate
from sardonyx.passes.origin import label, maker
from sardonyx.passes.sizes import Dim, Size, Sizes

_SHAPE_CUTS = 15
"""The first operator set in which a Shape can leave out axes."""


@dataclass(frozen=True)
class Source:
    """Where sizes stand: axes of an input. ``single``: one size, as a scalar."""

    tensor: gs.Tensor
    axes: tuple[int, ...]
    single: bool


@dataclass
class InputSizes:
    """The first input, and its axis, that has each size, to be asked for in ``scope``. ``asked``:
    by id of an input, the node that makes its whole shape, which is to stand at the start."""

    graph: gs.Graph
    scope: gs.Graph
    sizes: Sizes
    made_by: str
    asked: dict[int, gs.Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._inputs = set(map(id, self.graph.inputs))
        self._places: dict[Dim, tuple[gs.Tensor, int]] = {}
        for tensor in self.graph.inputs:
            for axis, dim in enumerate(self.sizes.shape(tensor) or ()):
                if isinstance(dim, Size):
                    self._places.setdefault(dim, (tensor, axis))

        for node in self.scope.nodes:
            if node.op == "Shape" and self._asks(node) and not node.attrs.keys() - {*RESERVED}:
                self.asked.setdefault(id(node.inputs[0]), node)

    def source(self, node: gs.Node, shape: tuple[int, ...], held: Sequence[Any]) -> Source | None:
        """The one input that has all sizes which a node makes, unless it is asked already."""
        place = next((i for i, size in enumerate(held) if isinstance(size, Size)), 0)
        if len(shape) > 1 or self._asks(node) or held[place] not in self._places:
            return None
        tensor, axis = self._places[held[place]]
        start = axis - place
        if start >= 0 and (self.sizes.shape(tensor) or ())[start : start + len(held)] == held:
            return Source(tensor, tuple(range(start, start + len(held))), not shape)
        places = [self._places.get(size) for size in held]
        axes = tuple(found[1] for found in places if found and found[0] is tensor)
        return Source(tensor, axes, not shape) if len(axes) == len(held) else None

    def _asks(self, node: gs.Node) -> bool:
        """Whether a node gives sizes of an input as they are."""
        if node.op == "Gather" and isinstance(node.inputs[1], gs.Constant):
            node = maker(node.inputs[0]) or node
        return node.op == "Shape" and any(id(x) in self._inputs for x in node.inputs)

    def ask(self, node: gs.Node, source: Source) -> tuple[str, list[gs.Tensor], dict[str, int]]:
        """Op, inputs and attributes of what makes the output of a node from a source."""
        x, (first, *_), end = source.tensor, source.axes, source.axes[0] + len(source.axes)
        in_row = not source.single and source.axes == tuple(range(first, end))
        if in_row and len(source.axes) == len(self.sizes.shape(x) or ()):
            return "Shape", [x], {}
        if in_row and self.sizes.opset >= _SHAPE_CUTS:
            return "Shape", [x], {"start": first, "end": end}
        held = np.array(first if source.single else source.axes, np.int64)
        chosen = gs.Constant(f"{label(node)}/axes", held)
        return "Gather", [self._shape(x), chosen], {}

    def _shape(self, x: gs.Tensor) -> gs.Tensor:
        if id(x) not in self.asked or not self.asked[id(x)].outputs:
            shape = gs.Variable(f"{x.name}/Shape:0", np.dtype(np.int64))
            self.asked[id(x)] = gs.Node("Shape", f"{x.name}/Shape", {}, [x], [shape])
            annotate(self.asked[id(x)], **{"pass": self.made_by})
        return self.asked[id(x)].outputs[0]
