"""Walking, reading and copying protobuf messages."""

from collections.abc import Callable, Iterator
from typing import Any

import onnx


def walk(message: Any) -> Iterator[Any]:
    """A message and all messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type:
            for inner in value if hasattr(value, "extend") else (value,):
                yield from walk(inner)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph, those inside its nodes (If, Loop, Scan) and those inside them."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def default_opset(model: onnx.ModelProto) -> int:
    """Version of the default operator set; 0 if the model imports none."""
    versions = (int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx"))
    return next(versions, 0)


def set_opset(model: onnx.ModelProto, version: int) -> None:
    """Import another version of the default operator set, if the model imports one."""
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = version


def initializers(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The dense initializers of all graphs."""
    for graph in graphs(model.graph):
        yield from graph.initializer


def constant_names(graph: onnx.GraphProto) -> list[str]:
    """Names of the initializers of one graph, the sparse ones behind."""
    names = [tensor.name for tensor in graph.initializer]
    return names + [sparse.values.name for sparse in graph.sparse_initializer]


def keep(field: Any, wanted: Callable[[Any], bool]) -> None:
    """Drop the items of a repeated field that are not wanted."""
    for index in reversed([i for i, item in enumerate(field) if not wanted(item)]):
        del field[index]


def copy_without(message: Any, *names: str) -> Any:
    """A copy of a message without some fields, which are not even looked at."""
    copy = type(message)()
    for field, value in message.ListFields():
        if field.name in names:
            continue
        if hasattr(value, "extend"):
            getattr(copy, field.name).extend(value)
        elif hasattr(value, "CopyFrom"):
            getattr(copy, field.name).CopyFrom(value)
        else:
            setattr(copy, field.name, value)
    return copy


Change = Callable[[onnx.TensorProto], onnx.TensorProto | None]


def with_initializers(model: onnx.ModelProto, change: Change) -> onnx.ModelProto:
    """A copy with ``change(initializer)`` in place of each dense one in any graph; None drops it.

    The data of those that change is not copied.
    """
    copy: onnx.ModelProto = copy_without(model, "graph")
    copy.graph.CopyFrom(_graph(model.graph, change))
    return copy


def _graph(graph: onnx.GraphProto, change: Change) -> onnx.GraphProto:
    copy: onnx.GraphProto = copy_without(graph, "node", "initializer")
    copy.initializer.extend(t for t in map(change, graph.initializer) if t is not None)
    for node in graph.node:
        copy.node.append(copy_without(node, "attribute"))
        for attribute in node.attribute:
            copied = copy.node[-1].attribute.add()
            copied.CopyFrom(copy_without(attribute, "g"))
            if attribute.HasField("g"):
                copied.g.CopyFrom(_graph(attribute.g, change))
    return copy


def message_bytes(model: onnx.ModelProto) -> int:
    """``model.ByteSize()``, which writes all weights to measure them; this does not touch them."""
    light = copy_without(model, "graph")
    graph = copy_without(model.graph, "initializer")
    size = graph.ByteSize() + sum(_field_bytes(_tensor_bytes(t)) for t in model.graph.initializer)
    return int(light.ByteSize() + _field_bytes(size))


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    data = _field_bytes(len(tensor.raw_data)) if tensor.HasField("raw_data") else 0
    return int(copy_without(tensor, "raw_data").ByteSize()) + data


def _field_bytes(size: int) -> int:
    """Of a field of a number below 16 that holds ``size`` bytes: key, length, contents."""
    return 1 + max(1, -(-size.bit_length() // 7)) + size
