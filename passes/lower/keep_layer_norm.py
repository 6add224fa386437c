"""keep-layer-norm: onnxruntime leaves residual sums and their normalizations apart."""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fused import is_standard
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import annotate, describe
from sardonyx.passes.origin import behind, maker
from sardonyx.passes.rewrite import Draft, replace_nodes, reread
from sardonyx.passes.scopes import all_nodes, all_outputs
from sardonyx.passes.sizes import Sizes
from sardonyx.passes.weights import values_of

_WHY = (
    "Changes nothing. It hides the length from onnxruntime, which else joins sums and\n"
    "normalizations from here on in SkipLayerNormalization, a slower kernel."
)


@dataclass(frozen=True)
class KeepLayerNorm(Pass):
    """``LayerNormalization(a + b)``  ->  ``LayerNormalization(Reshape(a, [0, -1, H]) + b)``.

    a and b are [B, S, H], and so is what the Reshape makes. onnxruntime joins such a sum and its
    normalization at load where it knows that the sizes agree, and its kernel for both takes longer
    than the two ops from some dozens of tokens on. Behind a -1 it knows no length, nor does it of
    anything that is computed from there; sizes that the file declares there go. A batch of none no
    longer runs: of no elements a -1 says nothing. Does not fire

    1. where the sum depends on an earlier one that was rewritten: but for what it reads of outputs
       of a graph, whose declared sizes stay,
    2. where a and b are not known to have one shape of three axes, the last of fixed size.
    """

    name: ClassVar[str] = "keep-layer-norm"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Hide the length ahead of the first sum, and of every other that does not depend on it."""
        sizes = journal.sizes(graph)
        ends = all_outputs(graph)
        hidden = _downstream(filter(_hides, all_nodes(graph)), ends)
        reshapes: dict[int, tuple[gs.Node, gs.Node]] = {}
        for norm in all_nodes(graph):
            total = _sum(sizes, norm)
            if total is not None and id(total) not in hidden:
                reshapes[id(total)] = _reshape(sizes, total), total
                hidden |= _downstream([total], ends)
        replace_nodes(graph, {key: list(pair) for key, pair in reshapes.items()})
        for reshape, total in reshapes.values():
            reread(total, 0, reshape.outputs[0])
        if reshapes:
            _forget(graph, hidden, ends)
        return len(reshapes)


def _sum(sizes: Sizes, norm: gs.Node) -> gs.Node | None:
    """The residual sum that a LayerNormalization normalizes."""
    if norm.op != "LayerNormalization" or not is_standard(norm):
        return None
    total = maker(behind(norm.inputs[0])[0])
    if total is None or total.op != "Add":
        return None
    a, b = map(sizes.shape, total.inputs)
    whole = a is not None and len(a) == 3 and isinstance(a[2], int)
    return total if whole and a == b else None


def _reshape(sizes: Sizes, total: gs.Node) -> gs.Node:
    """A Reshape of what a sum reads first."""
    value = total.inputs[0]
    shape = sizes.shape(value)
    assert shape is not None
    draft = Draft.of(total, value.dtype)
    target = draft.constant("Length/Shape", [0, -1, shape[2]], np.int64)
    draft.add("Reshape", "Length", [value, target])
    (reshape,) = draft.nodes
    annotate(reshape, **{"pass": KeepLayerNorm.name})
    describe(reshape, _WHY)
    return reshape


def _forget(graph: gs.Graph, hidden: Set[int], ends: Set[int]) -> None:
    """Take away the declared sizes of what the hidden nodes make."""
    for node in (node for node in all_nodes(graph) if id(node) in hidden):
        for tensor in (tensor for tensor in node.outputs if id(tensor) not in ends):
            tensor.shape = None


def _hides(node: gs.Node) -> bool:
    """Whether a node is a Reshape of this pass."""
    if node.op != "Reshape" or not isinstance(node.inputs[1], gs.Constant):
        return False
    target = values_of(node.inputs[1]).tolist()
    return len(target) == 3 and target[:2] == [0, -1]


def _downstream(nodes: Iterable[gs.Node], ends: Set[int]) -> set[int]:
    """Ids of the nodes and of all that depend on them, but by way of ``ends``."""
    pending = list(nodes)
    found = {id(node) for node in pending}
    while pending:
        for tensor in (tensor for tensor in pending.pop().outputs if id(tensor) not in ends):
            fresh = [reader for reader in tensor.outputs if id(reader) not in found]
            found |= set(map(id, fresh))
            pending += fresh
    return found
