"""What a model must be to be compiled; each refusal is one sentence that names the culprit."""

from collections import Counter
from typing import get_args

import onnx

from sardonyx.compiler.messages import default_opset, graphs, walk, with_initializers
from sardonyx.compiler.quiet_session import quiet_session
from sardonyx.compiler.stand_ins import uses_unknown_ops, with_stand_ins
from sardonyx.compiler.stored import is_stored
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.ops import DOMAIN, OPS, Compute

OPSETS = range(1, 27)
"""Default-domain operator sets that are read and written; onnxruntime knows no later one."""

QUANTIZED_OPSETS = range(13, 27)
"""Those that the bodies of the custom ops are written and tested for."""

IR_VERSIONS = range(3, 14)
FIRST_IR_WITH_CONSTANTS = 4
"""Before it, every initializer had to be listed as an input."""

_LARGE = 1 << 12
_PREFIX = "[ShapeInferenceError] Inference error(s): "
_ELSEWHERE = "keeps data in another file: only dense initializers may"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without a closing full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def check_graph(model: onnx.ModelProto, name: str) -> None:
    """Refuse what is no model."""
    if not model.ir_version or not model.HasField("graph"):
        raise InputError(f"{name} is not an ONNX model: it holds no graph")


def check_versions(model: onnx.ModelProto, name: str) -> None:
    """Refuse what is no model, and IR and operator set versions outside the known ranges."""
    check_graph(model, name)
    if not model.graph.output:
        raise InputError(f"{name} is not a valid ONNX model: its graph has no output")
    if model.ir_version not in IR_VERSIONS:
        raise InputError(
            f"{name} has IR version {model.ir_version}; versions {IR_VERSIONS[0]} to "
            f"{IR_VERSIONS[-1]} are known: export it again with an older onnx"
        )
    domains = Counter("" if o.domain == "ai.onnx" else o.domain for o in model.opset_import)
    twice = [domain for domain, count in domains.items() if count > 1]
    if twice:
        raise InputError(f"{name} imports operator set '{twice[0] or 'ai.onnx'}' twice")
    opset = default_opset(model)
    if opset and opset not in OPSETS:
        raise InputError(
            f"{name} uses opset {opset}; opsets {OPSETS[0]} to {OPSETS[-1]} are known: "
            "convert it with onnx.version_converter or export it again"
        )


def check_quantizable(opset: int) -> None:
    """Refuse an opset that the bodies of the custom ops are not written for."""
    if not opset:
        raise InputError("the model imports no standard operator set: its weights stay as they are")
    if opset not in QUANTIZED_OPSETS:
        raise InputError(
            f"the model uses opset {opset}; weights can be quantized in {QUANTIZED_OPSETS[0]} to "
            f"{QUANTIZED_OPSETS[-1]}: convert it with onnx.version_converter or export it again"
        )


def check_valid(model: onnx.ModelProto, name: str) -> None:
    """Refuse what onnx.checker refuses, the data of weights aside."""
    try:
        light = shell(model)
        onnx.checker.check_model(with_stand_ins(light) if uses_unknown_ops(light) else light)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise InputError(f"{name} is not a valid ONNX model: {first_line(error)}") from error


def infer_types(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model's shell with all types and shapes that can be inferred.

    Refuses what contradicts itself, in the view of both onnx and onnxruntime: onnx alone has been
    seen to be wrong.
    """
    light = shell(model)
    known = with_stand_ins(light)
    for strictly in (True, False):
        try:
            return onnx.shape_inference.infer_shapes(known, strictly, strictly, strictly)
        except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
            if not _loads(light):
                reason = first_line(error).removeprefix(_PREFIX)
                raise InputError(f"{name} is not a valid ONNX model: {reason}") from error
    return known


def _loads(model: onnx.ModelProto) -> bool:
    """Whether onnxruntime takes a model; why not is onnx's to say."""
    try:
        quiet_session(model, optimize=False)
    except Exception:
        return False
    return True


def shell(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inputs in place of initializers that are large or lie in files.

    For the checker and shape inference, which need types and not data.
    """
    inputs: dict[str, onnx.ValueInfoProto] = {}

    def change(tensor: onnx.TensorProto) -> onnx.TensorProto | None:
        if not is_stored(tensor) and len(tensor.raw_data) <= _LARGE:
            return tensor
        info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        if inputs.setdefault(tensor.name, info) != info:  # in two branches, not alike
            inputs[tensor.name].type.tensor_type.ClearField("shape")
        return None

    light = with_initializers(model, change)
    light.ir_version = max(light.ir_version, FIRST_IR_WITH_CONSTANTS)
    declared = {value.name for value in light.graph.input}
    light.graph.input.extend(info for name, info in inputs.items() if name not in declared)
    return light


def check_representable(model: onnx.ModelProto, name: str) -> None:
    """Refuse what would be lost between reading and writing."""
    for function in model.functions:
        if function.overload:
            raise InputError(f"{name}: function '{function.name}' has an overload: not supported")
        if any(isinstance(m, onnx.TensorProto) and is_stored(m) for m in walk(function)):
            raise InputError(f"{name}: function '{function.name}' {_ELSEWHERE}")
    for graph in graphs(model.graph):
        for sparse in graph.sparse_initializer:
            if is_stored(sparse.values) or is_stored(sparse.indices):
                raise InputError(f"{name}: sparse initializer '{sparse.values.name}' {_ELSEWHERE}")
        for node in graph.node:
            _check_node(node, name)


def _check_node(node: onnx.NodeProto, name: str) -> None:
    if node.overload:
        raise InputError(f"{name}: node '{node.name}' calls an overload: not supported")
    if node.domain == DOMAIN and not _is_ours(node):
        raise InputError(
            f"{name}: {node.op_type} '{node.name}' of domain {DOMAIN} is no op that this version "
            "of Sardonyx knows: compile the original again"
        )
    for attribute in node.attribute:
        where = f"{name}: attribute '{attribute.name}' of {node.op_type} '{node.name}'"
        if attribute.type == onnx.AttributeProto.GRAPHS:
            raise InputError(f"{where} is a list of graphs: not supported")
        sparse = attribute.sparse_tensor
        if any(map(is_stored, (attribute.t, *attribute.tensors, sparse.values, sparse.indices))):
            raise InputError(f"{where} {_ELSEWHERE}")
        if any(_is_binary(text) for text in (attribute.s, *attribute.strings)):
            raise InputError(f"{where} is not UTF-8 text: not supported")


def _is_ours(node: onnx.NodeProto) -> bool:
    sizes = [list(a.ints) for a in node.attribute if a.name == "shape"]
    fits = len(sizes) == 1 and len(sizes[0]) == 2 and min(sizes[0]) > 0
    computes = {a.s.decode("utf-8", "ignore") for a in node.attribute if a.name == "compute"}
    return node.op_type in OPS and fits and computes <= set(get_args(Compute))


def _is_binary(text: bytes) -> bool:
    return text.decode("utf-8", "ignore").encode() != text
