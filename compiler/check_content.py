"""Names and data of a model, which onnx.checker does not look at closely."""

import math
from collections import Counter
from collections.abc import Iterator

import onnx
import onnx.numpy_helper

from sardonyx.compiler.external_data import data_bytes
from sardonyx.compiler.messages import constant_names, graphs, walk
from sardonyx.compiler.stored import span_of
from sardonyx.runtime_ops.errors import InputError

_LISTS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


def check_text(model: onnx.ModelProto, name: str) -> None:
    """Refuse names and other text that are not UTF-8."""
    for message in walk(model):
        for field, value in message.ListFields():
            if field.type != field.TYPE_STRING:
                continue
            for text in value if hasattr(value, "extend") else (value,):
                if isinstance(text, bytes):  # what protobuf then gives
                    raise InputError(
                        f"{name} is not a valid ONNX model: {field.full_name} holds {text!r}, "
                        "which is not UTF-8"
                    )


def check_names(model: onnx.ModelProto, name: str) -> None:
    """Refuse names that initializers of a graph share, or nodes: so does onnxruntime, to which
    Constant nodes are initializers; and constants of a body that hide something around it."""
    for graph in graphs(model.graph):
        for kind, names in {
            "initializers": constant_names(graph),
            "nodes": [n.name for n in graph.node if n.name and n.op_type != "Constant"],
        }.items():
            culprit, count = next(iter(Counter(names).most_common(1)), ("", 0))
            if count > 1:
                raise InputError(
                    f"{name} is not a valid ONNX model: {count} {kind} are named '{culprit}'"
                )
    for node, hidden in _hidden(model.graph, set()):
        raise InputError(
            f"{name}: a body of {node.op_type} '{node.name}' has a constant called '{hidden}', as "
            "something around it is called: give it a name of its own"
        )


def _hidden(graph: onnx.GraphProto, around: set[str]) -> Iterator[tuple[onnx.NodeProto, str]]:
    """Nodes with a body whose constant has a name from around it, which onnx.checker lets pass."""
    seen = around | {value.name for value in graph.input} | set(constant_names(graph))
    seen |= {name for node in graph.node for name in node.output}
    for node in graph.node:
        for body in (attribute.g for attribute in node.attribute if attribute.HasField("g")):
            yield from ((node, name) for name in constant_names(body) if name in seen)
            yield from _hidden(body, seen)


def check_data(model: onnx.ModelProto, name: str) -> None:
    """Refuse data of another length than shape and type need."""
    for message in walk(model):
        if isinstance(message, onnx.TensorProto):
            fault = _fault(message)
            if fault:
                raise InputError(
                    f"{name} is not a valid ONNX model: initializer '{message.name}' {fault}"
                )


def _fault(tensor: onnx.TensorProto) -> str:
    """What is wrong with a tensor's data, if anything."""
    span, needed = span_of(tensor), data_bytes(tensor)
    lists = [field for field in _LISTS if len(getattr(tensor, field))]
    if (span is not None) + bool(tensor.raw_data) + len(lists) > 1:
        return "holds data in more than one place"
    if span is not None or tensor.HasField("raw_data"):
        have = span.length if span else len(tensor.raw_data)
        return f"has {have} bytes of data where {needed} are needed" if have != needed else ""
    if tensor.data_type == onnx.TensorProto.STRING:
        fits = len(tensor.string_data) == math.prod(tensor.dims)
    else:
        fits = _is_array(tensor)
    return "" if fits else f"has data that does not fit its shape {list(tensor.dims)}"


def _is_array(tensor: onnx.TensorProto) -> bool:
    try:
        onnx.numpy_helper.to_array(tensor)
    except (ValueError, OverflowError):
        return False
    return True
