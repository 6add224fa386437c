"""What each weight is for, told from how values flow, whatever an exporter named its nodes.

Attention is found by its arithmetic: a softmax of the product of two activations, then a product
with a third (or one of the attention ops). The matrix product behind each operand is the query, key
or value projection; the next one ahead is the attention's output. Of all others, a pair that leads
back to the width it came from, into the residual sum, is a feed-forward network. Products into
which a pass split one say in their notes what they are: ``sardonyx.role``, ``sardonyx.layer``.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

import onnx_graphsurgeon as gs

from sardonyx.passes.fused import MICROSOFT, operand
from sardonyx.passes.metadata import PREFIX, PROPS
from sardonyx.passes.scopes import is_constant, scopes
from sardonyx.passes.weights import WeightUse

Role = Literal[
    "query",
    "key",
    "value",
    "query_key_value",
    "attention_output",
    "ffn_in",
    "ffn_out",
    "embedding",
    "head",
    "other",
]
"""``query_key_value``: one matrix for several of the three. ``head``: behind the last layer, as
poolers and classifiers. ``other``: all else, as projections ahead of the first layer."""

ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Place:
    """Where a weight stands. ``layer``: counted along the graph from 0; None outside layers."""

    role: Role
    layer: int | None = None


Block = list[tuple[gs.Node, Role]]
"""The weight products of one attention or feed-forward network."""

ATTENTION_OPS = ("Attention", "MultiHeadAttention", "GroupQueryAttention")
"""Ops whose first three inputs are query, key and value."""

_BARRIERS = (
    "MatMul",
    "Gemm",
    "Einsum",
    "FusedMatMul",
    "GoboMatMul",
    "GoboLinear",
    "QLinear",
    "Conv",
    "LSTM",
)
"""How the ops begin that no search goes through, besides attention: they mix values anew."""

_SUMS = ("Add", "Sum", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization")

_ALL_DATA = (*_SUMS, "Sub", "Mul", "Div", "Concat", "Where", "Max", "Min", "Pow")
"""Ops whose inputs are all data; of others only the first is: the rest are shapes, axes, bounds."""


def weight_places(graph: gs.Graph, uses: list[WeightUse]) -> dict[int, Place]:
    """The place of every weight among ``uses``, by ``id`` of its constant.

    A weight that several layers share, or several bodies of an If, has the place it is met at
    first; a table that rows are looked up in is an embedding, whatever else reads it.
    """
    places: dict[int, Place] = {}
    linears: dict[int, WeightUse] = {}
    for use in uses:
        if use.node.op in ("MatMul", "Gemm"):
            linears[id(use.node)] = use
        else:
            looked_up = use.node.op in ("Gather", "EmbedLayerNormalization")
            places[id(use.view.constant)] = Place("embedding" if looked_up else "other")
    for scope in scopes(graph):
        for node, place in product_places(scope, linears):
            places.setdefault(id(linears[id(node)].view.constant), place)
    return places


def product_places(
    graph: gs.Graph, linears: dict[int, WeightUse]
) -> Iterator[tuple[gs.Node, Place]]:
    """The weight products directly in a graph: those in blocks, then all others. ``linears``: all
    weight products, by ``id`` of the node."""
    flow = _Flow(graph, linears)
    attentions, noted = flow.attentions(), flow.noted()
    taken = {id(node) for _, block in attentions + noted for node, _ in block}
    blocks = attentions + noted + flow.feed_forwards(taken)
    layer, complete, last = 0, False, len(flow.order)
    seen = set()
    for at, block in sorted(blocks, key=lambda item: item[0]):
        last = at
        narrows = block[-1][1] == "ffn_out"
        layer += complete and not narrows
        complete = narrows
        for node, role in block:
            seen.add(id(node))
            yield node, noted_place(node) or Place(role, layer)
    for node in flow.graph.nodes:
        if id(node) in flow.linears and id(node) not in seen:
            yield node, Place("head" if flow.order[id(node)] > last else "other")


@dataclass
class _Flow:
    """Searches along the values of one graph. ``linears``: weight products by ``id`` of node."""

    graph: gs.Graph
    linears: dict[int, WeightUse]
    order: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.order = {id(node): index for index, node in enumerate(self.graph.nodes)}

    def attentions(self) -> list[tuple[int, Block]]:
        """Every attention that has projections, with its place in the graph's order."""
        found = []
        for node in self.graph.nodes:
            operands = _attention_op(node) or self._softmax(node)
            if not operands:
                continue
            *inputs, output = operands
            block = _named([self._first(_back(t), self._is_linear) for t in inputs])
            ahead = self._first(_ahead(output), self._is_linear)
            block += [(ahead, "attention_output")] if ahead else []
            found += [(self.order[id(node)], block)] if block else []
        return found

    def noted(self) -> list[tuple[int, Block]]:
        """The products that notes tell of, layer by layer, each layer with the place of its last
        product in the graph's order."""
        layers: dict[int | None, Block] = defaultdict(list)
        for node in self.graph.nodes:
            place = noted_place(node) if self._is_linear(node) else None
            if place:
                layers[place.layer].append((node, place.role))
        return [(self.order[id(block[-1][0])], block) for block in layers.values()]

    def feed_forwards(self, taken: set[int]) -> list[tuple[int, Block]]:
        """Every feed-forward network, with the place of its last product in the graph's order."""
        pairs: dict[int, Block] = defaultdict(list)
        ends = {}
        for node in self.graph.nodes:
            if id(node) in taken or not self._is_linear(node):
                continue
            end = self._first(_ahead(node.outputs[0]), self._is_linear)
            if end is None or id(end) in taken or not self._returns(node, end):
                continue
            pairs[id(end)].append((node, "ffn_in"))
            ends[id(end)] = end
        return [(self.order[key], [*pairs[key], (end, "ffn_out")]) for key, end in ends.items()]

    def _softmax(self, node: gs.Node) -> list[gs.Tensor]:
        """Query, key, value and output of the attention around a Softmax, if there is one."""
        if node.op != "Softmax":
            return []
        scores = self._first(_back(node.inputs[0]), _is_barrier)
        mixed = self._first(_ahead(node.outputs[0]), _is_barrier)
        if scores is None or mixed is None or self._is_linear(scores) or self._is_linear(mixed):
            return []
        values = [t for t in mixed.inputs if self._first(_back(t), lambda n: n is node) is None]
        return [*scores.inputs[:2], values[0], mixed.outputs[0]] if values else []

    def _returns(self, start: gs.Node, end: gs.Node) -> bool:
        """Whether ``end`` leads back to the width that ``start`` took, into a residual sum."""
        width, back = (self.linears[id(n)].view for n in (start, end))
        matrices = len(width.constant.shape) == len(back.constant.shape) == 2
        if not matrices or width.shape[0] != back.shape[1]:
            return False
        sums = [n for n in _ahead(end.outputs[0]) if n.op in _SUMS]
        return any(self._joins(total, end) for total in sums)

    def _joins(self, total: gs.Node, end: gs.Node) -> bool:
        """Whether a sum adds a value that varies and does not itself come from ``end``."""
        others = [t for t in total.inputs[:2] if not is_constant(t)]
        return any(self._first(_back(t), lambda n: n is end) is None for t in others)

    def _first(self, nodes: Iterator[gs.Node], wanted: Callable[[gs.Node], bool]) -> gs.Node | None:
        return next(filter(wanted, nodes), None)

    def _is_linear(self, node: gs.Node) -> bool:
        return id(node) in self.linears


def noted_place(node: gs.Node) -> Place | None:
    """The place that the notes of a product tell, if they do."""
    notes = node.attrs.get(PROPS, {})
    layer = notes.get(f"{PREFIX}layer", "")
    roles = (role for role in ROLES if role == notes.get(f"{PREFIX}role"))
    return next((Place(role, int(layer)) for role in roles if layer.isdecimal()), None)


def _attention_op(node: gs.Node) -> list[gs.Tensor]:
    """Query, key, value (those there are) and output of an attention op."""
    packed = node.op == "Attention" and node.domain == MICROSOFT  # its second input is a weight
    if node.op not in ATTENTION_OPS or packed:
        return []
    given = [operand(node, slot) for slot in range(3)]
    return [*(t for t in given if t is not None), node.outputs[0]]


def _named(sources: list[gs.Node | None]) -> Block:
    """Roles of the products behind query, key and value; a missing one reads a cache."""
    roles: tuple[Role, ...] = ("query", "key", "value")
    given = [(node, role) for node, role in zip(sources, roles, strict=False) if node]
    if len(sources) < 3 or len({id(node) for node, _ in given}) < len(given):
        return [(node, "query_key_value") for node, _ in given]
    return given


def _back(tensor: gs.Tensor) -> Iterator[gs.Node]:
    """The nodes that a value comes from, the nearest first, up to barriers, which are the last."""
    return _search(tensor.inputs, _sources)


def _ahead(tensor: gs.Tensor) -> Iterator[gs.Node]:
    """The nodes that a value goes to, the nearest first, up to barriers, which are the last."""
    return _search(_readers(tensor), lambda n: [r for out in n.outputs for r in _readers(out)])


def _search(start: list[gs.Node], step: Callable[[gs.Node], list[gs.Node]]) -> Iterator[gs.Node]:
    pending, seen = deque(start), set(map(id, start))
    while pending:
        node = pending.popleft()
        yield node
        if _is_barrier(node):
            continue
        for near in step(node):
            if id(near) not in seen:
                seen.add(id(near))
                pending.append(near)


def _sources(node: gs.Node) -> list[gs.Node]:
    return [producer for tensor in _data(node) for producer in tensor.inputs]


def _readers(tensor: gs.Tensor) -> list[gs.Node]:
    return [node for node in tensor.outputs if any(t is tensor for t in _data(node))]


def _data(node: gs.Node) -> list[gs.Tensor]:
    """The inputs of a node that carry values."""
    everything = node.op in _ALL_DATA or _is_barrier(node)
    return list(node.inputs) if everything else list(node.inputs[:1])


def _is_barrier(node: gs.Node) -> bool:
    return bool(node.op.startswith(_BARRIERS)) or node.op in ATTENTION_OPS
