"""A graph as an ONNX message: what passes made of it, and else all as it was written.

graphsurgeon's own exporter loses what it has no place for and knows fewer types.
"""

from collections.abc import Set

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import LazyValues, SparseValues

from sardonyx.compiler.load import overridable
from sardonyx.compiler.messages import constant_names, copy_without, graphs
from sardonyx.compiler.stored import StoredSparse, StoredValues
from sardonyx.passes.metadata import DOC, PROPS, RESERVED, WRITTEN
from sardonyx.passes.scopes import all_constants
from sardonyx.runtime_ops.ops import DOMAIN

_REWRITTEN = ("node", "initializer", "sparse_initializer", "value_info", "quantization_annotation")

Names = Set[str]


def export(
    graph: gs.Graph, written: onnx.GraphProto, outside: Names = frozenset()
) -> onnx.GraphProto:
    """The message of ``graph``.

    ``written``: that which it was read from: inputs, outputs and all but nodes and constants are
    taken from there. ``outside``: names that graphs around it define. Constants that nothing reads
    are left out; new ones of bodies are written once, in the main graph, whoever reads them. Data
    that lies in a file stays there.
    """
    proto: onnx.GraphProto = copy_without(written, *_REWRITTEN)
    direct = {t.name: t for t in graph.tensors().values()}
    constants = {t.name: t._values for t in reversed(all_constants(graph))}
    inside = _defined(written) | direct.keys() | (constants.keys() - _defined_in_bodies(graph))
    known = outside | inside
    proto.node.extend(_node(node, known) for node in graph.nodes)
    here = inside - outside
    _write_constants(proto, written, {k: v for k, v in constants.items() if k in here})
    _write_infos(proto, written, [t for name, t in direct.items() if name not in outside])
    return proto


def header(graph: gs.Graph) -> onnx.GraphProto:
    """What to take as the message of a graph that was not read but made."""
    ends = [[_info(tensor) for tensor in tensors] for tensors in (graph.inputs, graph.outputs)]
    return onnx.GraphProto(name=graph.name, input=ends[0], output=ends[1])


def _info(tensor: gs.Tensor) -> onnx.ValueInfoProto:
    if tensor.dtype is None:
        return onnx.ValueInfoProto(name=tensor.name)
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return onnx.helper.make_tensor_value_info(tensor.name, kind, tensor.shape)


def _defined(graph: onnx.GraphProto) -> Names:
    """Names of the values that a graph itself defined when it was read."""
    return {*constant_names(graph), *(name for node in graph.node for name in node.output)}


def _defined_in_bodies(graph: gs.Graph) -> Names:
    """Names of the values that bodies inside a graph defined when they were read."""
    held = [node.attrs.get(WRITTEN, onnx.NodeProto()) for node in graph.nodes]
    bodies = [a.g for node in held for a in node.attribute if a.HasField("g")]
    return {name for body in bodies for inner in graphs(body) for name in _defined(inner)}


def _node(node: gs.Node, outside: Names) -> onnx.NodeProto:
    written = node.attrs.get(WRITTEN, onnx.NodeProto())
    proto = onnx.NodeProto(
        op_type=node.op,
        name=node.name or None,
        domain=node.domain,
        doc_string=node.attrs.get(DOC),
        input=[tensor.name for tensor in node.inputs],
        output=[tensor.name for tensor in node.outputs],
        device_configurations=written.device_configurations,
    )
    for key, value in node.attrs.get(PROPS, {}).items():
        proto.metadata_props.add(key=key, value=value)
    known = {attribute.name: attribute for attribute in written.attribute}
    for key, value in node.attrs.items():
        if key not in RESERVED:
            as_read = known.get(key, onnx.AttributeProto())
            proto.attribute.append(_attribute(key, value, as_read, outside))
    return proto


def _attribute(
    name: str, value: object, written: onnx.AttributeProto, outside: Names
) -> onnx.AttributeProto:
    if isinstance(value, gs.Graph):
        made = onnx.AttributeProto(name=name, type=onnx.AttributeProto.GRAPH)
        as_read = written.g if written.HasField("g") else header(value)
        made.g.CopyFrom(export(value, as_read, outside))
    elif isinstance(value, list) and not value:
        made = onnx.AttributeProto(name=name, type=written.type or onnx.AttributeProto.INTS)
    else:
        made = onnx.helper.make_attribute(name, _plain(value))
    if written.doc_string:
        made.doc_string = written.doc_string
    return made


def _plain(value: object) -> object:
    """What onnx.helper takes for a value that graphsurgeon lets an attribute have."""
    if isinstance(value, gs.Constant):
        return _tensor(value.name, value._values)
    if isinstance(value, type):
        return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(value))
    return value


def _tensor(name: str, values: np.ndarray | LazyValues) -> onnx.TensorProto:
    if isinstance(values, np.ndarray):
        return onnx.numpy_helper.from_array(values, name)
    tensor = onnx.TensorProto()
    tensor.CopyFrom(values.tensor)
    if tensor.name != name:
        tensor.name = name
    return tensor


def _write_constants(
    proto: onnx.GraphProto, written: onnx.GraphProto, constants: dict[str, np.ndarray | LazyValues]
) -> None:
    """In the order in which they were; new ones behind, in the order in which they are read."""
    free = overridable(written)
    constants |= {t.name: StoredValues(t) for t in written.initializer if t.name in free}
    sparse = {s.values.name: StoredSparse(s) for s in written.sparse_initializer}
    constants |= {name: values for name, values in sparse.items() if name in free}
    order = {tensor.name: place for place, tensor in enumerate(written.initializer)}
    for name in sorted(constants, key=lambda name: order.get(name, len(order))):
        values = constants[name]
        if isinstance(values, SparseValues):
            proto.sparse_initializer.append(values.tensor)
            proto.sparse_initializer[-1].values.name = name
        else:
            proto.initializer.append(_tensor(name, values))


def _write_infos(
    proto: onnx.GraphProto, written: onnx.GraphProto, tensors: list[gs.Tensor]
) -> None:
    """What was said of values that are still there and whose sizes no pass took away, and the types
    of new ones and of what custom ops make, which no shape inference knows."""
    gone = _mentioned(written) - _mentioned(proto)
    sized = {v.name for v in written.value_info if v.type.tensor_type.HasField("shape")}
    gone |= {t.name for t in tensors if t.name in sized and t.shape is None}
    proto.value_info.extend(v for v in written.value_info if v.name not in gone)
    annotations = written.quantization_annotation
    proto.quantization_annotation.extend(a for a in annotations if a.tensor_name not in gone)
    known = {v.name for v in (*written.value_info, *written.input, *written.output)}
    old = _mentioned(written)
    for tensor in tensors:
        if tensor.name in known or not isinstance(tensor, gs.Variable) or tensor.dtype is None:
            continue
        if tensor.name not in old or any(node.domain == DOMAIN for node in tensor.inputs):
            proto.value_info.append(_info(tensor))


def _mentioned(graph: onnx.GraphProto) -> set[str]:
    nodes = (node for inner in graphs(graph) for node in inner.node)
    return {name for node in nodes for name in (*node.input, *node.output)}
