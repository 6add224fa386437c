"""Weights that callers may override: initializers that are inputs too, which no pass sees."""

import math

import onnx
import onnx_graphsurgeon as gs

from sardonyx.compiler.load import Source, overridable
from sardonyx.passes.journal import Journal, Skip
from sardonyx.passes.weights import SLOTS, is_float

_REASON = "also an input of the model, so that callers may override it: export it as a constant"


def note_overridable(source: Source, graph: gs.Graph, journal: Journal) -> None:
    """List as left alone what would be a weight if it were not an input."""
    written = source.model.graph
    free = {t.name: t for t in written.initializer if t.name in overridable(written)}
    for value in graph.inputs:
        reader = next((node for node in value.outputs if node.op in SLOTS), None)
        if value.name in free and reader and _is_matrix(free[value.name]):
            journal.weights += math.prod(free[value.name].dims)
            journal.skipped.append(Skip(value.name, reader.name, _REASON, eligible=True))


def _is_matrix(tensor: onnx.TensorProto) -> bool:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return len(tensor.dims) >= 2 and is_float(dtype)
