"""A region as two small models, before and after, and inputs to run both on."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from sardonyx.compiler.emit import op_functions
from sardonyx.compiler.load import Source
from sardonyx.compiler.region import Record, Region, record_of
from sardonyx.compiler.stored import StoredValues
from sardonyx.runtime_ops.ops import DOMAIN

_SIZES = (2, 3, 5, 7, 11, 13)
"""Sizes that symbolic dimensions get, in the order they are met."""

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
    constants = {t.name: t for t in graph.tensors().values() if isinstance(t, gs.Constant)}
    return Pair(
        _Cut(before, source, stand_in).model(outputs, constants),
        _Cut(after, source, lambda constant: constant).model(outputs, constants),
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
    tensors: dict[str, gs.Tensor] = field(default_factory=dict)
    nodes: list[gs.Node] = field(default_factory=list)

    def model(self, outputs: list[str], constants: Mapping[str, gs.Constant]) -> onnx.ModelProto:
        made = {t.name for r in self.records for t in r.outputs}
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
            if tensor.inputs and _reads_constants(tensor.inputs[0]):
                self._add(record_of(tensor.inputs[0]))
        return self.tensors[name]

    def _export(self, graph: gs.Graph) -> onnx.ModelProto:
        inputs = [self._typed(tensor) for tensor in graph.inputs]
        model: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        for written in model.graph.initializer:
            values = self.tensors[written.name]._values
            if isinstance(values, StoredValues):
                name = written.name
                written.CopyFrom(values.whole())
                written.name = name
        del model.opset_import[:]
        model.opset_import.extend(self.source.model.opset_import)
        domains = {opset.domain for opset in model.opset_import}
        for domain in {node.domain or "" for node in graph.nodes} - domains - {""}:
            model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
        model.functions.extend(f for f in self.source.model.functions if f.domain != DOMAIN)
        model.functions.extend(op_functions(graph, self.source.opset))
        model.ir_version = max(8, self.source.model.ir_version)
        return model

    def _typed(self, tensor: gs.Variable) -> onnx.ValueInfoProto:
        known = self.source.shapes.get(tensor.name)
        if known is None or not known.tensor_type.elem_type:
            raise Unknown(tensor.name)
        return onnx.ValueInfoProto(name=tensor.name, type=known)


def _reads_constants(node: gs.Node) -> bool:
    """Whether a node computes from constants alone, perhaps through other nodes that do."""
    return bool(node.inputs) and all(
        isinstance(t, gs.Constant) or (bool(t.inputs) and _reads_constants(t.inputs[0]))
        for t in node.inputs
    )


def random_feeds(pair: Pair, records: Iterable[Record]) -> Feeds:
    """Values for all inputs of both models; the same at every call."""
    return feeds_for([*pair.before.graph.input, *pair.after.graph.input], records)


def feeds_for(inputs: Iterable[onnx.ValueInfoProto], records: Iterable[Record]) -> Feeds:
    """Made-up values for ``inputs``, of which several may have one name.

    Floats are standard normal, truth values coin tosses, integers valid rows of the tables that
    ``records`` look up with them, or else 0 and 1.
    """
    generator = np.random.default_rng(0)
    sizes: dict[str, int] = {}
    records = list(records)
    limits, widths = _lookup_limits(records), _operand_widths(records)
    feeds: Feeds = {}
    for name, info in {info.name: info for info in inputs}.items():
        kind = info.type.tensor_type
        if not kind.HasField("shape"):
            raise Unknown(name)
        shape = [_size(dim, sizes) for dim in kind.shape.dim]
        shape[-1:] = [widths.get(name, size) for size in shape[-1:]]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if np.issubdtype(dtype, np.integer):
            feeds[name] = generator.integers(0, limits.get(name, 2), shape).astype(dtype)
        elif dtype == np.bool_:
            feeds[name] = generator.random(shape) < 0.5
        else:
            feeds[name] = generator.standard_normal(shape).astype(dtype)
    return feeds


def _size(dim: onnx.TensorShapeProto.Dimension, sizes: dict[str, int]) -> int:
    if dim.HasField("dim_value"):
        return dim.dim_value
    return sizes.setdefault(dim.dim_param, _SIZES[len(sizes) % len(_SIZES)])


def _lookup_limits(records: Iterable[Record]) -> dict[str, int]:
    """For names of row numbers, how many rows the table they select from has."""
    limits = {}
    for record in records:
        if record.op == "Gather" and isinstance(record.inputs[0], gs.Constant):
            limits[record.inputs[1].name] = record.inputs[0].shape[record.attrs.get("axis", 0)]
    return limits


def _operand_widths(records: Iterable[Record]) -> dict[str, int]:
    """For names of what a constant matrix multiplies, the size of its last axis."""
    widths = {}
    for record in records:
        if record.op == "MatMul" and isinstance(record.inputs[1], gs.Constant):
            widths[record.inputs[0].name] = record.inputs[1].shape[0]
    return widths
