"""A region as two small models, before and after, and inputs to run both on."""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import TopologicalSorter
from types import MappingProxyType

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from sardonyx.compiler.emit import op_functions
from sardonyx.compiler.export import export, header
from sardonyx.compiler.load import Source
from sardonyx.compiler.messages import initializers, set_opset
from sardonyx.compiler.operands import Operand, operands, ranges
from sardonyx.compiler.region import Record, Region, record_of
from sardonyx.compiler.stored import fill
from sardonyx.passes.scopes import all_constants, bodies, scopes
from sardonyx.passes.sizes import Dim, Sizes, Values
from sardonyx.passes.sizes.dim import evaluated, symbol
from sardonyx.runtime_ops.ops import DOMAIN

Numbers = tuple[int, ...]
"""Sizes that symbolic dimensions get, in the order they are met, over and over."""

NUMBERS: tuple[Numbers, ...] = ((2, 3, 5, 7, 11, 13), (4,))
"""All different, to tell axes apart; all equal, where dimensions of different names must agree."""

_NEAR = 6
"""Nodes between two inputs of a region up to which one is computed from the other."""

Feeds = dict[str, NDArray[np.generic]]
StandIn = Callable[[gs.Constant], gs.Constant]


class Unknown(Exception):
    """Nothing is known of an input's type, so that no values can be made up for it."""


@dataclass(frozen=True)
class Pair:
    """Two models with the same inputs and, in order, the same outputs.

    ``values``: elements of inputs that hold nothing but sizes of others.
    """

    before: onnx.ModelProto
    after: onnx.ModelProto
    outputs: list[str]
    values: dict[str, Values]


@dataclass(frozen=True)
class Surroundings:
    """What regions are cut out of: a ``graph`` after a pass.

    ``sizes``: of the graph before. ``changed``: ids of nodes that do not stand before and after.
    ``computed``: ids of variables computed from constants alone. ``stand_in``: what to read,
    before, in place of a constant. ``exact``: whether regions may read what others make, as none
    makes anything else than before.
    """

    graph: gs.Graph
    source: Source
    sizes: Sizes
    changed: Set[int]
    computed: Set[int]
    stand_in: StandIn
    exact: bool = False

    @cached_property
    def constants(self) -> dict[str, gs.Constant]:
        """By name."""
        return {t.name: t for t in reversed(all_constants(self.graph))}


def cut(regions: list[Region], around: Surroundings) -> Pair:
    """Both sides of some regions."""
    outputs = [name for region in regions for name in region.outputs]
    before = [record for region in regions for record in region.before]
    after = [record for region in regions for record in region.after]
    known = operands([*before, *after])
    apart = [regions] if around.exact else [[region] for region in regions]
    own = {id(record.node) for record in (*before, *after)}
    # what others make exactly as before, these may be computed through, in one operator set
    fixed = own if around.exact and around.sizes.opset == around.graph.opset else around.changed
    between = {id(r.node): r for held in apart for r in _between(held, fixed)}
    shared = list(between.values())
    cuts = [
        _Cut([*before, *shared], around, around.sizes.opset, around.stand_in, known),
        _Cut([*after, *shared], around, around.graph.opset, lambda constant: constant, known),
    ]
    one, other = (cut.model(outputs) for cut in cuts)
    return Pair(one, other, outputs, cuts[0].values | cuts[1].values)


def _between(regions: list[Region], fixed: Set[int]) -> list[Record]:
    """Nodes, near and none of ``fixed``, by which values that regions read depend on each other, so
    that they cannot be made up apart; and those by which they read what they make themselves."""
    records = [record for region in regions for record in region.records]
    made = {tensor.name for record in records for tensor in record.outputs}
    read = {t.name: t for record in records for t in record.inputs if t.name not in made}
    known = read.keys() | {name for region in regions for name in region.outputs}
    found: dict[int, Record] = {}

    def depends(tensor: gs.Tensor, steps: int) -> bool:
        if not tensor.inputs or steps == 0 or id(tensor.inputs[0]) in fixed:
            return False
        (node,) = tensor.inputs
        if bodies(node):  # it reads more than its inputs
            return False
        near = [t for t in node.inputs if not isinstance(t, gs.Constant)]
        reached = [t.name in known or depends(t, steps - 1) for t in near]
        if any(reached):
            found[id(node)] = record_of(node)
        return any(reached)

    for tensor in read.values():
        depends(tensor, _NEAR)
    return list(found.values())


@dataclass
class _Cut:
    """Builds a model of fresh nodes and tensors from records.

    What reaches a record from a constant, through nodes that read nothing else, comes along.
    """

    records: list[Record]
    around: Surroundings
    opset: int
    stand_in: StandIn
    operands: dict[str, Operand]
    tensors: dict[str, gs.Tensor] = field(default_factory=dict)
    nodes: list[gs.Node] = field(default_factory=list)
    values: dict[str, Values] = field(default_factory=dict)

    def model(self, outputs: list[str]) -> onnx.ModelProto:
        made = {t.name for r in self.records for t in r.outputs if t.name}
        for name in made:
            self.tensors[name] = gs.Variable(name)
        for record in self.records:
            self._add(record)
        results, constants = [], self.around.constants
        for name in outputs:
            result = gs.Variable(f"{name}:out")
            value = self.tensors[name] if name in made else self._tensor(constants[name])
            self.nodes.append(gs.Node("Identity", result.name, {}, [value], [result]))
            results.append(result)
        inputs = [t for t in self.tensors.values() if isinstance(t, gs.Variable) and not t.inputs]
        nodes = _in_order(self.nodes)
        graph = gs.Graph(nodes, inputs, results, name="region", opset=self.opset)
        return self._export(graph)

    def _add(self, record: Record) -> None:
        operands = [self._tensor(*held) for held in zip(record.inputs, record.values, strict=True)]
        results = [self._tensor(t) for t in record.outputs]
        for tensor in _read_by_bodies(record.node):
            self._tensor(tensor)
        name, attrs = record.node.name, dict(record.attrs)
        self.nodes.append(gs.Node(record.op, name, attrs, operands, results, domain=record.domain))

    def _tensor(self, tensor: gs.Tensor, values: object = None) -> gs.Tensor:
        name = tensor.name
        if not name:
            return gs.Variable.empty()
        if name in self.tensors:
            return self.tensors[name]
        if isinstance(tensor, gs.Constant):
            other = self.stand_in(tensor)
            held = values if other is tensor and values is not None else other._values
            self.tensors[name] = gs.Constant(name, held)
        else:
            shape = self.around.sizes.shape(tensor)
            dims = shape and [dim if isinstance(dim, int) else str(dim) for dim in shape]
            self.tensors[name] = gs.Variable(name, tensor.dtype, dims)
            values = self.around.sizes.values(tensor)
            if values is not None and None not in values.reshape(-1).tolist():
                self.values[name] = values
            if id(tensor) in self.around.computed:
                self._add(record_of(tensor.inputs[0]))
        return self.tensors[name]

    def _export(self, graph: gs.Graph) -> onnx.ModelProto:
        written = header(graph)
        del written.input[:]
        written.input.extend(self._typed(tensor) for tensor in graph.inputs)
        model = onnx.ModelProto(graph=export(graph, written))
        for tensor in initializers(model):
            fill(tensor)
        model.opset_import.extend(self.around.source.model.opset_import)
        set_opset(model, self.opset)
        domains = {opset.domain for opset in model.opset_import}
        for domain in {node.domain or "" for node in graph.nodes} - domains - {""}:
            model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
        model.functions.extend(f for f in self.around.source.model.functions if f.domain != DOMAIN)
        model.functions.extend(op_functions(graph, self.opset))
        model.ir_version = max(8, self.around.source.model.ir_version)
        return model

    def _typed(self, tensor: gs.Variable) -> onnx.ValueInfoProto:
        known = self.around.source.shapes.get(tensor.name, onnx.TypeProto()).tensor_type.elem_type
        if not known and tensor.dtype is not None:
            known = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
        if not known or tensor.shape is None:
            if tensor.name not in self.operands:
                raise Unknown(tensor.name)
            return onnx.ValueInfoProto(name=tensor.name, type=self.operands[tensor.name].type)
        return onnx.helper.make_tensor_value_info(tensor.name, known, tensor.shape)


def _read_by_bodies(node: gs.Node) -> list[gs.Tensor]:
    """What graphs inside a node read from around it."""
    inner_graphs = [body for outer in bodies(node) for body in scopes(outer)]
    if not inner_graphs:
        return []
    nodes = [inner for body in inner_graphs for inner in body.nodes]
    inside = {id(t) for body in inner_graphs for t in body.inputs}
    inside |= {id(t) for inner in nodes for t in inner.outputs}
    read = [t for inner in nodes for t in inner.inputs]
    read += [t for body in inner_graphs for t in body.outputs]
    return [t for t in read if id(t) not in inside and not isinstance(t, gs.Constant)]


def _in_order(nodes: list[gs.Node]) -> list[gs.Node]:
    """Nodes behind those whose outputs they read: by name, as bodies read tensors of the graph that
    the nodes were cut from."""
    makers = {t.name: node for node in nodes for t in node.outputs if t.name}
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for node in nodes:
        reads = [t.name for t in (*node.inputs, *_read_by_bodies(node))]
        sorter.add(id(node), *(id(makers[name]) for name in reads if name in makers))
    placed = {id(node): node for node in nodes}
    return [placed[key] for key in sorter.static_order()]


def random_feeds(
    pair: Pair, records: Iterable[Record], numbers: Numbers, spanned: bool = False
) -> Feeds:
    """Values for all inputs of both models; the same at every call. ``spanned``: those that a
    QuantizeLinear of ``records`` reads lie evenly over its range, both ends among them."""
    inputs = [*pair.before.graph.input, *pair.after.graph.input]
    feeds = feeds_for(inputs, records, numbers, pair.values)
    for name, (low, high) in reversed(list(ranges(records))) if spanned else ():
        if name in feeds:
            even = np.linspace(low, high, feeds[name].size, dtype=feeds[name].dtype)
            feeds[name] = np.random.default_rng(0).permutation(even).reshape(feeds[name].shape)
    return feeds


def feeds_for(
    inputs: Iterable[onnx.ValueInfoProto],
    records: Iterable[Record],
    numbers: Numbers = NUMBERS[0],
    values: Mapping[str, Values] = MappingProxyType({}),
    seed: int = 0,
) -> Feeds:
    """Made-up values for ``inputs``, of which several may have one name; the same for a ``seed``.

    Floats are standard normal; truth values coin tosses, both in every row (attention ops differ
    in what they make of a mask that hides all keys); integers valid rows of the tables that
    ``records`` look up with them, or else 0 and 1.
    """
    generator = np.random.default_rng(seed)
    taken: dict[str, int] = {}

    def number_of(name: str) -> int:
        return taken.setdefault(name, numbers[len(taken) % len(numbers)])

    known = operands(records)
    feeds: Feeds = {}
    for name, info in {info.name: info for info in inputs}.items():
        kind = info.type.tensor_type
        if not kind.HasField("shape"):
            raise Unknown(name)
        shape = [evaluated(_dim(dim), number_of) for dim in kind.shape.dim]
        meets = known.get(name)
        if meets and meets.width:
            shape[-1:] = [meets.width]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if name in values:
            elements = values[name].ravel().tolist()
            held = [v if isinstance(v, float) else evaluated(v, number_of) for v in elements]
            feeds[name] = np.array(held, dtype).reshape(values[name].shape)
        elif np.issubdtype(dtype, np.integer):
            feeds[name] = generator.integers(0, (meets and meets.limit) or 2, shape).astype(dtype)
        elif dtype == np.bool_:
            feeds[name] = _truths(generator, shape)
        else:
            feeds[name] = generator.standard_normal(shape).astype(dtype)
    return feeds


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    return dim.dim_value if dim.HasField("dim_value") else symbol(dim.dim_param)


def _truths(generator: np.random.Generator, shape: list[int]) -> NDArray[np.bool_]:
    truths = np.asarray(generator.random(shape) < 0.5)
    if truths.size and shape:
        truths[..., -1:] = False
        truths[..., :1] = True
    return truths
