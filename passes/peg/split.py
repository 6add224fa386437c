"""A feed-forward network split in groups of channels, each of which is a tensor of its own."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.metadata import annotate, inherit
from sardonyx.passes.origin import constant, label
from sardonyx.passes.peg.blocks import OF_SIZES, FfnBlock
from sardonyx.passes.rewrite import Draft, Replacements, readers_of, replace_nodes, reread
from sardonyx.passes.roles import Role
from sardonyx.passes.scopes import all_nodes, bodies
from sardonyx.passes.sizes import Sizes
from sardonyx.passes.slices import Axis, Slice, cut
from sardonyx.passes.weights import WeightUse, values_of

_MOVES = ("Identity", "Dropout", "Reshape")
"""Ops on the path of h that change no value."""


@dataclass(frozen=True)
class Groups:
    """What of a network is split. ``kinds``: which of its tensors x, h, y, g; ``outer``: the sizes
    of the groups of x, h and y, in the order of channels; ``inner``: those of g."""

    kinds: frozenset[str]
    outer: tuple[int, ...] = ()
    inner: tuple[int, ...] = ()


def obstacle(block: FfnBlock, kinds: frozenset[str], sizes: Sizes) -> str:
    """Why a network cannot be split; empty if it can."""
    for use in (*block.ins, block.out):
        if use.node.op != "MatMul":
            return f"its product '{label(use.node)}' is a {use.node.op}: see unfuse-gemm"
    width = block.out.view.shape[1]
    for tensor in (block.residual, *(n.outputs[0] for n in block.path if n.op == "Reshape")):
        shape = sizes.shape(tensor)
        if kinds & {"h", "y"} and (not shape or shape[-1] != width):
            return f"'{tensor.name}' is not known to have {width} channels"
    return _uneven(block, width) if "h" in kinds and "g" not in kinds else ""


def _uneven(block: FfnBlock, width: int) -> str:
    """Why what follows the FFN-out product cannot follow its columns, some at a time."""
    value = block.out.node.outputs[0]
    for node in (*block.path, block.total):
        if any(reader.op in OF_SIZES for reader in readers_of(value)):
            return f"the sizes of '{value.name}' are read"
        bias = constant(_other(node, value)) if node.op == "Add" else None
        if node.op == "Add" and node is not block.total and bias is None:
            return f"what Add '{label(node)}' adds is computed"
        if bias is not None and bias.shape and bias.shape[-1] not in (1, width):
            return f"what Add '{label(node)}' adds has not {width} channels"
        value = node.outputs[0]
    return ""


def _other(add: gs.Node, value: gs.Tensor) -> gs.Tensor:
    """The operand of a sum beside a value."""
    return add.inputs[1] if add.inputs[0] is value else add.inputs[0]


def split_blocks(graph: gs.Graph, blocks: Sequence[tuple[FfnBlock, Groups]], by: str) -> None:
    """Split networks directly in ``graph``, none of which has an `obstacle`.

    Products by slices of weights, and what makes x, h, y and g, bear notes: for `slices.slice_of`,
    `roles.weight_places` and `activation_sites`. ``by``: the pass that does it.
    """
    splitter = _Splitter(graph, by)
    for block, groups in blocks:
        splitter.split(block, groups)
    splitter.finish()


@dataclass(frozen=True, eq=False)
class _Cut:
    """A tensor, its parts, and the node ahead of which it is cut. ``is_site``: what reads it is to
    read the parts."""

    tensor: gs.Tensor
    parts: list[gs.Tensor]
    ahead_of: gs.Node
    is_site: bool


@dataclass
class _Splitter:
    """Writes nodes ahead of, or in place of, those of a graph; `finish` puts all of them there.

    ``index``: the place in the graph of each node, and of those inside it. ``ahead``, ``instead``:
    new nodes by ``id`` of an old one; ``rereads``: old ones that are to read another tensor in a
    slot. ``cuts``, ``pieces``: of tensors and weights, made once for all that read them.
    """

    graph: gs.Graph
    by: str
    index: dict[int, int] = field(init=False)
    ahead: Replacements = field(default_factory=lambda: defaultdict(list))
    instead: Replacements = field(default_factory=dict)
    rereads: list[tuple[gs.Node, int, gs.Tensor]] = field(default_factory=list)
    cuts: dict[tuple[int, Lengths], _Cut] = field(default_factory=dict)
    pieces: dict[tuple[int, bool, Axis, Lengths], list[Piece]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index = {
            id(inner): place
            for place, node in enumerate(self.graph.nodes)
            for inner in (node, *(n for body in bodies(node) for n in all_nodes(body)))
        }

    def split(self, block: FfnBlock, groups: Groups) -> None:
        """Write what becomes of one network."""
        kinds, outer, inner = groups.kinds, groups.outer, groups.inner
        if "x" in kinds:
            for use in block.ins:
                self._multiply(use, self._cut(block, "x", outer, kinds), Place("ffn_in", block.layer))
        if "g" in kinds:
            parts = self._cut(block, "g", inner, kinds)
            self._multiply(block.out, parts, Place("ffn_out", block.layer))
        if "h" in kinds and "g" not in kinds:
            hs = self._multiply_columns(block, outer)
        elif kinds & {"h", "y"}:
            hs = self._cut(block, "h", outer, kinds)
        if "y" in kinds:
            self._add(block, self._cut(block, "residual", outer, kinds), hs)
        elif "h" in kinds:
            slot = 0 if block.total.inputs[0] is block.h else 1
            self.rereads.append((block.total, slot, self._joined(block.h, hs, block.total)))
        for kind in KINDS - kinds:
            _note_whole(getattr(block, kind), kind, block.layer)

    def _cut(
        self, block: FfnBlock, name: str, lengths: Lengths, kinds: frozenset[str]
    ) -> list[gs.Tensor]:
        """A tensor of a network in groups of channels: by a Split ahead of its first reader, unless
        it is cut so already."""
        tensor: gs.Tensor = getattr(block, name)
        if (id(tensor), lengths) not in self.cuts:
            draft = Draft(tensor.name, block.out.view.dtype)
            sizes = draft.constant("groups", lengths, np.int64)
            draft.add("Split", "Split", [tensor, sizes], axis=-1)
            (node,) = draft.nodes
            node.outputs = [
                gs.Variable(f"{tensor.name}/group{number}", draft.dtype)
                for number in range(len(lengths))
            ]
            if name in kinds:
                annotate(node, site=name, layer=block.layer)
            first = self.graph.nodes[min(self.index[id(r)] for r in self._readers(tensor))]
            self._put_ahead(first, draft)
            cut = _Cut(tensor, list(node.outputs), first, name in kinds)
            self.cuts[id(tensor), lengths] = cut
        return self.cuts[id(tensor), lengths].parts

    def _multiply(self, use: WeightUse, parts: list[gs.Tensor], place: Place) -> None:
        """``MatMul(x, W)``  ->  the sum of the products of parts of x by rows of W."""
        lengths =
