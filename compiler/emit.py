"""emit: the graph becomes a model again, with all that the source held and the ops' bodies."""

from collections.abc import Iterator

import onnx
import onnx_graphsurgeon as gs

from sardonyx.compiler.load import Source, keep
from sardonyx.compiler.model_file import StoredValues
from sardonyx.passes.metadata import DOC, PROPS
from sardonyx.passes.scopes import all_nodes
from sardonyx.runtime_ops.ops import DOMAIN, OPS, VERSION
from sardonyx.runtime_ops.packing import LANES, ROWS

OLDEST_IR = 8
"""The first IR with local functions."""


def emit(source: Source, graph: gs.Graph) -> onnx.ModelProto:
    """A complete model of ``graph``: the source's header, inputs, outputs and functions as they
    were, plus a body for each custom op in use. The graph is left as it is."""
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    model.ClearField("graph")
    model.graph.CopyFrom(_graph(source, graph))
    model.ir_version = max(model.ir_version, OLDEST_IR)
    functions = op_functions(graph, source.opset)
    if functions:
        del model.functions[:]
        model.functions.extend(f for f in source.model.functions if f.domain != DOMAIN)
        model.functions.extend(functions)
        if all(opset.domain != DOMAIN for opset in model.opset_import):
            model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
    return model


def op_functions(graph: gs.Graph, opset: int) -> list[onnx.FunctionProto]:
    """Bodies of the custom ops that the graph uses, by name."""
    padded: dict[str, bool] = {}
    for node in all_nodes(graph):
        if node.domain == DOMAIN:
            rows, columns = node.attrs["shape"]
            needs_cut = rows % ROWS != 0 or columns % LANES != 0
            padded[node.op] = padded.get(node.op, False) or needs_cut
    return [OPS[name].function(opset, padded[name]) for name in sorted(padded)]


def _graph(source: Source, graph: gs.Graph) -> onnx.GraphProto:
    notes = [(node.attrs.pop(PROPS, {}), node.attrs.pop(DOC, "")) for node in all_nodes(graph)]
    try:
        proto: onnx.GraphProto = gs.export_onnx(graph, do_type_check=False).graph
    finally:
        for node, (props, doc) in zip(all_nodes(graph), notes, strict=True):
            node.attrs.update({PROPS: props} if props else {})
            node.attrs.update({DOC: doc} if doc else {})
    _write_notes(proto, graph)
    _hoist(proto, source)
    _fill(proto, graph)
    _restore(proto, source)
    return proto


def _write_notes(proto: onnx.GraphProto, graph: gs.Graph) -> None:
    for written, node in zip(proto.node, graph.nodes, strict=True):
        for key, value in node.attrs.get(PROPS, {}).items():
            written.metadata_props.add(key=key, value=value)
        if DOC in node.attrs:
            written.doc_string = node.attrs[DOC]
        for attribute in written.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _write_notes(attribute.g, node.attrs[attribute.name])


def _hoist(proto: onnx.GraphProto, source: Source) -> None:
    """Bring constants that no body of the source made to the main graph, where each lies once:
    graphsurgeon gave every body that reads one a copy."""
    bodies = list(_inner_graphs(source.model.graph))
    own = {tensor.name for body in bodies for tensor in body.initializer}
    own |= {name for body in bodies for node in body.node for name in node.output}
    for inner in list(_inner_graphs(proto)):
        here = {tensor.name for tensor in proto.initializer}
        copies = [t for t in inner.initializer if t.name not in own]
        proto.initializer.extend(t for t in copies if t.name not in here)
        keep(inner.initializer, lambda tensor: tensor.name in own)


def _inner_graphs(proto: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for node in proto.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield attribute.g
                yield from _inner_graphs(attribute.g)


def _fill(proto: onnx.GraphProto, graph: gs.Graph) -> None:
    """Fetch the data of initializers that still lie in a file."""
    constants = {t.name: t for g in graph.subgraphs(recursive=True) for t in g.tensors().values()}
    constants |= graph.tensors()
    for tensor in proto.initializer:
        values = constants[tensor.name]._values
        if isinstance(values, StoredValues) and values.span is not None:
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = values.span.read()


def _restore(proto: onnx.GraphProto, source: Source) -> None:
    """Put back what graphsurgeon drops: value infos as written, annotations, overridable ones."""
    original = source.model.graph
    proto.initializer.extend(source.overridable)
    alive = {name for node in proto.node for name in (*node.input, *node.output)}
    ours = [v for v in proto.value_info if v.name not in source.shapes]
    theirs = [v for v in original.value_info if v.name in alive]
    annotations = [a for a in original.quantization_annotation if a.tensor_name in alive]
    for field, values in {
        "input": original.input,
        "output": original.output,
        "value_info": [*theirs, *ours],
        "quantization_annotation": annotations,
        "metadata_props": original.metadata_props,
    }.items():
        proto.ClearField(field)
        getattr(proto, field).extend(values)
