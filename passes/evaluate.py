"""What nodes that read nothing but constants compute, as onnxruntime computes it."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
from numpy.typing import NDArray

from sardonyx.passes.metadata import RESERVED
from sardonyx.passes.weights import values_of

_IR = 8
"""Of the model that is run; every onnxruntime that runs the rest knows it."""

_SMALL = 4096
"""Bytes of a constant up to which it is in the model itself, where shape inference sees it."""


class Unevaluated(Exception):
    """onnxruntime does not load or run the nodes; the text is its first line."""


def evaluate(
    nodes: Sequence[gs.Node], wanted: Sequence[gs.Tensor], opset: int
) -> list[NDArray[np.generic]]:
    """Values of the tensors ``wanted`` of standard ``nodes``, which stand in the order of their
    running and read constants of types that numpy has.

    One session, its nodes as they are written. Constants are initializers in it, as kernels have
    been seen to round otherwise by operands that they cannot pack ahead (MatMul); values of large
    ones are lent to onnxruntime, not copied. Raises Unevaluated.
    """
    try:
        values: list[NDArray[np.generic]] = _session(nodes, wanted, opset).run(None, {})
    except Exception as error:
        raise Unevaluated(str(error).split("\n", 1)[0]) from error
    return values


def _session(
    nodes: Sequence[gs.Node], wanted: Sequence[gs.Tensor], opset: int
) -> ort.InferenceSession:
    read = {id(t): t for node in nodes for t in node.inputs if isinstance(t, gs.Constant)}
    held = {_name(t): np.asarray(values_of(t), order="C") for t in read.values()}
    lent = {name: values for name, values in held.items() if values.nbytes > _SMALL}
    graph = onnx.GraphProto(
        name="constants",
        node=map(_node, nodes),
        initializer=[
            _stand_in(name, values) if name in lent else onnx.numpy_helper.from_array(values, name)
            for name, values in held.items()
        ],
        output=[onnx.ValueInfoProto(name=_name(tensor)) for tensor in wanted],
    )
    model = onnx.ModelProto(ir_version=_IR, graph=graph)
    model.opset_import.append(onnx.helper.make_opsetid("", opset))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    values = [ort.OrtValue.ortvalue_from_numpy(array) for array in lent.values()]
    options.add_external_initializers(list(lent), values)
    stored = model.SerializeToString()
    return ort.InferenceSession(stored, options, providers=["CPUExecutionProvider"])


def _stand_in(name: str, values: NDArray[np.generic]) -> onnx.TensorProto:
    """An initializer whose values are given to the session."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor = onnx.TensorProto(name=name, data_type=kind, dims=values.shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="lent")
    return tensor


def _name(tensor: gs.Tensor) -> str:
    """Its own in the model: tensors of different bodies may have one name."""
    return "" if tensor.is_empty() else f"t{id(tensor)}"


def _node(node: gs.Node) -> onnx.NodeProto:
    proto = onnx.NodeProto(
        op_type=node.op, input=map(_name, node.inputs), output=map(_name, node.outputs)
    )
    for key, value in node.attrs.items():
        if key not in RESERVED:
            proto.attribute.append(onnx.helper.make_attribute(key, _plain(value)))
    return proto


def _plain(value: object) -> object:
    """What onnx.helper takes for a value that graphsurgeon lets an attribute have."""
    if isinstance(value, gs.Constant):
        return onnx.numpy_helper.from_array(values_of(value))
    if isinstance(value, type):
        return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(value))
    return value
