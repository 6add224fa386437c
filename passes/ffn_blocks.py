"""Where the feed-forward networks of a graph are, with the tensors around them that are rounded.

    x  ->  FFN-in products  ->  activation function  ->  g  ->  FFN-out product  ->  h
    residual + h  ->  y

x, h and y are named as by Bondarenko et al. (arXiv 2109.12948).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import is_standard
from sardonyx.passes.journal import Journal
from sardonyx.passes.origin import behind, label, maker
from sardonyx.passes.quantize.products import OPS, product_uses
from sardonyx.passes.rewrite import readers_of
from sardonyx.passes.roles import noted_place, product_places
from sardonyx.passes.scopes import all_outputs, is_constant, scopes
from sardonyx.passes.weights import WeightUse, weight_uses

_BY = "peg"
"""The pass that misses are noted for."""

LOOKED_FOR = (
    "a product by a constant matrix (two where the network is gated), an activation function, and "
    "a product that leads back to the width the first took, into a residual Add"
)
"""What a network is, to say where none is found."""

BlockKind = Literal["x", "g", "h", "y"]
"""Tensors of a network."""

BLOCK_KINDS: tuple[BlockKind, ...] = get_args(BlockKind)

OUTER: frozenset[BlockKind] = frozenset(("x", "h", "y"))
"""Those that are added up, all of one width."""

PASS_ON = ("Identity", "Dropout", "Reshape")
"""Ops between a product and the residual sum that change no value."""

OF_SIZES = ("Shape", "Size")
"""Ops that read no values."""


@dataclass(frozen=True, eq=False)
class FfnBlock:
    """A feed-forward network and the residual sum behind it, directly in one graph.

    ``layer``: as `roles.weight_places` counts. ``x``: float [..., d], what every FFN-in product
    reads: the output of a normalization. ``ins``: the FFN-in products: one, or two where the
    network is gated. ``g``: float [..., n], what the FFN-out product reads: the output of an
    activation function. ``out``: that product. ``path``: the nodes from it to h, in order, each
    read by the next alone: the Add of a bias, Identity, Dropout, Reshape. ``h``: float [..., d],
    what the last of them makes, or the product. ``total``: the residual Add; ``y``: what it makes;
    ``residual``: its other operand: x itself in post-LN networks. Where Identity passes x, g or the
    residual on, they are what stands behind it. Products are MatMuls, or Gemms with all they add.
    """

    layer: int
    x: gs.Tensor
    ins: tuple[WeightUse, ...]
    g: gs.Tensor
    out: WeightUse
    path: tuple[gs.Node, ...]
    h: gs.Tensor
    total: gs.Node
    y: gs.Tensor
    residual: gs.Tensor

    @property
    def tensors(self) -> dict[BlockKind, gs.Tensor]:
        """By kind."""
        return {"x": self.x, "g": self.g, "h": self.h, "y": self.y}


def ffn_blocks(graph: gs.Graph, journal: Journal | None = None) -> list[FfnBlock]:
    """Every network directly in ``graph``, in the order of layers; not those that notes say a pass
    split. The journal learns of those that are left alone:

    1. where a weight is no constant matrix that the product reads as its right operand,
    2. where FFN-in products read different tensors,
    3. where something else reads what the FFN-out product makes, on its way into the sum, or it is
       an output,
    4. where h goes elsewhere than into an Add: into a fused op,
    5. where the results of two networks are added up,
    6. in the bodies of If, Loop and Scan.
    """
    outputs = all_outputs(graph)
    found = []
    for layer, ins, out in _networks(graph):
        try:
            found.append(_block(layer, ins, out, outputs))
        except Unfit as reason:
            _miss(journal, out.node, str(reason))
    for node in _outs_in_bodies(graph) if journal else ():
        _miss(journal, node, "it is in the body of an If, Loop or Scan")
    shared = Counter(id(block.total) for block in found)
    for block in (block for block in found if shared[id(block.total)] > 1):
        _miss(journal, block.out.node, f"'{block.y.name}' adds up two networks")
    return [block for block in found if shared[id(block.total)] == 1]


def _networks(graph: gs.Graph) -> Iterator[tuple[int, tuple[WeightUse, ...], WeightUse]]:
    """Layer, FFN-in and FFN-out products of each network; those of one come one after another."""
    linears = {id(use.node): use for use in product_uses(graph)}
    ins: list[WeightUse] = []
    for node, place in product_places(graph, linears):
        if noted_place(node) or place.layer is None:
            continue
        if place.role == "ffn_in":
            ins.append(linears[id(node)])
        elif place.role == "ffn_out":
            yield place.layer, tuple(ins), linears[id(node)]
            ins = []


def _outs_in_bodies(graph: gs.Graph) -> Iterator[gs.Node]:
    """The FFN-out products in the graphs inside a graph."""
    linears = {id(use.node): use for use in weight_uses(graph) if use.node.op in OPS}
    for body in (scope for scope in scopes(graph) if scope is not graph):
        for node, place in product_places(body, linears):
            if place.role == "ffn_out":
                yield node


def _block(layer: int, ins: tuple[WeightUse, ...], out: WeightUse, outputs: set[int]) -> FfnBlock:
    """The network of some products; raises Unfit."""
    for use in (*ins, out):
        if use.misfit:
            raise Unfit(f"weight '{use.view.constant.name}': {use.misfit}")
    x, *others = (behind(use.node.inputs[0])[0] for use in ins)
    if any(other is not x for other in others):
        raise Unfit(f"its products read '{x.name}' and '{others[0].name}'")
    path, total = _to_sum(out.node, outputs)
    h = (path or (out.node,))[-1].outputs[0]
    (residual,) = (t for t in total.inputs if t is not h)
    g, _ = behind(out.node.inputs[0])
    made = maker(g)
    if made is not None and made.op == "Add" and not any(map(is_constant, made.inputs)):
        raise Unfit(f"'{g.name}' is a sum of two activations")
    y = total.outputs[0]
    return FfnBlock(layer, x, ins, g, out, path, h, total, y, behind(residual)[0])


def _to_sum(product: gs.Node, outputs: set[int]) -> tuple[tuple[gs.Node, ...], gs.Node]:
    """The nodes between a product and the residual Add, and that; raises Unfit."""
    path: list[gs.Node] = []
    node = product
    while True:
        value = node.outputs[0]
        readers = [reader for reader in readers_of(value) if reader.op not in OF_SIZES]
        if id(value) in outputs or len(readers) != 1:
            raise Unfit(f"'{value.name}' is an output, or {len(readers)} nodes read it")
        (node,) = readers
        others = [tensor for tensor in node.inputs if tensor is not value]
        is_add = node.op == "Add" and is_standard(node) and len(others) == 1
        if is_add and not is_constant(others[0]):
            return tuple(path), node
        if not is_add and (node.op not in PASS_ON or node.inputs[0] is not value):
            raise Unfit(f"'{value.name}' goes into {node.op} '{label(node)}', not into a sum")
        path.append(node)


def _miss(journal: Journal | None, node: gs.Node, reason: str) -> None:
    if journal:
        journal.miss(_BY, node, reason)
