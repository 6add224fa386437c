"""A feed-forward network split in groups of channels, each of which is a tensor of its own."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.activation_sites import SUMS, Site
from sardonyx.passes.ffn_blocks import BLOCK_KINDS, OF_SIZES, OUTER, PASS_ON, FfnBlock
from sardonyx.passes.metadata import annotate, inherit
from sardonyx.passes.origin import constant, label
from sardonyx.passes.rewrite import Draft, Replacements, readers_of, replace_nodes, reread
from sardonyx.passes.roles import Place
from sardonyx.passes.scopes import all_nodes, bodies
from sardonyx.passes.sizes import Sizes
from sardonyx.passes.slices import Axis, Piece, Slice, pieces
from sardonyx.passes.weights import WeightUse, values_of

Lengths = tuple[int, ...]
"""Channels in each group, in their order."""


@dataclass(frozen=True)
class Groups:
    """What of a network is split. ``kinds``: which of its tensors; ``outer``: the groups of x, h
    and y; ``inner``: those of g."""

    kinds: frozenset[str]
    outer: Lengths = ()
    inner: Lengths = ()


def obstacle(block: FfnBlock, kinds: frozenset[str], sizes: Sizes) -> str:
    """Why a network cannot be split; empty if it can."""
    for use in (*block.ins, block.out):
        if use.node.op != "MatMul":
            return f"its product '{label(use.node)}' is a {use.node.op}: see unfuse-gemm"
    inner, width = block.out.view.shape
    shaped = [node.outputs[0] for node in block.path if node.op == "Reshape"]
    outer = [block.x, block.y, block.residual, *shaped] if kinds & OUTER else []
    for tensor, channels in [(block.g, inner), *((tensor, width) for tensor in outer)]:
        shape = sizes.shape(tensor)
        if not shape or shape[-1] != channels:
            return f"'{tensor.name}' is not known to have {channels} channels"
    return _uneven(block, width) if "h" in kinds and "g" not in kinds else ""


def _uneven(block: FfnBlock, width: int) -> str:
    """Why what follows the FFN-out product cannot follow some of its columns at a time."""
    value = block.out.node.outputs[0]
    for node in (*block.path, block.total):
        if any(reader.op in OF_SIZES for reader in readers_of(value)):
            return f"the sizes of '{value.name}' are read"
        if node.op == "Add" and node is not block.total:
            bias = constant(_other(node, value))
            if bias is None or (bias.shape and bias.shape[-1] not in (1, width)):
                return f"what Add '{label(node)}' adds is no constant for each channel"
        value = node.outputs[0]
    return ""


def _other(add: gs.Node, value: gs.Tensor) -> gs.Tensor:
    """The operand of a sum beside a value."""
    other: gs.Tensor = add.inputs[1] if add.inputs[0] is value else add.inputs[0]
    return other


def split_blocks(
    graph: gs.Graph,
    blocks: Sequence[tuple[FfnBlock, Groups]],
    sums: Sequence[tuple[Site, Lengths]],
    by: str,
) -> None:
    """Split networks directly in ``graph``, none of which has an `obstacle`, and other ``sums``.

    Products by slices of weights, and what makes x, h, y and g, bear notes: for `slices.slice_of`,
    `roles.weight_places` and `activation_sites`. ``by``: the pass that does it.
    """
    splitter = _Splitter(graph, by)
    for site, lengths in sums:
        splitter.cut(site.tensor, SUMS, site.layer, lengths)
    for block, groups in blocks:
        splitter.split(block, groups)
    splitter.finish()


@dataclass(frozen=True, eq=False)
class _Cut:
    """A tensor and its parts. ``ahead_of``: where it is cut. ``is_site``: all who read it are to
    read the parts."""

    tensor: gs.Tensor
    parts: tuple[gs.Tensor, ...]
    lengths: Lengths
    ahead_of: gs.Node
    is_site: bool


@dataclass
class _Splitter:
    """Writes nodes ahead of, or in place of, those of a graph; `finish` puts all of them there.

    ``index``: the place in the graph of each node, and of those inside it. ``ahead``, ``instead``:
    new nodes by ``id`` of an old one; ``rereads``: old ones that are to read another tensor in a
    slot. ``cuts``, ``pieces``: of tensors and of weights, made once for all who read them.
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
        kinds, outer, layer = groups.kinds, groups.outer, block.layer
        if "x" in kinds:
            x = self.cut(block.x, "x", layer, outer)
            for use in block.ins:
                self._multiply(use, x, Place("ffn_in", layer))
        if "g" in kinds:
            g = self.cut(block.g, "g", layer, groups.inner)
            self._multiply(block.out, g, Place("ffn_out", layer))
        if "h" in kinds and "g" not in kinds:
            hs = self._multiply_columns(block, outer)
        elif kinds & {"h", "y"}:
            hs = self.cut(block.h, "h" if "h" in kinds else "", layer, outer).parts
        if "y" in kinds:
            self._add(block, self.cut(block.residual, "", layer, outer).parts, hs)
        elif "h" in kinds and "g" not in kinds:
            slot = 0 if block.total.inputs[0] is block.h else 1
            self.rereads.append((block.total, slot, self._joined(block.h, hs, block.total)))
        for whole in (kind for kind in BLOCK_KINDS if kind not in kinds):
            _note_whole(block.tensors[whole], whole, layer)

    def cut(self, tensor: gs.Tensor, kind: str, layer: int | None, lengths: Lengths) -> _Cut:
        """A tensor in groups of channels: by a Split ahead of its first reader, unless it is cut so
        already. ``kind``: of the sites that these are; empty: they are none."""
        key = id(tensor), lengths
        if key not in self.cuts:
            assert tensor.dtype is not None
            draft = Draft(tensor.name, tensor.dtype)
            sizes = draft.constant("groups", lengths, np.int64)
            draft.add("Split", "Split", [tensor, sizes], axis=-1)
            (node,) = draft.nodes
            node.outputs = [
                gs.Variable(f"{tensor.name}/group{number}", draft.dtype)
                for number in range(len(lengths))
            ]
            if kind:
                annotate(node, site=kind, **({} if layer is None else {"layer": layer}))
            first = min(self.index[id(r)] for r in readers_of(tensor) if id(r) in self.index)
            beside = self.graph.nodes[first]
            self._put_ahead(beside, draft)
            self.cuts[key] = _Cut(tensor, tuple(node.outputs), lengths, beside, bool(kind))
        return self.cuts[key]

    def _multiply(self, use: WeightUse, cut: _Cut, place: Place) -> None:
        """``MatMul(x, W)``  ->  the sum of the products of parts of x by rows of W."""
        draft, total = Draft.of(use.node, use.view.dtype), list[gs.Tensor]()
        pairs = zip(cut.parts, self._pieces(use, "rows", cut.lengths), strict=True)
        for number, (part, piece) in enumerate(pairs):
            total.append(_product(draft, use.node, number, part, piece, place))
            if number:
                total = [draft.add("Add", f"sum{number}", total)]
        for node in draft.nodes[:-1]:
            annotate(node, partial=True)
        self.instead[id(use.node)] = draft.take_place(use.node, self.by)

    def _multiply_columns(self, block: FfnBlock, lengths: Lengths) -> tuple[gs.Tensor, ...]:
        """``MatMul(g, W) + b``  ->  the same of some columns at a time, each a part of h."""
        product, place = block.out.node, Place("ffn_out", block.layer)
        made, hs = list[gs.Node](), list[gs.Tensor]()
        for number, piece in enumerate(self._pieces(block.out, "columns", lengths)):
            draft = Draft.of(product, block.out.view.dtype)
            value = _product(draft, product, number, product.inputs[0], piece, place)
            old = product.outputs[0]
            for step in block.path:
                draft.name = label(step)
                value = _step(draft, step, old, value, number, piece[0])
                old = step.outputs[0]
            site = next(node for node in reversed(draft.nodes) if node.op in ("MatMul", "Add"))
            annotate(site, site="h", layer=block.layer, group=number)
            made += draft.nodes
            hs.append(value)
        last = (product, *block.path)[-1]
        self.instead |= {id(node): [] for node in (product, *block.path)}
        self.instead[id(last)] = self._marked(made)
        return tuple(hs)

    def _add(
        self, block: FfnBlock, residuals: Sequence[gs.Tensor], hs: Sequence[gs.Tensor]
    ) -> None:
        """``residual + h``  ->  sums of their parts, joined."""
        draft, ys = Draft.of(block.total, block.out.view.dtype), list[gs.Tensor]()
        first = block.total.inputs[0] is block.h
        for number, (residual, h) in enumerate(zip(residuals, hs, strict=True)):
            operands = [h, residual] if first else [residual, h]
            ys.append(draft.add("Add", f"group{number}", operands))
            annotate(draft.nodes[-1], site="y", layer=block.layer, group=number)
        draft.add("Concat", "Concat", ys, axis=-1)
        self.instead[id(block.total)] = draft.take_place(block.total, self.by)

    def _joined(self, whole: gs.Tensor, parts: Sequence[gs.Tensor], reader: gs.Node) -> gs.Variable:
        """Parts of a tensor, joined ahead of a reader."""
        assert parts[0].dtype is not None
        draft = Draft(whole.name, parts[0].dtype)
        joined = draft.add("Concat", "Concat", list(parts), axis=-1)
        self._put_ahead(reader, draft)
        return joined

    def finish(self) -> None:
        """Let what else reads a site that was cut read its parts, joined; then change the graph.
        Who reads sizes alone, and who calls the graph, has the whole tensor as before."""
        for cut in (each for each in self.cuts.values() if each.is_site):
            slots = [
                (node, slot)
                for node in readers_of(cut.tensor)
                if id(node) in self.index.keys() - self.instead.keys() and node.op not in OF_SIZES
                for slot, read in enumerate(node.inputs)
                if read is cut.tensor
            ]
            joined = self._joined(cut.tensor, cut.parts, cut.ahead_of) if slots else None
            self.rereads += [(node, slot, joined) for node, slot in slots if joined is not None]
        touched = self.ahead.keys() | self.instead.keys()
        places = {id(node): node for node in self.graph.nodes if id(node) in touched}
        replace_nodes(
            self.graph,
            {
                key: [*self.ahead.get(key, []), *self.instead.get(key, [node])]
                for key, node in places.items()
            },
        )
        for node, slot, tensor in self.rereads:
            reread(node, slot, tensor)

    def _pieces(self, use: WeightUse, axis: Axis, lengths: Lengths) -> list[Piece]:
        key = id(use.view.constant), use.view.turned, axis, lengths
        if key not in self.pieces:
            self.pieces[key] = pieces(use.view, axis, lengths)
        return self.pieces[key]

    def _put_ahead(self, node: gs.Node, draft: Draft) -> None:
        self.ahead[id(node)] += self._marked(draft.nodes)

    def _marked(self, nodes: list[gs.Node]) -> list[gs.Node]:
        for node in nodes:
            annotate(node, **{"pass": self.by})
        return nodes


def _product(
    draft: Draft, old: gs.Node, number: int, left: gs.Tensor, piece: Piece, place: Place
) -> gs.Variable:
    """A product by a slice of the weight of another."""
    span, weight = piece
    value = draft.add("MatMul", f"group{number}", [left, weight])
    inherit(draft.nodes[-1], old)
    annotate(draft.nodes[-1], role=place.role, layer=place.layer)
    span.note(draft.nodes[-1])
    return value


def _step(
    draft: Draft, step: gs.Node, old: gs.Tensor, value: gs.Tensor, number: int, span: Slice
) -> gs.Tensor:
    """What a node makes of some columns of the tensor that it reads."""
    if step.op == "Reshape":
        shape = _shape(draft, step.inputs[1], number, span)
        return draft.add(
            "Reshape", f"group{number}", [value, shape], allowzero=step.attrs.get("allowzero", 0)
        )
    if step.op != "Add":
        return value
    bias = constant(_other(step, old))
    assert bias is not None
    added = values_of(bias)
    if added.ndim and added.shape[-1] > 1:
        added = np.ascontiguousarray(added[..., span.start : span.end])
    operands = [value, gs.Constant(f"{bias.name}/group{number}", added)]
    first = step.inputs[0] is old
    return draft.add("Add", f"group{number}", operands if first else operands[::-1])


def _shape(draft: Draft, shape: gs.Tensor, number: int, span: Slice) -> gs.Tensor:
    """What a Reshape of some columns reads."""
    columns, known = span.end - span.start, constant(shape)
    if known is not None:
        return draft.constant(f"shape{number}", [*values_of(known)[:-1], columns], np.int64)
    last = draft.constant(f"columns{number}", [columns], np.int64)
    ends = [
        draft.constant(f"{end}{number}", [at], np.int64) for end, at in (("from", 0), ("to", -1))
    ]
    head = draft.add("Slice", f"head{number}", [shape, *ends], dtype=np.int64)
    return draft.add("Concat", f"shape{number}", [head, last], dtype=np.int64, axis=0)


def _note_whole(tensor: gs.Tensor, kind: str, layer: int) -> None:
    """Note a tensor that stays whole on what makes it."""
    while tensor.inputs and tensor.inputs[0].op in PASS_ON:
        tensor = tensor.inputs[0].inputs[0]
    for node in tensor.inputs:
        annotate(node, site=kind, layer=layer)
