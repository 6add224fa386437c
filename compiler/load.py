"""load: an .onnx file or model becomes a graph to edit, checked, with its weights left on disk."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import LazyValues
from onnx_graphsurgeon.logger import G_LOGGER

from sardonyx.compiler.check_model import (
    FIRST_IR_WITH_CONSTANTS,
    check_representable,
    check_valid,
    check_versions,
    first_line,
)
from sardonyx.compiler.external_data import data_bytes, external_spans
from sardonyx.compiler.model_file import Span, StoredValues, read_model
from sardonyx.compiler.stand_ins import with_stand_ins
from sardonyx.passes.metadata import DOC, PROPS
from sardonyx.runtime_ops.errors import InputError

G_LOGGER.severity = G_LOGGER.ERROR


@dataclass(frozen=True)
class Source:
    """A model as it came.

    ``path``: its file, if it has one. ``model``: all of it but large weights. ``overridable``:
    initializers that are also inputs: users may override them, so the graph has them as inputs.
    ``external``: where its initializers in other files lie. ``shapes``: what shape inference knows.
    """

    path: Path | None
    model: onnx.ModelProto
    overridable: list[onnx.TensorProto]
    external: tuple[Span, ...] = ()
    shapes: dict[str, onnx.TypeProto] = field(default_factory=dict)

    @property
    def files(self) -> set[Path]:
        """The files it was read from."""
        return {span.path for span in self.external} | ({self.path} if self.path else set())

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return next(int(o.version) for o in self.model.opset_import if o.domain in ("", "ai.onnx"))


def load(model: Path | onnx.ModelProto) -> tuple[Source, gs.Graph]:
    """Read, check and import a model.

    Raises InputError, in one sentence, for everything that cannot be compiled safely.
    """
    if isinstance(model, onnx.ModelProto):
        path, spans = None, dict[str, Span]()
        proto = onnx.ModelProto()
        proto.CopyFrom(model)
    else:
        path = model
        proto, spans = read_model(model)
    name = f"'{path}'" if path else "the model"
    check_versions(proto, name)
    check_representable(proto, name)
    _check_lengths(proto, spans, name)
    external = external_spans(proto, path.parent if path else Path(), name)
    spans |= external
    overridable = _take_overridable(proto, spans)
    source = Source(path, proto, overridable, tuple(external.values()))
    shell = _shell(proto, spans)
    check_valid(shell, name)
    inferred = onnx.shape_inference.infer_shapes(with_stand_ins(shell)).graph
    _note_types(inferred, source.shapes)
    typed = onnx.ModelProto()
    typed.CopyFrom(proto)
    typed.graph.ClearField("value_info")
    typed.graph.value_info.extend(inferred.value_info)
    return source, _import(typed, spans, name)


def _note_types(graph: onnx.GraphProto, types: dict[str, onnx.TypeProto]) -> None:
    """Take down what is known of every value; a name that bodies use differently says nothing."""
    for info in (*graph.value_info, *graph.input, *graph.output):
        if types.setdefault(info.name, info.type) != info.type:
            types[info.name] = onnx.TypeProto()
    for body in inner_graphs(graph):
        _note_types(body, types)


def inner_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The bodies of the graph's If, Loop and Scan nodes."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield attribute.g


def _check_lengths(model: onnx.ModelProto, spans: dict[str, Span], name: str) -> None:
    """Refuse data of another length than shape and type need; onnx.checker never sees it."""
    for tensor in model.graph.initializer:
        if tensor.name not in spans and not tensor.HasField("raw_data"):
            continue
        span = spans.get(tensor.name)
        have, needed = span.length if span else len(tensor.raw_data), data_bytes(tensor)
        if have != needed:
            raise InputError(
                f"{name} is not a valid ONNX model: initializer '{tensor.name}' has "
                f"{have} bytes of data where {needed} are needed"
            )


def _take_overridable(model: onnx.ModelProto, spans: dict[str, Span]) -> list[onnx.TensorProto]:
    """Remove from the model, and return, the initializers that a user may override.

    Those are the ones that are inputs too; before IR 4 all had to be, and none may be overridden.
    """
    graph = model.graph
    names = {t.name for t in graph.initializer} & {value.name for value in graph.input}
    if model.ir_version < FIRST_IR_WITH_CONSTANTS:
        keep(graph.input, lambda value: value.name not in names)
        return []
    taken = [t for t in graph.initializer if t.name in names]
    taken = [copy.deepcopy(StoredValues(t, spans.pop(t.name, None)).whole()) for t in taken]
    keep(graph.initializer, lambda t: t.name not in names)
    return taken


def keep(field: Any, wanted: Callable[[Any], bool]) -> None:
    """Drop the items of a repeated protobuf field that are not wanted."""
    kept = [copy.deepcopy(item) for item in field if wanted(item)]
    if len(kept) < len(field):
        del field[:]
        field.extend(kept)


def _shell(model: onnx.ModelProto, spans: dict[str, Span]) -> onnx.ModelProto:
    """The model with inputs in place of the initializers whose data lies in files.

    For the checker and shape inference, which need types and not data.
    """
    shell = onnx.ModelProto()
    shell.CopyFrom(model)
    shell.ir_version = max(shell.ir_version, FIRST_IR_WITH_CONSTANTS)
    stored = [t for t in shell.graph.initializer if t.name in spans]
    inputs = [onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in stored]
    keep(shell.graph.initializer, lambda t: t.name not in spans)
    shell.graph.input.extend(inputs)
    return shell


def _import(model: onnx.ModelProto, spans: dict[str, Span], name: str) -> gs.Graph:
    try:
        graph = gs.import_onnx(model)
    except Exception as error:
        raise InputError(f"{name} cannot be read as a graph: {first_line(error)}") from error
    _dress(graph, model.graph, spans)
    return graph


def _dress(graph: gs.Graph, proto: onnx.GraphProto, spans: dict[str, Span]) -> None:
    """Give the graph what graphsurgeon left behind: notes on nodes, values that stay on disk."""
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant):
            _store(tensor, spans)
    for node, written in zip(graph.nodes, proto.node, strict=True):
        if written.metadata_props:
            node.attrs[PROPS] = {prop.key: prop.value for prop in written.metadata_props}
        if written.doc_string:
            node.attrs[DOC] = written.doc_string
        for attribute in written.attribute:
            value = node.attrs[attribute.name]
            if attribute.type == onnx.AttributeProto.GRAPH:
                own = {tensor.name for tensor in attribute.g.initializer}
                _dress(value, attribute.g, {k: v for k, v in spans.items() if k not in own})
            elif isinstance(value, gs.Constant):
                _store(value, {})


def _store(constant: gs.Constant, spans: dict[str, Span]) -> None:
    values = constant._values
    if type(values) is LazyValues:
        constant._values = StoredValues(values.tensor, spans.get(constant.name))
