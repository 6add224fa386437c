"""inventory: what a model file holds, found without loading its weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx

from sardonyx.compiler.check_content import check_data, check_text
from sardonyx.compiler.check_model import check_graph
from sardonyx.compiler.contents import Contents, PlacedNode, Stored, Where, join
from sardonyx.compiler.load import place_data
from sardonyx.compiler.messages import graphs, walk
from sardonyx.compiler.model_file import read_model
from sardonyx.compiler.quantized import Quantized, Rounded, quantized_weights, rounded_activations
from sardonyx.compiler.stored import is_stored
from sardonyx.passes.facts import NUMERIC
from sardonyx.runtime_ops.errors import InputError

_VALUES = {
    "value": onnx.AttributeProto.TENSOR,
    "value_float": onnx.AttributeProto.FLOAT,
    "value_floats": onnx.AttributeProto.FLOATS,
    "value_int": onnx.AttributeProto.INT,
    "value_ints": onnx.AttributeProto.INTS,
}
"""Attributes of a Constant node that are listed, and their types."""


@dataclass(kw_only=True)
class Inventory(Contents):
    """A model's contents, its encoded weights and its rounded activations.

    ``model``: all of it but large weights. ``nbytes``: of the file and its external data.
    """

    path: Path
    model: onnx.ModelProto
    nbytes: int

    @cached_property
    def quantized(self) -> dict[str, Quantized]:
        """The encoded weights, by the name of the constant they were; a second one of that name,
        in another body, has the body's in front."""
        return quantized_weights(self)

    @cached_property
    def rounded(self) -> list[Rounded]:
        """The activations that a pass rounded."""
        return rounded_activations(self)


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
    found = Inventory(path=path, model=model, nbytes=nbytes)
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
    scope = outer | {name: join(path, name) for name in own if name}
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
