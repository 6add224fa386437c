"""Which products of the main graph multiply an activation by a constant matrix, by activation."""

from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs

from sardonyx.passes.origin import behind
from sardonyx.passes.scopes import is_constant
from sardonyx.passes.weights import WeightUse, weight_uses

OPS = ("MatMul", "Gemm")
"""The ops that are products."""


@dataclass(frozen=True)
class Products:
    """All products ``x W`` that read one activation x.

    ``activation``: x, whose last axis is as long as the matrices have rows. ``uses``: of the
    weights W [K, N], in graph order: each is input 1 of a MatMul, or of a Gemm that does not turn
    x, and none has a misfit.
    """

    activation: gs.Tensor
    uses: tuple[WeightUse, ...]

    @property
    def nodes(self) -> tuple[gs.Node, ...]:
        """The products."""
        return tuple(use.node for use in self.uses)

    @property
    def width(self) -> int:
        """K: channels of x."""
        return self.uses[0].view.shape[0]


def products(graph: gs.Graph) -> list[Products]:
    """The products directly in ``graph``, in the order of the first of each activation.

    Activations that differ by an Identity are one: the tensor behind it.
    """
    found: dict[int, tuple[gs.Tensor, list[WeightUse]]] = {}
    for use in product_uses(graph):
        if not use.misfit:
            activation, _ = behind(use.node.inputs[0])
            found.setdefault(id(activation), (activation, []))[1].append(use)
    return [Products(activation, tuple(uses)) for activation, uses in found.values()]


def product_uses(graph: gs.Graph) -> list[WeightUse]:
    """Every weight that a MatMul or Gemm directly in ``graph`` reads, use by use; ``misfit`` says
    why one is no product of an activation and a matrix."""
    inside = {id(node) for node in graph.nodes if node.op in OPS}
    uses = [use for use in weight_uses(graph) if id(use.node) in inside]
    return [replace(use, misfit=use.misfit or _misfit(use)) for use in uses]


def _misfit(use: WeightUse) -> str:
    if use.node.attrs.get("transA", 0):
        return "Gemm turns the activation"
    return "its other operand is a constant too" if is_constant(use.node.inputs[0]) else ""
