"""Where a chip that computes in integers writes an activation back: what quantizers stand on.

A site is the result of a product by a weight, with its bias, or of the activation function that
follows at once; of a product of two activations; of a softmax; of a sum or product, element by
element, of two activations; of a normalization. A formula that is written out is one step: nothing
inside it is a site. Lookups, data movement, masks, scalings and terms of scores are none. BERT-base
with pooler and classifier has 3 + 12 * 13 + 2 = 161, as Bondarenko et al. (arXiv 2109.12948) count.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import onnx_graphsurgeon as gs

from sardonyx.passes.ffn_blocks import BLOCK_KINDS, OF_SIZES, PASS_ON, BlockKind, ffn_blocks
from sardonyx.passes.fuse.written_out import written_functions, written_norms
from sardonyx.passes.metadata import PREFIX, PROPS
from sardonyx.passes.quantize.products import product_uses
from sardonyx.passes.rewrite import readers_of
from sardonyx.passes.roles import ATTENTION_OPS, Role, noted_place, product_places
from sardonyx.passes.scopes import computed_constants, is_constant
from sardonyx.passes.weights import is_float

SiteRole = Role | Literal["scores", "probabilities", "context", "sum", "gate", "norm", "activation"]
"""Of a product by a weight: the weight's. ``gate``: a product of two activations, element by
element; ``activation``: the result of an activation function."""

Kind = BlockKind | Literal["r", ""]
"""Which tensor of an `FfnBlock` a site is; ``r``: any other sum of two activations, as those behind
attention and of embeddings; empty: neither."""

SUMS: Kind = "r"

KINDS: tuple[Kind, ...] = (*BLOCK_KINDS, SUMS)
"""All but the empty one."""

_ROLE_OF_KIND: dict[str, SiteRole] = {
    "x": "norm",
    "g": "activation",
    "h": "ffn_out",
    "y": "sum",
    "r": "sum",
}

_PRODUCTS = ("MatMul", "Gemm", "Einsum", "Conv", "ConvTranspose")

_STEPS: dict[str, SiteRole] = {
    **dict.fromkeys(("Softmax", "LogSoftmax"), "probabilities"),
    **dict.fromkeys(ATTENTION_OPS, "context"),
    **dict.fromkeys(
        (
            "LayerNormalization",
            "RMSNormalization",
            "SimplifiedLayerNormalization",
            "SkipLayerNormalization",
            "SkipSimplifiedLayerNormalization",
            "EmbedLayerNormalization",
            "GroupNormalization",
            "InstanceNormalization",
        ),
        "norm",
    ),
    **dict.fromkeys(
        (
            *("BiasGelu", "Elu", "FastGelu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu"),
            *("Mish", "QuickGelu", "Relu", "Selu", "Sigmoid", "Softplus", "Swish", "Tanh"),
        ),
        "activation",
    ),
}
"""Ops whose result is a site, whatever stands around them."""

_MOVES = (*PASS_ON, "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast")
"""Ops that change no value."""

_LOOKUPS = ("Gather", "GatherND", "Slice", "Expand", "Tile", "Reshape")
"""Ops that take rows of a table, or repeat them."""

_CODES = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, eq=False)
class Site:
    """An activation that a quantizer stands on. ``layer``: as `weight_places` counts, of what it is
    computed from; None ahead of the first and behind the last. ``group``: which slice of a split
    tensor it is, from 0; None: the whole."""

    tensor: gs.Tensor
    role: SiteRole
    layer: int | None
    kind: Kind = ""
    group: int | None = None


def activation_sites(graph: gs.Graph) -> list[Site]:
    """The sites directly in ``graph``, in its order.

    Notes of a pass that split tensors come first: a node with ``sardonyx.site`` (a kind),
    ``sardonyx.layer`` and, of a slice, ``sardonyx.group`` makes a site of that kind with its first
    output; a Split with each, in turn the groups, in the place of the tensor that it splits. What a
    node with ``sardonyx.partial`` makes is a partial product, or a sum of some, and no site.
    """
    walk = _Walk(graph)
    return [site for node in graph.nodes if node.outputs for site in walk.past(node)]


class _Value(IntEnum):
    """What a tensor holds. ``NONE``: no activation, as masks, positions and weights; ``LOOKUP``:
    rows of tables; ``SCORES``: products of two activations, on their way into a softmax, and
    ``PROBABILITIES`` behind it."""

    NONE = 0
    LOOKUP = 1
    COMPUTED = 2
    SCORES = 3
    PROBABILITIES = 4


_Judged = tuple[SiteRole | None, _Value]
"""The role of a node's result, if that is a site, and what it holds."""


@dataclass
class _Walk:
    """From the first node of a graph to the last. By ``id``: ``forms``: of the nodes of written-out
    formulas, the role of the result, None inside; ``functions``: of those of activation functions;
    ``kinds``: of the tensors of blocks, kind and layer; ``roles``, ``layers``: of products by
    weights; ``ends``: of Adds that end such a product, its role; ``constants``: of tensors computed
    from constants; ``values``, ``at``: of tensors, what they hold and the layer."""

    graph: gs.Graph
    forms: dict[int, SiteRole | None] = field(default_factory=dict)
    functions: set[int] = field(default_factory=set)
    kinds: dict[int, tuple[Kind, int]] = field(default_factory=dict)
    roles: dict[int, SiteRole] = field(default_factory=dict)
    layers: dict[int, int | None] = field(default_factory=dict)
    ends: dict[int, SiteRole] = field(default_factory=dict)
    constants: set[int] = field(default_factory=set)
    values: dict[int, _Value] = field(default_factory=dict)
    at: dict[int, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for root, *inner in written_norms(self.graph):
            self.forms |= {**dict.fromkeys(map(id, inner)), id(root): "norm"}
        for root, *inner in written_functions(self.graph):
            self.forms |= {**dict.fromkeys(map(id, inner)), id(root): "activation"}
            self.functions |= {id(node) for node in (root, *inner)}
        for block in ffn_blocks(self.graph):
            for kind, tensor in block.tensors.items():
                self.kinds[id(_origin(tensor))] = kind, block.layer
        linears = {id(use.node): use for use in product_uses(self.graph)}
        for node, place in product_places(self.graph, linears):
            self.roles[id(node)], self.layers[id(node)] = place.role, place.layer
        self.constants = computed_constants(self.graph)
        for tensor in self.graph.inputs:
            if tensor.dtype is not None and is_float(tensor.dtype):
                self.values[id(tensor)] = _Value.COMPUTED

    def past(self, node: gs.Node) -> Iterator[Site]:
        """Go on past a node, the sites of which are returned."""
        role, value = self._judge(node, [self._value(tensor) for tensor in node.inputs])
        layers = [self.at.get(id(t)) for t in node.inputs if self._value(t)]
        layer = max((one for one in layers if one is not None), default=None)
        layer = self.layers.get(id(node), layer)
        for tensor in node.outputs:
            self.values[id(tensor)], self.at[id(tensor)] = value, layer
        noted = list(_noted(node))
        if noted:
            return iter(noted)
        tensor = node.outputs[0]
        if role is None or any(map(_is_split, _readers(tensor))):
            return iter(())
        other: Kind = SUMS if role == "sum" else ""
        kind, layer = self.kinds.get(id(tensor), (other, layer))
        return iter([Site(tensor, role, layer, kind)])

    def _value(self, tensor: gs.Tensor) -> _Value:
        return self.values.get(id(tensor), _Value.NONE)

    def _judge(self, node: gs.Node, read: list[_Value]) -> _Judged:
        most = max(read, default=_Value.NONE)
        if node.op in _LOOKUPS and self._is_table(node.inputs[0]):
            is_fixed = all(map(self._is_constant, node.inputs))
            return None, _Value.NONE if is_fixed else _Value.LOOKUP
        if not most or not _is_of_floats(node):
            return None, _Value.NONE
        if id(node) in self.forms:
            return self.forms[id(node)], _Value.COMPUTED
        if id(node) in self.ends:
            return self._ended(node, self.ends[id(node)])
        if node.op in _STEPS:
            role = _STEPS[node.op]
            is_softmax = role == "probabilities"
            return role, _Value.PROBABILITIES if is_softmax else _Value.COMPUTED
        rule = _RULES.get(node.op)
        return rule(self, node, read) if rule else (None, most)

    def product(self, node: gs.Node, read: list[_Value]) -> _Judged:
        """A product by a weight, or of two activations; an Einsum may have one operand."""
        if len(read) < 2:
            return None, max(read)
        if min(read[:2]):
            mixes = _Value.PROBABILITIES in read[:2]
            return ("context", _Value.COMPUTED) if mixes else ("scores", _Value.SCORES)
        other = node.inputs[1 if read[0] else 0]
        return self._weighed(node) if self._is_constant(other) else (None, max(read))

    def sum(self, node: gs.Node, read: list[_Value]) -> _Judged:
        """A sum of two activations; of partial products; of scores and what is no product."""
        if any(tensor.inputs and _is_partial(tensor.inputs[0]) for tensor in node.inputs):
            return self._weighed(node)
        tables = [_Value.LOOKUP for t in node.inputs if self._is_table(t) and not _is_row(t)]
        given = [*filter(None, read), *tables]
        if len(given) < 2:
            return None, max(read)
        if _Value.SCORES in given:
            return "scores" if min(given) == _Value.SCORES else None, _Value.SCORES
        return "sum", _Value.COMPUTED

    def mul(self, node: gs.Node, read: list[_Value]) -> _Judged:
        """A gate; or a factor, as of scores, and rotations by cosines from a table."""
        a, b = node.inputs
        if min(read) == max(read) == _Value.COMPUTED and a is not b:
            return "gate", _Value.COMPUTED
        return None, max(read)

    def _weighed(self, node: gs.Node) -> _Judged:
        """A product by a weight: at its bias, if it has one, it is complete."""
        if _is_partial(node):
            return None, _Value.COMPUTED
        role, end = self._role(node), _end(node)
        if end is node:
            return self._ended(node, role)
        self.ends[id(end)] = role
        return None, _Value.COMPUTED

    def _ended(self, node: gs.Node, role: SiteRole) -> _Judged:
        """A complete product, unless an activation function, and nothing else, reads it."""
        result = node.outputs[0]
        readers = list(_readers(result))
        followed = readers and all(self._is_function(reader) for reader in readers)
        is_output = any(result is output for output in self.graph.outputs)
        return role if is_output or not followed else None, _Value.COMPUTED

    def _is_function(self, node: gs.Node) -> bool:
        return id(node) in self.functions or _STEPS.get(node.op) == "activation"

    def _is_constant(self, tensor: gs.Tensor) -> bool:
        return isinstance(tensor, gs.Constant) or id(tensor) in self.constants

    def _is_table(self, tensor: gs.Tensor) -> bool:
        """Whether a tensor is a constant of floats with two axes or more."""
        known = self._is_constant(tensor) and tensor.dtype is not None and is_float(tensor.dtype)
        return known and (tensor.shape is None or len(tensor.shape) > 1)

    def _role(self, node: gs.Node) -> SiteRole:
        """That of a product, or of those that are added up."""
        for near in (node, *(t.inputs[0] for t in node.inputs if t.inputs)):
            place = noted_place(near)
            if place:
                return place.role
        return self.roles.get(id(node), "other")


_RULES: dict[str, Callable[[_Walk, gs.Node, list[_Value]], _Judged]] = {
    **dict.fromkeys(_PRODUCTS, _Walk.product),
    **dict.fromkeys(("Add", "Sum"), _Walk.sum),
    "Mul": _Walk.mul,
}


def _note(node: gs.Node, key: str) -> str:
    return str(node.attrs.get(PROPS, {}).get(f"{PREFIX}{key}", ""))


def _noted(node: gs.Node) -> Iterator[Site]:
    """The sites that the notes of a node tell of."""
    layer, group = (_note(node, key) for key in ("layer", "group"))
    for kind in (kind for kind in KINDS if kind == _note(node, "site")):
        groups = range(len(node.outputs)) if node.op == "Split" else [int(group) if group else None]
        for tensor, place in zip(node.outputs, groups, strict=False):
            yield Site(tensor, _ROLE_OF_KIND[kind], int(layer) if layer else None, kind, place)


def _is_split(node: gs.Node) -> bool:
    """Whether a node splits a tensor into sites."""
    return node.op == "Split" and bool(_note(node, "site"))


def _is_partial(node: gs.Node) -> bool:
    return bool(_note(node, "partial"))


def _is_of_floats(node: gs.Node) -> bool:
    dtype = node.outputs[0].dtype
    return dtype is None or is_float(dtype) or node.op in _CODES


def _is_row(tensor: gs.Tensor) -> bool:
    """Whether a tensor is known to have one row, as biases have."""
    return tensor.shape is not None and all(size == 1 for size in tensor.shape[:-1])


def _end(product: gs.Node) -> gs.Node:
    """The Add of the bias behind a product, perhaps after a move; without one the product."""
    node = product
    while True:
        readers = [n for n in readers_of(node.outputs[0]) if n.op not in OF_SIZES]
        if len(readers) != 1 or readers[0].op not in ("Add", *_MOVES):
            return product
        (node,) = readers
        if node.op == "Add":
            biases = [t for t in node.inputs if is_constant(t) and _is_row(t)]
            return node if len(biases) == 1 else product


def _readers(tensor: gs.Tensor) -> Iterator[gs.Node]:
    """The nodes that compute with a tensor, wherever it is moved."""
    for node in readers_of(tensor):
        if node.op in _MOVES:
            yield from _readers(node.outputs[0])
        elif node.op not in OF_SIZES:
            yield node


def _origin(tensor: gs.Tensor) -> gs.Tensor:
    """The tensor that was moved into this one."""
    while tensor.inputs and tensor.inputs[0].op in _MOVES:
        tensor = tensor.inputs[0].inputs[0]
    return tensor
