"""What a model must be to be compiled; each refusal is one sentence that names the culprit."""

from collections.abc import Iterator

import onnx

from sardonyx.compiler.stand_ins import uses_unknown_ops, with_stand_ins
from sardonyx.runtime_ops.errors import InputError

OPSETS = range(13, 27)
"""Default-domain operator sets that passes and bodies are written and tested for."""

IR_VERSIONS = range(3, 14)
FIRST_IR_WITH_CONSTANTS = 4
"""Before it, every initializer had to be listed as an input."""

_LOST_ATTRIBUTES = {
    onnx.AttributeProto.SPARSE_TENSOR: "a sparse tensor",
    onnx.AttributeProto.TYPE_PROTO: "a type",
    onnx.AttributeProto.TENSORS: "a list of tensors",
    onnx.AttributeProto.GRAPHS: "a list of graphs",
    onnx.AttributeProto.SPARSE_TENSORS: "a list of sparse tensors",
    onnx.AttributeProto.TYPE_PROTOS: "a list of types",
}


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without a closing full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def check_versions(model: onnx.ModelProto, name: str) -> None:
    """Refuse what is no model, and IR and operator set versions outside the known ranges."""
    if not model.ir_version or not model.HasField("graph"):
        raise InputError(f"{name} is not an ONNX model: it holds no graph")
    if model.ir_version not in IR_VERSIONS:
        raise InputError(
            f"{name} has IR version {model.ir_version}; versions {IR_VERSIONS[0]} to "
            f"{IR_VERSIONS[-1]} are known: export it again with an older onnx"
        )
    opsets = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if not opsets:
        raise InputError(f"{name} imports no standard operator set: export it again")
    if opsets[0] not in OPSETS:
        raise InputError(
            f"{name} uses opset {opsets[0]}; opsets {OPSETS[0]} to {OPSETS[-1]} are supported: "
            "convert it with onnx.version_converter or export it again"
        )


def check_valid(model: onnx.ModelProto, name: str) -> None:
    """Refuse what onnx.checker refuses."""
    try:
        onnx.checker.check_model(with_stand_ins(model) if uses_unknown_ops(model) else model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise InputError(f"{name} is not a valid ONNX model: {first_line(error)}") from error


def check_representable(model: onnx.ModelProto, name: str) -> None:
    """Refuse what would be lost between reading and writing."""
    for function in model.functions:
        if function.overload:
            raise InputError(f"{name}: function '{function.name}' has an overload: not supported")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.HasField("optional_type"):
            raise InputError(f"{name}: '{value.name}' has an optional type: not supported")
    for node, hidden in _hidden(model.graph, set()):
        raise InputError(
            f"{name}: a body of {node.op_type} '{node.name}' has a constant called '{hidden}', as "
            "something around it is called: give it a name of its own"
        )
    for node in _nodes(model.graph):
        if node.overload:
            raise InputError(f"{name}: node '{node.name}' calls an overload: not supported")
        for attribute in node.attribute:
            inner = [attribute.t, *attribute.g.initializer]
            if any(t.data_location == onnx.TensorProto.EXTERNAL for t in inner):
                raise InputError(
                    f"{name}: {node.op_type} '{node.name}' keeps a constant of its own in another "
                    "file: only initializers of the main graph may"
                )
            if attribute.type in _LOST_ATTRIBUTES:
                kind = _LOST_ATTRIBUTES[attribute.type]
                raise InputError(
                    f"{name}: attribute '{attribute.name}' of {node.op_type} '{node.name}' "
                    f"is {kind}: not supported"
                )


def _hidden(graph: onnx.GraphProto, around: set[str]) -> Iterator[tuple[onnx.NodeProto, str]]:
    """Nodes with a body whose constant has a name from around it, which onnx.checker lets pass."""
    seen = around | {value.name for value in (*graph.initializer, *graph.input)}
    seen |= {name for node in graph.node for name in node.output}
    for node in graph.node:
        for body in (attribute.g for attribute in node.attribute if attribute.HasField("g")):
            yield from ((node, t.name) for t in body.initializer if t.name in seen)
            yield from _hidden(body, seen)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)
