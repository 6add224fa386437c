"""Write an ONNX graph node by node, with the names a PyTorch exporter would give."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper


def node_scope(module: str) -> str:
    """`encoder.layer.0.output` -> `/encoder/layer.0/output`; the root module `""` -> `""`."""
    return "/" + re.sub(r"\.(?!\d)", "/", module) if module else ""


class GraphWriter:
    """A growing graph; every method appends and returns the name of the value it made."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self._model = onnx.ModelProto(producer_name="sardonyx.models")
        self._graph = self._model.graph
        self._graph.name = "main_graph"
        self._uses: Counter[str] = Counter()

    def input(self, name: str, dims: tuple[str, ...]) -> str:
        """An int64 graph input with symbolic dimensions."""
        info = helper.make_tensor_value_info(name, TensorProto.INT64, dims)
        self._graph.input.append(info)
        return name

    def output(self, value: str, name: str, dims: tuple[str | int, ...]) -> None:
        """Make `value` the float32 graph output `name`."""
        producer = next(node for node in self._graph.node if value in node.output)
        producer.output[:] = [name if made == value else made for made in producer.output]
        for node in self._graph.node:
            node.input[:] = [name if used == value else used for used in node.input]
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
        self._graph.output.append(info)

    def initializer(self, name: str, value: NDArray[Any]) -> str:
        """A stored tensor; a view is stored in C order."""
        self._graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def node(self, module: str, op: str, *inputs: str, **attributes: Any) -> str:
        """An operator of the standard domain, in the scope of a PyTorch module."""
        stem = f"{node_scope(module)}/{op}"
        name = f"{stem}_{self._uses[stem]}" if self._uses[stem] else stem
        self._uses[stem] += 1
        output = f"{name}_output_0"
        self._graph.node.append(helper.make_node(op, inputs, [output], name, **attributes))
        return output

    def constant(self, module: str, value: ArrayLike, dtype: type = np.int64) -> str:
        """A Constant node, as exporters write scalars, shapes and axes."""
        return self.node(module, "Constant", value=numpy_helper.from_array(np.array(value, dtype)))

    def model(self, ir_version: int) -> onnx.ModelProto:
        """The finished graph as a model of the standard domain only."""
        self._model.ir_version = ir_version
        self._model.opset_import.append(helper.make_opsetid("", self.opset))
        return self._model
