"""What a chip knows of a model's tensors: what runs, what is stored, what stays in place."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.compiler.chip_costs import ALIASES
from sardonyx.compiler.chip_sizes import NumberedSizes, itemsize
from sardonyx.passes.fused import is_standard
from sardonyx.runtime_ops.accelerator.work import Product, Value
from sardonyx.runtime_ops.ops import DOMAIN

_OF_SIZES = ("Shape", "Size")


class ChipValues:
    """The tensors of a graph, all of whose sizes are numbers.

    What depends on constants and sizes alone is computed before the model runs, and then stored;
    but what our own ops decode is not, as it would be stored as floats.
    """

    def __init__(self, graph: gs.Graph, sizes: NumberedSizes) -> None:
        self.graph = graph
        self.sizes = sizes

    @cached_property
    def _running(self) -> set[int]:
        """Ids of what is given or computed at run time."""
        found = set(map(id, self.graph.inputs))
        for node in self.graph.nodes:
            runs = any(id(tensor) in found for tensor in node.inputs)
            if node.domain == DOMAIN or (runs and node.op not in _OF_SIZES):
                found.update(map(id, node.outputs))
        return found

    def runs(self, node: gs.Node) -> bool:
        """Whether a node computes at run time what anybody wants."""
        return any(
            id(tensor) in self._running and self._is_wanted(tensor) for tensor in node.outputs
        )

    def is_stored(self, tensor: gs.Tensor) -> bool:
        """Whether a tensor is known before the model runs."""
        return not tensor.is_empty() and id(tensor) not in self._running

    def stored_bytes(self, *tensors: gs.Tensor) -> int:
        """Bytes of those that are stored; a lone number is a part of the program."""
        found = (tensor for tensor in tensors if self.is_stored(tensor))
        sizes = ((self.sizes.elements(tensor), element_bits(tensor)) for tensor in found)
        return sum(-(-count * bits // 8) for count, bits in sizes if count > 1)

    def activations(self, *tensors: gs.Tensor) -> tuple[Value, ...]:
        """Those that are computed at run time, each once."""
        found = [tensor for tensor in tensors if id(tensor) in self._running]
        return tuple(dict.fromkeys(self.value(tensor) for tensor in found))

    def value(self, tensor: gs.Tensor) -> Value:
        """A tensor as layers read and write it."""
        return Value(self.place(tensor), self.sizes.nbytes(tensor))

    def place(self, tensor: gs.Tensor) -> str:
        """The name of what a tensor is in memory: Reshape and the like make no copy."""
        while tensor.inputs and is_standard(tensor.inputs[0]) and tensor.inputs[0].op in ALIASES:
            tensor = tensor.inputs[0].inputs[0]
        return str(tensor.name)

    def written(self, node: gs.Node) -> tuple[Value, ...]:
        """Those results of a node that anybody wants."""
        return self.activations(*filter(self._is_wanted, node.outputs))

    def _is_wanted(self, tensor: gs.Tensor) -> bool:
        return bool(tensor.outputs) or any(tensor is output for output in self.graph.outputs)


def element_bits(tensor: gs.Tensor) -> int:
    """Bits of an element in memory."""
    name = "" if tensor.dtype is None else np.dtype(tensor.dtype).name
    return {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4}.get(name, 8 * itemsize(tensor))


def written_shape(shape: Sequence[int]) -> str:
    """As 1x128x384."""
    return "x".join(map(str, shape)) or "1"


def product_shape(work: Product) -> str:
    """As 128x384 * 384x1536; twelve alike as 12 of 128x32 * 32x128."""
    product = f"{work.m}x{work.k} * {work.k}x{work.n}"
    return product if work.count == 1 else f"{work.count} of {product}"
