"""Which nodes that compute constants can go, and which of their results must then be stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import DTypeLike
from onnx_graphsurgeon.ir.tensor import LazyValues, SparseValues

from sardonyx.passes.metadata import RESERVED
from sardonyx.passes.pure import is_pure_standard
from sardonyx.passes.scopes import all_nodes, all_outputs
from sardonyx.passes.sizes import Sizes

Measure = Callable[[gs.Graph], Sizes]
"""Sizes in a graph as it is."""

_KEPT = "DequantizeLinear"
"""The op that is left alone whatever it reads: codes stay codes."""

_LARGEST = 1 << 26
"""Bytes of a value that is computed only to compute a smaller one from it."""

_TAG = 2
"""Bytes, at least, that say what a field is and how long."""


@dataclass
class Folds:
    """What can be folded in a graph and in those inside it: `folds` finds it.

    A file shrinks by an operand that one node alone reads, where that node goes: by a constant, or
    by what the operand's own node would leave behind. A node is folded where its results take no
    more room than that and the node itself, and ``slack_bytes`` more.

    ``measure``: finds sizes, where they are needed. ``failed``: ids of nodes that cannot be run.
    ``nodes``: all that read nothing but constants and each other, each behind what it reads.
    ``folded``: ids of those whose results are to be stored.
    """

    graph: gs.Graph
    measure: Measure
    slack_bytes: int
    failed: AbstractSet[int]
    nodes: list[gs.Node] = field(default_factory=list)
    folded: set[int] = field(default_factory=set)
    _known: set[int] = field(default_factory=set)
    _leaving: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._outputs = all_outputs(self.graph)

    @cached_property
    def _sizes(self) -> Sizes:
        return self.measure(self.graph)

    def gone(self) -> set[int]:
        """Ids of the folded nodes, and of those that only these read."""
        gone: set[int] = set()
        for node in reversed(self.nodes):
            readers = [reader for tensor in node.outputs for reader in tensor.outputs]
            needed = self._makes_output(node) or any(id(reader) not in gone for reader in readers)
            if id(node) in self.folded or not needed:
                gone.add(id(node))
        return gone

    def wanted(self, gone: AbstractSet[int]) -> list[gs.Tensor]:
        """Results of the folded nodes that others than those ``gone`` read."""
        made = [t for node in self.nodes if id(node) in self.folded for t in node.outputs]
        return [t for t in made if any(id(reader) not in gone for reader in t.outputs)]

    def cone(self, wanted: list[gs.Tensor]) -> list[gs.Node]:
        """The nodes by which some results are computed, in order."""
        pending = [tensor.inputs[0] for tensor in wanted]
        found = set(map(id, pending))
        while pending:
            makers = [tensor.inputs[0] for tensor in pending.pop().inputs if tensor.inputs]
            fresh = {id(maker): maker for maker in makers if id(maker) not in found}
            found.update(fresh)
            pending += fresh.values()
        return [node for node in self.nodes if id(node) in found]

    def consider(self, node: gs.Node) -> None:
        """Take a node, all before which were taken, into account."""
        if id(node) in self.failed or not self._is_computable(node):
            return
        results = [tensor for tensor in node.outputs if not tensor.is_empty()]
        sizes = [self._bytes(tensor) for tensor in results]
        if None in sizes:
            return
        read = [tensor for tensor in results if tensor.outputs]
        leaving = _node_bytes(node) + sum(self._leaves(t, node) for t in _distinct(node.inputs))
        needed = sum(self._stored(tensor) for tensor in read)
        if needed <= leaving + self.slack_bytes and not self._makes_output(node):
            self.folded.add(id(node))
            self._leaving |= {id(tensor): self._stored(tensor) for tensor in read}
        elif needed > _LARGEST:
            return
        elif len(read) == 1:
            self._leaving[id(read[0])] = leaving
        self.nodes.append(node)
        self._known.update(map(id, results))

    def _is_computable(self, node: gs.Node) -> bool:
        read = [tensor for tensor in node.inputs if not tensor.is_empty()]
        if not read or not all(id(t) in self._known or _is_plain(t) for t in read):
            return False
        return node.op != _KEPT and is_pure_standard(node)

    def _makes_output(self, node: gs.Node) -> bool:
        return any(id(tensor) in self._outputs for tensor in node.outputs)

    def _leaves(self, tensor: gs.Tensor, node: gs.Node) -> int:
        """Bytes that go with an operand once ``node`` does not read it."""
        if id(tensor) in self._outputs or any(reader is not node for reader in tensor.outputs):
            return 0
        known = isinstance(tensor, gs.Constant)
        return self._stored(tensor) if known else self._leaving.get(id(tensor), 0)

    def _stored(self, tensor: gs.Tensor) -> int:
        """Bytes of a constant in the file."""
        if isinstance(tensor, gs.Constant) and isinstance(tensor._values, LazyValues):
            return int(tensor._values.nbytes)
        shape, data = self._shape(tensor), self._bytes(tensor) or 0
        head = int(onnx.TensorProto(name=tensor.name, dims=shape, data_type=1).ByteSize())
        return head + data + 2 * (1 + _length(head + data))

    def _bytes(self, tensor: gs.Tensor) -> int | None:
        """Bytes of the elements; None where they are not known, or of a type that numpy lacks."""
        shape = self._shape(tensor)
        if shape is None or tensor.dtype is None or not _is_numpy(tensor.dtype):
            return None
        return int(math.prod(shape) * np.dtype(tensor.dtype).itemsize)

    def _shape(self, tensor: gs.Tensor) -> tuple[int, ...] | None:
        if isinstance(tensor, gs.Constant):
            return tuple(tensor.shape)
        shape = self._sizes.shape(tensor)
        if shape is None:
            return None
        numbers = [dim for dim in shape if isinstance(dim, int)]
        return tuple(numbers) if len(numbers) == len(shape) else None


def folds(graph: gs.Graph, measure: Measure, slack_bytes: int, failed: AbstractSet[int]) -> Folds:
    """What to fold, from the first node to the last."""
    found = Folds(graph, measure, slack_bytes, failed)
    for node in all_nodes(graph):
        found.consider(node)
    return found


def _is_plain(tensor: gs.Tensor) -> bool:
    """Whether a tensor is a constant whose values numpy can hold as they are written."""
    if not isinstance(tensor, gs.Constant) or isinstance(tensor._values, SparseValues):
        return False
    return _is_numpy(tensor.dtype)


def _is_numpy(dtype: DTypeLike) -> bool:
    """Whether a type is one of numpy's own numbers or truth values."""
    return np.dtype(dtype).kind in "biuf"


def _distinct(tensors: list[gs.Tensor]) -> list[gs.Tensor]:
    return list({id(tensor): tensor for tensor in tensors}.values())


def _length(size: int) -> int:
    """Bytes in which a file says how long a field is, at most: seven bits of it in each."""
    return 1 + (size + 8).bit_length() // 7


def _node_bytes(node: gs.Node) -> int:
    """Bytes of a node in the file, without values of attributes."""
    proto = onnx.NodeProto(op_type=node.op, name=node.name or None)
    proto.input.extend(tensor.name for tensor in node.inputs)
    proto.output.extend(tensor.name for tensor in node.outputs)
    keys = sum(len(key) + 2 * _TAG for key in node.attrs if key not in RESERVED)
    return int(proto.ByteSize()) + keys + _TAG
