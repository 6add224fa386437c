"""Models with quantized products in standard ops, made here by the plainest means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sardonyx.runtime_ops.uniform import encode, grid

Form = Literal["static", "dynamic"]


@pytest.fixture(scope="session")
def quantize(run_ort: Callable[..., Any]) -> Callable[..., onnx.ModelProto]:
    """A model whose MatMuls by constant matrices are quantized: activations over their range on
    ``feeds``, weights by columns; ``integer_bias``: vectors added to a product become int32."""

    def make(
        model: onnx.ModelProto,
        feeds: dict[str, Any],
        form: Form = "static",
        bits: int = 7,
        signed: bool = False,
        integer_bias: bool = True,
    ) -> onnx.ModelProto:
        held = {t.name: t for t in model.graph.initializer if len(t.dims) == 2}
        products = [n for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in held]
        inputs = list(dict.fromkeys(node.input[0] for node in products))
        ranges = _ranges(model, inputs, feeds, run_ort) if form == "static" else {}
        writer = _Writer(model, form, bits, signed, integer_bias, ranges)
        return writer.model_with(products)

    return make


def _ranges(
    model: onnx.ModelProto, names: list[str], feeds: dict[str, Any], run_ort: Callable[..., Any]
) -> dict[str, tuple[float, float]]:
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    del tapped.graph.output[:]
    made = [name for name in names if name not in feeds]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    values = dict(zip(made, run_ort(tapped, feeds), strict=True)) | feeds
    return {name: (min(values[name].min(), 0), max(values[name].max(), 0)) for name in names}


@dataclass
class _Writer:
    model: onnx.ModelProto
    form: Form
    bits: int
    signed: bool
    integer_bias: bool
    ranges: dict[str, tuple[float, float]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    held: list[onnx.TensorProto] = field(default_factory=list)
    rounded: set[str] = field(default_factory=set)

    def model_with(self, products: list[onnx.NodeProto]) -> onnx.ModelProto:
        constants = {t.name: numpy_helper.to_array(t) for t in self.model.graph.initializer}
        names = {node.output[0] for node in products}
        scales: dict[str, Any] = {}
        for node in self.model.graph.node:
            if node.output[0] in names:
                scales[node.output[0]] = self._product(node, constants[node.input[1]])
                continue
            summed = next((name for name in node.input if name in scales), "")
            bias = next((name for name in node.input if name in constants), "")
            one = node.op_type == "Add" and summed and bias and constants[bias].ndim == 1
            if one and self.integer_bias and self.form == "static":
                self._integer_bias(node, bias, constants[bias], scales[summed])
            else:
                self.nodes.append(node)
        result = onnx.ModelProto()
        result.CopyFrom(self.model)
        del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
        result.graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in node.input}
        tensors = [*self.model.graph.initializer, *self.held]
        result.graph.initializer.extend(t for t in tensors if t.name in read)
        return result

    def _product(self, node: onnx.NodeProto, weight: Any) -> Any:
        """Write a product; the scale of its sums, where it is known."""
        x, name = node.input[0], node.input[1]
        tensor, _ = encode(weight, self.bits)
        codes, scale = (
            self._hold(f"{name}.codes", tensor.codes),
            self._hold(f"{name}.s", tensor.scale),
        )
        if self.form == "dynamic":
            self._dynamic(node, codes, scale)
            return None
        found = self._rounded(x)
        self._add("DequantizeLinear", [codes, scale], [f"{name}.real"], axis=1)
        self._add("MatMul", [f"{x}.real", f"{name}.real"], node.output, node.name)
        return found.scale * tensor.scale

    def _rounded(self, x: str) -> Any:
        low, high = self.ranges[x]
        found = grid(low, high, symmetric=self.signed, signed=self.signed)
        if x not in self.rounded:
            self.rounded.add(x)
            kind = np.int8 if self.signed else np.uint8
            operands = [
                self._hold(f"{x}.scale", found.scale),
                self._hold(f"{x}.zero", np.array(found.zero_point, kind)),
            ]
            self._add("QuantizeLinear", [x, *operands], [f"{x}.q"])
            self._add("DequantizeLinear", [f"{x}.q", *operands], [f"{x}.real"])
        return found

    def _dynamic(self, node: onnx.NodeProto, codes: str, scale: str) -> None:
        x, name = node.input[0], node.output[0]
        made = [f"{x}.q", f"{x}.scale", f"{x}.zero"]
        if x not in self.rounded:
            self.rounded.add(x)
            self._add("DynamicQuantizeLinear", [x], made)
        self._add("MatMulInteger", [made[0], codes, made[2]], [f"{name}.sums"], node.name)
        self._add("Cast", [f"{name}.sums"], [f"{name}.float"], to=TensorProto.FLOAT)
        self._add("Mul", [made[1], scale], [f"{name}.factor"])
        self._add("Mul", [f"{name}.float", f"{name}.factor"], [name])

    def _integer_bias(self, node: onnx.NodeProto, name: str, bias: Any, scale: Any) -> None:
        codes = np.rint(bias / scale).astype(np.int32)
        operands = [self._hold(f"{name}.codes", codes), self._hold(f"{name}.scale", scale)]
        self._add("DequantizeLinear", operands, [f"{name}.real"], axis=0)
        inputs = [f"{name}.real" if held == name else held for held in node.input]
        self._add("Add", inputs, node.output, node.name)

    def _hold(self, name: str, values: Any) -> str:
        if all(tensor.name != name for tensor in self.held):
            self.held.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _add(self, op: str, inputs: Any, outputs: Any, name: str = "", **attrs: Any) -> None:
        if outputs[0] not in {out for node in self.nodes for out in node.output}:
            self.nodes.append(helper.make_node(op, inputs, outputs, name, **attrs))
