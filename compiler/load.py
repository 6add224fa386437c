"""load: an .onnx file or model becomes a graph to edit, checked, with its weights left on disk."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.importers.onnx_importer import OnnxImporter
from onnx_graphsurgeon.ir.tensor import LazyValues, SparseValues
from onnx_graphsurgeon.logger import G_LOGGER

from sardonyx.compiler.check_content import check_data, check_names, check_text
from sardonyx.compiler.check_model import (
    FIRST_IR_WITH_CONSTANTS,
    check_representable,
    check_valid,
    check_versions,
    first_line,
    infer_types,
)
from sardonyx.compiler.external_data import external_span
from sardonyx.compiler.inline import inline_functions
from sardonyx.compiler.messages import constant_names, default_opset, graphs, initializers, keep
from sardonyx.compiler.model_file import read_model
from sardonyx.compiler.stored import Span, StoredSparse, StoredValues, is_stored, point
from sardonyx.passes.metadata import DOC, PROPS, WRITTEN
from sardonyx.passes.scopes import scopes
from sardonyx.runtime_ops.errors import InputError

G_LOGGER.severity = G_LOGGER.ERROR


@dataclass(frozen=True)
class Source:
    """A model as it came.

    ``path``: its file, if it has one. ``model``: all of it; initializers whose data was left in a
    file say where. ``external``: the data that lies in other files than the model's own.
    ``shapes``: what shape inference knows.
    """

    path: Path | None
    model: onnx.ModelProto
    external: tuple[Span, ...] = ()
    shapes: dict[str, onnx.TypeProto] = field(default_factory=dict)

    @property
    def files(self) -> set[Path]:
        """The files it was read from."""
        return {span.path for span in self.external} | ({self.path} if self.path else set())

    @property
    def opset(self) -> int:
        """Version of the default operator set; 0 if the model imports none."""
        return default_opset(self.model)


def load(model: Path | onnx.ModelProto, *, inline_all: bool = False) -> tuple[Source, gs.Graph]:
    """Read, check and import a model.

    ``inline_all``: no function of the model stays, not even one that reads no weights. Raises
    InputError, in one sentence, for everything that cannot be compiled safely.
    """
    if isinstance(model, onnx.ModelProto):
        path, proto, inline = None, onnx.ModelProto(), list[Span | None]()
        proto.CopyFrom(model)
    else:
        path = model
        proto, inline = read_model(model)
    name = f"'{path}'" if path else "the model"
    check_text(proto, name)
    check_versions(proto, name)
    check_representable(proto, name)
    check_names(proto, name)
    external = place_data(proto, inline, path.parent if path else Path(), name)
    check_data(proto, name)
    _drop_listed_constants(proto)
    check_valid(proto, name)
    proto = inline_functions(proto, name, inline_all)
    source = Source(path, proto, tuple(external))
    _note_types(infer_types(proto, name).graph, source.shapes)
    graph = _import(proto, name)
    _give_types(graph, source.shapes)
    return source, graph


def _note_types(graph: onnx.GraphProto, types: dict[str, onnx.TypeProto]) -> None:
    """Take down what is known of every value; of a name that bodies use differently, what they
    share."""
    for inner in graphs(graph):
        for info in (*inner.value_info, *inner.input, *inner.output):
            if types.setdefault(info.name, info.type) != info.type:
                types[info.name] = _shared(types[info.name], info.type)


def _shared(a: onnx.TypeProto, b: onnx.TypeProto) -> onnx.TypeProto:
    """What two types have in common: the type of the elements and the sizes, if anything."""
    one, other = a.tensor_type, b.tensor_type
    shared = onnx.TypeProto()
    if one.elem_type != other.elem_type:
        return shared
    shared.tensor_type.elem_type = one.elem_type
    if one.HasField("shape") and len(one.shape.dim) == len(other.shape.dim):
        pairs = zip(one.shape.dim, other.shape.dim, strict=True)
        unknown = onnx.TensorShapeProto.Dimension()
        shared.tensor_type.shape.dim.extend(a if a == b else unknown for a, b in pairs)
    return shared


def _give_types(graph: gs.Graph, types: dict[str, onnx.TypeProto]) -> None:
    """Let passes see what shape inference found."""
    for tensor in (t for scope in scopes(graph) for t in scope.tensors().values()):
        kind = types.get(tensor.name, onnx.TypeProto()).tensor_type
        if isinstance(tensor, gs.Variable) and kind.elem_type:
            tensor.dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            if kind.HasField("shape"):
                tensor.shape = [dim.dim_value or dim.dim_param or None for dim in kind.shape.dim]


def place_data(
    model: onnx.ModelProto, inline: Iterable[Span | None], folder: Path, name: str
) -> list[Span]:
    """Point initializers at the files that hold their data; return those in other files."""
    external = []
    for tensor in initializers(model):
        if is_stored(tensor):
            external.append(external_span(tensor, folder, name))
            point(tensor, external[-1])
    for tensor, span in zip(model.graph.initializer, inline, strict=False):
        if span is not None and is_stored(tensor):
            raise InputError(f"{name}: initializer '{tensor.name}' holds data in two places")
        if span is not None:
            point(tensor, span)
    return external


def _drop_listed_constants(model: onnx.ModelProto) -> None:
    """Before IR 4 every initializer had to be an input too, and none could be overridden."""
    if model.ir_version < FIRST_IR_WITH_CONSTANTS:
        names = {tensor.name for tensor in model.graph.initializer}
        keep(model.graph.input, lambda value: value.name not in names)


def _import(model: onnx.ModelProto, name: str) -> gs.Graph:
    """The model as a graph; initializers that are inputs too are inputs, as users may override
    them. Functions stay in the model."""
    bare = model
    if any(map(overridable, graphs(model.graph))):
        bare = onnx.ModelProto()
        bare.CopyFrom(model)
        for inner in graphs(bare.graph):
            _drop_overridable(inner)
    try:
        graph = OnnxImporter.import_graph(
            bare.graph,
            opset=default_opset(model) or None,
            import_domains=list(model.opset_import),
            ir_version=model.ir_version,
        )
    except Exception as error:
        raise InputError(f"{name} cannot be read as a graph: {first_line(error)}") from error
    _dress(graph, model.graph)
    return graph


def overridable(graph: onnx.GraphProto) -> set[str]:
    """Names of the initializers of a graph that are inputs of it too: no constants."""
    return {value.name for value in graph.input}.intersection(constant_names(graph))


def _drop_overridable(graph: onnx.GraphProto) -> None:
    names = overridable(graph)
    keep(graph.initializer, lambda tensor: tensor.name not in names)
    keep(graph.sparse_initializer, lambda sparse: sparse.values.name not in names)


def _dress(graph: gs.Graph, proto: onnx.GraphProto) -> None:
    """Give the graph what graphsurgeon left behind: notes on nodes, values that stay on disk."""
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant):
            _store(tensor)
    for node, written in zip(graph.nodes, proto.node, strict=True):
        node.attrs[WRITTEN] = written
        if written.metadata_props:
            node.attrs[PROPS] = {prop.key: prop.value for prop in written.metadata_props}
        if written.doc_string:
            node.attrs[DOC] = written.doc_string
        for attribute in written.attribute:
            value = node.attrs.pop(attribute.name, None)
            if value is None:  # a kind that graphsurgeon skips
                value = onnx.helper.get_attribute_value(attribute)
            node.attrs[attribute.name] = value
            if isinstance(value, gs.Graph):
                _dress(value, attribute.g)
            elif isinstance(value, gs.Constant):
                _store(value)


def _store(constant: gs.Constant) -> None:
    values = constant._values
    if type(values) is LazyValues:
        constant._values = StoredValues(values.tensor)
    elif type(values) is SparseValues:
        constant._values = StoredSparse(values.tensor)
