"""inventory: what a model file holds, found without loading its weights."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from sardonyx.compiler.check_content import check_data, check_text
from sardonyx.compiler.check_model import check_graph
from sardonyx.compiler.external_data import data_bytes
from sardonyx.compiler.load import place_data
from sardonyx.compiler.messages import graphs, walk
from sardonyx.compiler.model_file import read_model
from sardonyx.compiler.notes import WeightNotes, weight_notes
from sardonyx.compiler.stored import is_stored, span_of
from sardonyx.passes.facts import NUMERIC
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.ops import DOMAIN, INPUTS

Where = Literal["graph", "body", "function"]
"""The main graph; the bodies of its If, Loop and Scan nodes; the model's functions."""


_VALUES = {
    "value": onnx.AttributeProto.TENSOR,
    "value_float": onnx.AttributeProto.FLOAT,
    "value_floats": onnx.AttributeProto.FLOATS,
    "value_int": onnx.AttributeProto.INT,
    "value_ints": onnx.AttributeProto.INTS,
}
"""Attributes of a Constant node that are listed, and their types."""


@dataclass(frozen=True)
class Stored:
    """A constant tensor: an initializer or the value of a Constant node.

    ``tensor``: as it is written, with its data or where that lies.
    """

    name: str
    tensor: onnx.TensorProto

    @property
    def dtype(self) -> str:
        """Name of the element type, as float32."""
        if self.tensor.data_type == onnx.TensorProto.STRING:
            return "string"
        return onnx.helper.tensor_dtype_to_np_dtype(self.tensor.data_type).name

    @property
    def shape(self) -> list[int]:
        """Its dimensions."""
        return list(self.tensor.dims)

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        if self.tensor.data_type == onnx.TensorProto.STRING:
            return sum(map(len, self.tensor.string_data))
        return data_bytes(self.tensor)

    @cached_property
    def digest(self) -> str:
        """A hash of the data, equal however they are stored."""
        hashed = hashlib.blake2b(digest_size=16)
        for part in self._data():
            hashed.update(part)
        return hashed.hexdigest()

    def _data(self) -> Iterable[bytes]:
        span = span_of(self.tensor)
        if span:
            return span.blocks()
        if self.tensor.data_type == onnx.TensorProto.STRING:
            return [repr(list(self.tensor.string_data)).encode()]
        if self.tensor.HasField("raw_data"):
            return [self.tensor.raw_data]
        return [onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(self.tensor)).raw_data]


@dataclass(frozen=True)
class PlacedNode:
    """A node and where it is.

    ``path``: what it lies inside, empty in the main graph. ``inputs``, ``outputs``: its tensors, by
    names that are unique in the model: those of inner graphs have the path in front.
    """

    node: onnx.NodeProto
    where: Where
    path: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def op(self) -> str:
        """Its op, with the domain unless that is the standard one or ours."""
        domain = self.node.domain
        return (
            self.node.op_type
            if domain in ("", "ai.onnx", DOMAIN)
            else f"{domain}.{self.node.op_type}"
        )

    @property
    def name(self) -> str:
        """Its name, or that of its first output."""
        return (
            _join(self.path, self.node.name)
            if self.node.name
            else next(filter(None, self.outputs), "?")
        )


@dataclass(frozen=True)
class Quantized:
    """A weight that a pass encoded. ``nodes``: who reads it; ``parts``: what replaced it, by the
    names of the op's inputs."""

    notes: WeightNotes
    nodes: tuple[PlacedNode, ...]
    parts: dict[str, Stored]

    @property
    def path(self) -> str:
        """What the name of the weight began with if it was in the one body that reads it."""
        paths = {node.path for node in self.nodes}
        return _join(paths.pop(), "") if len(paths) == 1 else ""

    @property
    def size(self) -> int:
        """Weights in it."""
        (_, shape), *_ = self.notes.originals.values()
        return math.prod(shape)

    @property
    def digest(self) -> str:
        """A hash of the parts."""
        return " ".join(part.digest for part in self.parts.values())


@dataclass
class Inventory:
    """A model's nodes (also those inside others and in functions), constants and encoded weights.

    ``model``: all of it but large weights. ``nbytes``: of the file and its external data.
    """

    path: Path
    model: onnx.ModelProto
    nbytes: int
    nodes: list[PlacedNode] = field(default_factory=list)
    tensors: dict[str, Stored] = field(default_factory=dict)

    @cached_property
    def readers(self) -> dict[str, list[PlacedNode]]:
        """The nodes that read each tensor."""
        found: dict[str, list[PlacedNode]] = {}
        for placed in self.nodes:
            for name in dict.fromkeys(placed.inputs):
                found.setdefault(name, []).append(placed)
        return found

    @cached_property
    def quantized(self) -> dict[str, Quantized]:
        """The encoded weights, by the name of the constant they were; a second one of that name,
        in another body, has the body's in front."""
        groups: dict[tuple[str, ...], list[PlacedNode]] = {}
        for placed in self.nodes:
            if placed.node.domain == DOMAIN and weight_notes(placed.node):
                names = placed.inputs[1 : 1 + len(INPUTS)]  # a GoboLinear has a bias too
                groups.setdefault(names, []).append(placed)
        found = {}
        for names, nodes in groups.items():
            notes = weight_notes(nodes[0].node)
            parts = {
                role: self.tensors[name]
                for role, name in zip(INPUTS, names, strict=False)
                if name in self.tensors
            }
            if notes and len(parts) == len(INPUTS) and all(p.shape for p in parts.values()):
                weight = Quantized(notes, tuple(nodes), parts)
                name = f"{weight.path}{notes.weight}" if notes.weight in found else notes.weight
                found[name] = weight
        return found


def take_inventory(path: Path) -> Inventory:
    """The inventory of a file. Raises InputError where it is no model, or its data is missing."""
    model, inline = read_model(path)
    name = f"'{path}'"
    check_text(model, name)
    check_graph(model, name)
    _check_stored(model, name)
    external = place_data(model, inline, path.parent, name)
    check_data(model, name)
    _check_constants(model, name)
    nbytes = path.stat().st_size + sum(span.length for span in external)
    found = Inventory(path, model, nbytes)
    _walk(found, model.graph, "graph", "", {})
    for function in model.functions:
        inputs = [onnx.ValueInfoProto(name=name) for name in function.input]
        body = onnx.GraphProto(node=function.node, input=inputs)
        _walk(found, body, "function", f"{function.domain}.{function.name}", {})
    return found


def _check_stored(model: onnx.ModelProto, name: str) -> None:
    """Refuse tensors in attributes and sparse ones that lie in files."""
    for message in walk(model):
        tensors: list[onnx.TensorProto] = []
        if isinstance(message, onnx.AttributeProto):
            tensors = [message.t, *message.tensors]
        if isinstance(message, onnx.SparseTensorProto):
            tensors = [message.values, message.indices]
        for tensor in filter(is_stored, tensors):
            raise InputError(
                f"{name}: tensor '{tensor.name}' keeps data in another file: only dense "
                "initializers may"
            )


def _check_constants(model: onnx.ModelProto, name: str) -> None:
    """Refuse Constant nodes whose value is not of the type that its attribute must have."""
    for node in (node for graph in graphs(model.graph) for node in graph.node):
        for attribute in node.attribute if node.op_type == "Constant" else ():
            empty = attribute.name == "value" and not attribute.HasField("t")
            if empty or attribute.type != _VALUES.get(attribute.name, attribute.type):
                raise InputError(
                    f"{name} is not a valid ONNX model: attribute '{attribute.name}' of Constant "
                    f"'{node.name or ', '.join(node.output)}' has no value of its type"
                )


def _walk(
    found: Inventory,
    graph: onnx.GraphProto,
    where: Where,
    path: str,
    outer: dict[str, str],
) -> None:
    """Add a graph's contents. ``outer``: the unique names of the tensors it sees from outside."""
    constants = list(_constants(graph)) if where != "function" else []
    own = [value.name for value in (*graph.input, *constants)]
    own += [name for node in graph.node for name in node.output]
    scope = outer | {name: _join(path, name) for name in own if name}
    for tensor in constants:
        name = scope[tensor.name]
        found.tensors[name] = Stored(name, tensor)
    for node in graph.node:
        inputs, outputs = ([scope.get(n, n) for n in names] for names in (node.input, node.output))
        placed = PlacedNode(node, where, path, tuple(inputs), tuple(outputs))
        found.nodes.append(placed)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                inside = "body" if where == "graph" else where
                _walk(found, attribute.g, inside, f"{placed.name}.{attribute.name}", scope)


def _constants(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Initializers, and the values of Constant nodes under the names of their outputs; none that
    has no name, as nothing can read it."""
    yield from (tensor for tensor in graph.initializer if tensor.name)
    for sparse in graph.sparse_initializer:
        if sparse.values.name and sparse.HasField("indices"):
            yield sparse.values
            yield _named(sparse.indices, f"{sparse.values.name}.indices")
    for node in graph.node:
        named = node.op_type == "Constant" and any(node.output[:1])
        for attribute in node.attribute if named else ():
            if attribute.name in _VALUES:
                yield _value(attribute, node.output[0])


def _value(attribute: onnx.AttributeProto, name: str) -> onnx.TensorProto:
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name != "value":
        return onnx.numpy_helper.from_array(np.array(value, NUMERIC[attribute.name]), name)
    return _named(value, name)


def _named(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
