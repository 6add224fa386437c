"""A region as two small models, before and after, and inputs to run both on."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from sardonyx.compiler.emit import op_functions
from sardonyx.compiler.export import export, header
from sardonyx.compiler.load import Source
from sardonyx.compiler.messages import initializers
from sardonyx.compiler.operands import Operand, operands
from sardonyx.compiler.region import Record, Region, record_of
from sardonyx.compiler.stored import fill
from sardonyx.passes.scopes import all_constants, is_constant
from sardonyx.runtime_ops.ops import DOMAIN

Sizes = tuple[int, ...]
"""Sizes that symbolic dimensions get, in the order they are met, over and over."""

SIZES: tuple[Sizes, ...] = ((2, 3, 5, 7, 11, 13), (4,))
"""All different, to tell axes apart; all equal, where dimensions of different names must agree."""

Feeds = dict[str, NDArray[np.generic]]
StandIn = Callable[[gs.Constant], gs.Constant]


class Unknown(Exception):
    """Nothing is known of an input's type, so that no values can be made up for it."""


@dataclass(frozen=True)
class Pair:
    """Two models with the same inputs and, in order, the same outputs."""

    before: onnx.ModelProto
    after: onnx.ModelProto
    outputs: list[str]


def cut(regions: list[Region], graph: gs.Graph, source: Source, stand_in: StandIn) -> Pair:
    """Both sides of some regions. ``stand_in``: what to read, before, in place of a constant."""
    outputs = [name for region in regions for name in region.outputs]
    before = [record for region in regions for record in region.before]
    after = [record for region in regions for record in region.after]
    constants = {t.name: t for t in reversed(all_constants(graph))}
    known = operands([*before, *after])
    return Pair(
        _Cut(before, source, stand_in, known).model(outputs, constants),
        _Cut(after, source, lambda constant: constant, known).model(outputs, constants),
        outputs,
    )


@dataclass
class _Cut:
    """Builds a model of fresh nodes and tensors from records.

    What reaches a record from a constant, through nodes that read nothing else, comes along.
    """

    records: list[Record]
    source: Source
    stand_in: StandIn
    operands: dict[str, Operand]
    tensors: dict[str, gs.Tensor] = field(default_factory=dict)
    nodes: list[gs.Node] = field(default_factory=list)

    def model(self, outputs: list[str], constants: Mapping[str, gs.Constant]) -> onnx.ModelProto:
        made = {t.name for r in self.records for t in r.outputs if t.name}
        for name in made:
            self.tensors[name] = gs.Variable(name)
        for record in self.records:
            self._add(record)
        results = []
        for name in outputs:
            result = gs.Variable(f"{name}:out")
            value = self.tensors[name] if name in made else self._tensor(constants[name])
            self.nodes.append(gs.Node("Identity", result.name, {}, [value], [result]))
            results.append(result)
        inputs = [t for t in self.tensors.values() if isinstance(t, gs.Variable) and not t.inputs]
        opset = self.source.opset
        graph = gs.Graph(self.nodes, inputs, results, name="region", opset=opset)
        graph.toposort()
        return self._export(graph)

    def _add(self, record: Record) -> None:
        operands = [self._tensor(*held) for held in zip(record.inputs, record.values, strict=True)]
        results = [self._tensor(t) for t in record.outputs]
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
            self.tensors[name] = gs.Variable(name)
            if is_constant(tensor):
                self._add(record_of(tensor.inputs[0]))
        return self.tensors[name]

    def _export(self, graph: gs.Graph) -> onnx.ModelProto:
        written = header(graph)
        del written.input[:]
        written.input.extend(self._typed(tensor) for tensor in graph.inputs)
        model = onnx.ModelProto(graph=export(graph, written))
        for tensor in initializers(model):
            fill(tensor)
        model.opset_import.extend(self.source.model.opset_import)
        domains = {opset.domain for opset in model.opset_import}
        for domain in {node.domain or "" for node in graph.nodes} - domains - {""}:
            model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
        model.functions.extend(f for f in self.source.model.functions if f.domain != DOMAIN)
        model.functions.extend(op_functions(graph, self.source.opset))
        model.ir_version = max(8, self.source.model.ir_version)
        return model

    def _typed(self, tensor: gs.Variable) -> onnx.ValueInfoProto:
        known = self.source.shapes.get(tensor.name, onnx.TypeProto())
        if not known.tensor_type.elem_type or not known.tensor_type.HasField("shape"):
            if tensor.name not in self.operands:
                raise Unknown(tensor.name)
            known = self.operands[tensor.name].type
        return onnx.ValueInfoProto(name=tensor.name, type=known)


def random_feeds(pair: Pair, records: Iterable[Record], sizes: Sizes) -> Feeds:
    """Values for all inputs of both models; the same at every call."""
    return feeds_for([*pair.before.graph.input, *pair.after.graph.input], records, sizes)


def feeds_for(
    inputs: Iterable[onnx.ValueInfoProto], records: Iterable[Record], sizes: Sizes = SIZES[0]
) -> Feeds:
    """Made-up values for ``inputs``, of which several may have one name.

    Floats are standard normal, truth values coin tosses, integers valid rows of the tables that
    ``records`` look up with them, or else 0 and 1.
    """
    generator = np.random.default_rng(0)
    taken: dict[str, int] = {}
    known = operands(records)
    feeds: Feeds = {}
    for name, info in {info.name: info for info in inputs}.items():
        kind = info.type.tensor_type
        if not kind.HasField("shape"):
            raise Unknown(name)
        shape = [_size(dim, sizes, taken) for dim in kind.shape.dim]
        meets = known.get(name)
        if meets and meets.width:
            shape[-1:] = [meets.width]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if np.issubdtype(dtype, np.integer):
            feeds[name] = generator.integers(0, (meets and meets.limit) or 2, shape).astype(dtype)
        elif dtype == np.bool_:
            feeds[name] = np.asarray(generator.random(shape) < 0.5)
        else:
            feeds[name] = generator.standard_normal(shape).astype(dtype)
    return feeds


def _size(dim: onnx.TensorShapeProto.Dimension, sizes: Sizes, taken: dict[str, int]) -> int:
    if dim.HasField("dim_value"):
        return dim.dim_value
    terms = [term.strip() for term in dim.dim_param.split("+")]  # exporters write "past + 1"
    for name in (term for term in terms if not term.isdigit()):
        taken.setdefault(name, sizes[len(taken) % len(sizes)])
    return sum(int(term) if term.isdigit() else taken[term] for term in terms)
