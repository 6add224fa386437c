"""What is known of the sizes in a graph: its rules applied from the first node to the last."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TypeGuard

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import DTypeLike

from sardonyx.passes.fused import is_standard
from sardonyx.passes.sizes.dim import (
    UNKNOWN,
    Dim,
    Shape,
    Size,
    is_large,
    is_unknown,
    named,
    symbol,
)
from sardonyx.passes.sizes.shape_rules import SHAPE_RULES
from sardonyx.passes.sizes.value_rules import VALUE_RULES, Values
from sardonyx.passes.weights import values_of

_log = logging.getLogger(__name__)

FEW = 64
"""Elements up to which values are followed: shapes, and scalars computed from them."""


@dataclass
class Sizes:
    """Sizes in a graph and in those inside it, at the moment of the object's making.

    Tensors made later have the sizes that are declared for them, if any. ``opset``: of the graph.
    """

    graph: gs.Graph
    opset: int = field(init=False)
    _shapes: dict[int, tuple[gs.Tensor, Shape | None]] = field(default_factory=dict)
    _values: dict[int, tuple[gs.Tensor, Values | None]] = field(default_factory=dict)
    _unnamed: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.opset = int(self.graph.opset or 0)
        self._follow(self.graph)

    def shape(self, tensor: gs.Tensor) -> Shape | None:
        """The sizes of a tensor; None where not even its rank is known."""
        if tensor.is_empty():
            return None
        if id(tensor) not in self._shapes:
            self._shapes[id(tensor)] = tensor, self._declared(tensor)
        return self._shapes[id(tensor)][1]

    def values(self, tensor: gs.Tensor) -> Values | None:
        """The elements of a small tensor: numbers, sizes, None for one that is not known."""
        if id(tensor) not in self._values:
            self._values[id(tensor)] = tensor, _held(tensor)
        return self._values[id(tensor)][1]

    def number(self, tensor: gs.Tensor) -> float | None:
        """The value of a tensor of one element that no input changes."""
        values = self.values(tensor)
        if values is None or values.size != 1:
            return None
        value = values.reshape(-1)[0]
        return float(value) if isinstance(value, int | float) else None

    def unknown(self) -> Size:
        """A size of which nothing is known."""
        return named(f"{UNKNOWN}{next(self._unnamed)}")

    def lengths(self, values: Iterable[object]) -> Shape:
        """Values as sizes; what is not known, or may be below 0, as a size that is not known."""
        return tuple(value if _is_size(value) else self.unknown() for value in values)

    def _follow(self, graph: gs.Graph) -> None:
        for node in graph.nodes:
            for value in node.attrs.values():
                if isinstance(value, gs.Graph):
                    self._follow(value)
            if node.outputs:
                self._infer(node)

    def _infer(self, node: gs.Node) -> None:
        try:
            self._apply(node)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            _log.debug("nothing is known of what '%s' makes: it cannot run", node.name)

    def _apply(self, node: gs.Node) -> None:
        key = node.op if is_standard(node) else f"{node.domain}.{node.op}"
        if key in SHAPE_RULES:
            unheard = next(self._unnamed)
            shapes = SHAPE_RULES[key](self, node)
            for output, shape in zip(node.outputs, shapes, strict=False):
                self._shapes[id(output)] = output, self._refined(shape, output, unheard)
        if key in VALUE_RULES and self._is_small(node.outputs[0]):
            values = _rounded(VALUE_RULES[key](self, node), node.outputs[0].dtype)
            self._values[id(node.outputs[0])] = node.outputs[0], values

    def _is_small(self, tensor: gs.Tensor) -> bool:
        shape = self.shape(tensor)
        numbers = [dim for dim in shape or () if isinstance(dim, int)]
        return shape is None or (len(numbers) == len(shape) and math.prod(numbers) <= FEW)

    def _declared(self, tensor: gs.Tensor) -> Shape | None:
        return None if tensor.shape is None else tuple(map(self._dim, tensor.shape))

    def _refined(self, shape: Shape | None, tensor: gs.Tensor, unheard: int) -> Shape | None:
        """The inferred shape; where that is no number or says nothing new, what was declared.

        ``unheard``: the number of the first size that the rule did not get from elsewhere.
        """
        declared = self._declared(tensor)
        if shape is None or declared is None or len(declared) != len(shape):
            return declared if shape is None else self.lengths(shape)
        pairs = zip(self.lengths(shape), declared, strict=True)
        return tuple(known if _is_better(known, own, unheard) else own for own, known in pairs)

    def _dim(self, declared: int | str | None) -> Dim:
        if isinstance(declared, str) and declared and UNKNOWN not in declared:
            return self.lengths([symbol(declared)])[0]
        return int(declared) if isinstance(declared, int) and declared >= 0 else self.unknown()


def _is_size(value: object) -> TypeGuard[Dim]:
    if isinstance(value, Size):
        return value.is_length
    return isinstance(value, int) and value >= 0 and not is_large(value)


def _is_better(known: Dim, own: Dim, unheard: int) -> bool:
    if isinstance(own, int):
        return False
    return isinstance(known, int) or is_unknown(own, unheard)


def _rounded(values: Values | None, dtype: DTypeLike | None) -> Values | None:
    """Values as their type holds them: a float that is a little less than a whole number is another
    integer. What is rounded once more after double precision is what the type itself computes."""
    if values is None or not any(isinstance(value, float) for value in values.flat):
        return values
    if dtype is None or np.dtype(dtype).kind != "f":
        return None
    rounded = np.empty(values.shape, object)
    for place, value in np.ndenumerate(values):
        rounded[place] = np.array(value, dtype).item() if isinstance(value, float) else value
    return rounded


def _held(tensor: gs.Tensor) -> Values | None:
    """The numbers in a small constant."""
    if not isinstance(tensor, gs.Constant) or math.prod(tensor.shape) > FEW:
        return None
    values = values_of(tensor)
    return values.astype(object) if values.dtype.kind in "biuf" else None
