"""Sizes of a model's tensors as numbers, once its batch and its sequence are."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.scopes import scopes
from sardonyx.passes.sizes import Size, Sizes
from sardonyx.passes.sizes.dim import evaluated, symbol
from sardonyx.runtime_ops.errors import InputError

Declared = int | str | None
Numbers = tuple[int, ...]


@dataclass(frozen=True)
class NumberedSizes:
    """Sizes in a graph, all of them numbers."""

    sizes: Sizes

    def shape(self, tensor: gs.Tensor) -> Numbers:
        """The sizes of a tensor. Raises InputError where one of them depends on more than sizes."""
        shape = self._numbers(tensor)
        if shape is None:
            first = self._first_open(tensor)
            made = "".join(f", which node '{n.name}' ({n.op}) makes," for n in first.inputs)
            raise InputError(
                f"how large '{first.name}' is{made} depends on more than batch and sequence, or is "
                "not known: export the model so that all sizes follow from these two"
            )
        return shape

    def _numbers(self, tensor: gs.Tensor) -> Numbers | None:
        shape = self.sizes.shape(tensor)
        if shape is None or any(isinstance(size, Size) for size in shape):
            return None
        return tuple(size for size in shape if isinstance(size, int))

    def _first_open(self, tensor: gs.Tensor) -> gs.Tensor:
        """Where the numbers of a tensor are lost: all that the result is made of has them."""
        lost: gs.Tensor | None = tensor
        while lost is not None:
            tensor = lost
            sources = (source for node in tensor.inputs for source in node.inputs if source.name)
            lost = next((each for each in sources if self._numbers(each) is None), None)
        return tensor

    def elements(self, tensor: gs.Tensor) -> int:
        """How many elements a tensor has."""
        return math.prod(self.shape(tensor))

    def nbytes(self, tensor: gs.Tensor) -> int:
        """Bytes of a tensor."""
        return self.elements(tensor) * itemsize(tensor)


def itemsize(tensor: gs.Tensor) -> int:
    """Bytes of an element; of one of which the type is not known, as of a float."""
    return 4 if tensor.dtype is None else np.dtype(tensor.dtype).itemsize


class OpenSizes:
    """A graph, and which sizes of its inputs are open: first axes are the batch, others sequences.

    So is a first axis whose symbol is that of a later one, too. Of a size written as a sum or a
    product, each symbol is the batch or a sequence.
    """

    def __init__(self, graph: gs.Graph) -> None:
        self.graph = graph
        self._declared: list[tuple[gs.Variable, list[Declared]]] = [
            (tensor, list(tensor.shape))
            for scope in scopes(graph)
            for tensor in scope.tensors().values()
            if isinstance(tensor, gs.Variable) and tensor.shape is not None
        ]
        for tensor in graph.inputs:
            if tensor.shape is None:
                raise InputError(f"input '{tensor.name}' has no shape, not even a rank")
        self._axes = [
            (axis, dim) for tensor in graph.inputs for axis, dim in enumerate(tensor.shape)
        ]
        self._fixed = (
            [t.shape[0] for t in graph.inputs if t.shape and isinstance(t.shape[0], int)],
            [t.shape[1] for t in graph.inputs if _has_tokens(t) and isinstance(t.shape[1], int)],
        )
        later = [_names(dim) for axis, dim in self._axes if axis and isinstance(dim, str)]
        self._sequences: frozenset[str] = frozenset().union(*later)
        self._wanted = ", ".join(f"'{t.name}' {_written(t.shape)}" for t in graph.inputs)

    def settle(self, batch: int | None, sequence: int | None) -> tuple[int | None, int | None]:
        """Batch and sequence of the model, of which it may fix either.

        Raises InputError where one is missing, or is not what the model fixes.
        """
        first, others = self._side(True), self._side(False)
        missing = [
            option
            for option, given, dims in (("--batch", batch, first), ("--sequence", sequence, others))
            if given is None and any(not isinstance(dim, int) for dim in dims)
        ]
        if missing:
            raise InputError(f"sizes of {self._wanted} are open: give {' and '.join(missing)}")
        return _settled("batch", batch, first), _settled("sequence", sequence, others)

    def at(self, batch: int | None, sequence: int | None) -> NumberedSizes:
        """Sizes with these of the inputs, as `settle` returns them."""
        known = dict(self._symbols(batch, sequence))
        for tensor, declared in self._declared:
            tensor.shape = [_numbered(dim, known) for dim in declared]
        for tensor in self.graph.inputs:
            sides = [batch, *[sequence] * len(tensor.shape)]
            tensor.shape = [
                side if dim is None else dim for dim, side in zip(tensor.shape, sides, strict=False)
            ]
        return NumberedSizes(Sizes(self.graph))

    def _side(self, first: bool) -> list[Declared]:
        """Sizes that are the batch, or sequences: those that are open and those that are fixed."""
        found = [dim for axis, dim in self._axes if self._is_batch(axis, dim) == first]
        opened = [dim for dim in found if not isinstance(dim, int)]
        return [*opened, *self._fixed[0 if first else 1]]

    def _is_batch(self, axis: int, dim: Declared) -> bool:
        return axis == 0 and not (isinstance(dim, str) and _names(dim) <= self._sequences)

    def _symbols(self, batch: int | None, sequence: int | None) -> Iterator[tuple[str, int]]:
        """Numbers of symbols."""
        for axis, dim in self._axes:
            number = batch if self._is_batch(axis, dim) else sequence
            if isinstance(dim, str) and number is not None:
                yield from ((name, number) for name in _names(dim))


def _has_tokens(tensor: gs.Variable) -> bool:
    """Whether a second axis counts tokens: of [batch, tokens] integers, or [batch, tokens, ...]."""
    integers = tensor.dtype is not None and np.dtype(tensor.dtype).kind in "iu"
    return len(tensor.shape) > 2 or (len(tensor.shape) == 2 and integers)


def _settled(what: str, given: int | None, dims: list[Declared]) -> int | None:
    if given is not None and not dims:
        raise InputError(f"no input of the model has a {what}")
    fixed = [dim for dim in dims if isinstance(dim, int)]
    if not dims or len(fixed) < len(dims):
        return given
    if given is not None and given != fixed[0]:
        raise InputError(f"the model fixes its {what} at {fixed[0]}: it cannot be {given}")
    return fixed[0]


def _names(dim: str) -> frozenset[str]:
    size = symbol(dim)
    return size.symbols if isinstance(size, Size) else frozenset()


def _numbered(dim: Declared, known: dict[str, int]) -> int | None:
    if not isinstance(dim, str):
        return dim
    if not _names(dim) <= known.keys():
        return None
    return evaluated(symbol(dim), known.__getitem__)


def _written(shape: list[Declared]) -> str:
    return f"[{', '.join(str(dim or '?') for dim in shape)}]"
