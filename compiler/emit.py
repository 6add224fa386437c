"""emit: the graph becomes a model again, with all that the source held and the ops' bodies."""

from collections import defaultdict

import onnx
import onnx_graphsurgeon as gs

from sardonyx.compiler import stored
from sardonyx.compiler.check_model import check_quantizable
from sardonyx.compiler.export import export
from sardonyx.compiler.load import Source
from sardonyx.compiler.messages import copy_without, initializers, set_opset
from sardonyx.compiler.stored import fill, stored_bytes
from sardonyx.passes.scopes import all_nodes
from sardonyx.runtime_ops.ops import DOMAIN, INPUTS, OPS, VERSION
from sardonyx.runtime_ops.packing import LANES, ROWS

OLDEST_IR = 8
"""The first IR with local functions."""


def emit(source: Source, graph: gs.Graph) -> onnx.ModelProto:
    """A model of ``graph``: the source's header, inputs, outputs and functions as they were, plus a
    body for each custom op in use. The graph is left as it is.

    Complete unless its weights exceed 1.9 GB: those that lie in the source's files stay there then.
    """
    model: onnx.ModelProto = copy_without(source.model, "graph")
    model.graph.CopyFrom(export(graph, source.model.graph))
    model.ir_version = max(model.ir_version, OLDEST_IR)
    functions = op_functions(graph, graph.opset)
    if functions:
        del model.functions[:]
        model.functions.extend(f for f in source.model.functions if f.domain != DOMAIN)
        model.functions.extend(functions)
    _import_domains(model, graph)
    if sum(map(stored_bytes, initializers(model))) <= stored.LARGEST_INLINE:
        for tensor in initializers(model):
            fill(tensor)
    return model


def _import_domains(model: onnx.ModelProto, graph: gs.Graph) -> None:
    """Import the opset that the graph is in, and, at version 1, the domains of new nodes."""
    set_opset(model, graph.opset)
    known = {opset.domain for opset in model.opset_import} | {"", "ai.onnx"}
    for domain in sorted({node.domain or "" for node in all_nodes(graph)} - known):
        model.opset_import.append(onnx.helper.make_opsetid(domain, VERSION))


def op_functions(graph: gs.Graph, opset: int) -> list[onnx.FunctionProto]:
    """Bodies of the custom ops that the graph uses, by name."""
    nodes: dict[str, list[gs.Node]] = defaultdict(list)
    for node in all_nodes(graph):
        if node.domain == DOMAIN:
            nodes[node.op].append(node)
    if nodes:
        check_quantizable(opset)
    return [
        OPS[name].function(opset, any(map(_is_padded, of_op)), any(map(_is_grouped, of_op)))
        for name, of_op in sorted(nodes.items())
    ]


def _is_padded(node: gs.Node) -> bool:
    rows, columns = node.attrs["shape"]
    return bool(rows % ROWS != 0 or columns % LANES != 0)


def _is_grouped(node: gs.Node) -> bool:
    place = 1 + INPUTS.index("centroids")
    shapes = [tensor.shape for tensor in node.inputs[place : place + 1]]
    return any(shape and shape[0] != 1 for shape in shapes)
