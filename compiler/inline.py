"""inline: functions of the model that multiply or look up become plain nodes, so that passes see
the weights that they get. All other functions stay, unless all are asked for."""

from collections.abc import Container

import onnx
import onnx.inliner

from sardonyx.compiler.check_model import first_line
from sardonyx.compiler.messages import walk
from sardonyx.passes.fused import FUSED
from sardonyx.passes.weights import SLOTS
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.ops import DOMAIN


def inline_functions(model: onnx.ModelProto, name: str, every: bool = False) -> onnx.ModelProto:
    """The model without calls of functions that read weights, or of ``every`` function that is not
    one of our own ops; itself if it has none. ``name``: what errors call it.

    Raises InputError where onnx cannot inline them, as those of another opset than the model's.
    """
    functions = _others(model) if every else _readers(model)
    wanted = [(function.domain, function.name) for function in functions]
    if not wanted:
        return model
    try:
        return onnx.inliner.inline_selected_functions(model, wanted)
    except RuntimeError as error:
        raise InputError(f"{name}: its functions cannot be inlined: {first_line(error)}") from error


def _others(model: onnx.ModelProto) -> list[onnx.FunctionProto]:
    return [function for function in model.functions if function.domain != DOMAIN]


def _readers(model: onnx.ModelProto) -> list[onnx.FunctionProto]:
    """Functions that hold an op with weights, or call one that does; not those of our own ops."""
    candidates = _others(model)
    found: dict[tuple[str, str], onnx.FunctionProto] = {}
    while True:
        more = [f for f in candidates if (f.domain, f.name) not in found and _reads(f, found)]
        if not more:
            return list(found.values())
        found |= {(function.domain, function.name): function for function in more}


def _reads(function: onnx.FunctionProto, readers: Container[tuple[str, str]]) -> bool:
    nodes = (message for message in walk(function) if isinstance(message, onnx.NodeProto))
    return any(
        node.op_type in SLOTS or node.op_type in FUSED or (node.domain, node.op_type) in readers
        for node in nodes
    )
