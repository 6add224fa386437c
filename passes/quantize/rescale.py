"""Channels divided here and multiplied there: the constants of a graph put in their new form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.metadata import SMOOTHED, annotate
from sardonyx.passes.quantize.channel_scale import Scale
from sardonyx.passes.quantize.divide_channels import Way
from sardonyx.passes.quantize.products import Products
from sardonyx.passes.rewrite import name_apart, replace_nodes, reread
from sardonyx.passes.weights import WeightView, values_of
from sardonyx.runtime_ops.coded import Floats

Swap = tuple[gs.Tensor, gs.Tensor, list[gs.Node]]
"""A tensor, what takes its place, and for which readers."""


@dataclass
class Rescale:
    """Changes to be made to a graph, all at once: of a weight, rows may be multiplied for what it
    reads and columns divided for what reads it. ``count``: activations that are divided."""

    graph: gs.Graph
    made_by: str
    count: int = 0
    _views: dict[int, WeightView] = field(default_factory=dict)
    _factors: dict[int, list[tuple[Scale, int]]] = field(default_factory=dict)
    _vectors: list[tuple[gs.Node, int, Scale]] = field(default_factory=list)
    _tensors: list[gs.Tensor] = field(default_factory=list)
    _divisions: list[tuple[Products, Scale]] = field(default_factory=list)

    def divide(self, products: Products, scale: Scale, way: Way | None) -> None:
        """Divide an activation by the scale and multiply it into the rows of its weights. Without
        a way: by a Mul in front of the products, which others do not see."""
        self.count += 1
        for use in products.uses:
            self._multiply(use.view, scale, axis=0)
        if way is None:
            self._divisions.append((products, scale))
            return
        self._tensors += way.tensors
        self._vectors += [(node, slot, scale) for node, slot in way.vectors]
        if way.weight is not None:
            self._multiply(way.weight.view, np.reciprocal(scale), axis=1)

    def _multiply(self, view: WeightView, factor: Scale, axis: int) -> None:
        """Take down that an axis of W [K, N] is multiplied, once for each weight."""
        self._views[id(view.constant)] = view
        factors = self._factors.setdefault(id(view.constant), [])
        if all(axis != known for _, known in factors):
            factors.append((factor, axis))

    def apply(self) -> None:
        """Make the changes."""
        swaps = [*self._new_weights(), *self._new_vectors(), *map(_renamed, self._tensors)]
        muls = [self._mul(products, scale) for products, scale in self._divisions]
        name_apart(self.graph, [new for _, new, _ in swaps])
        for old, new, readers in swaps:
            _swap(old, new, readers)
        firsts = [products.nodes[0] for products, _ in self._divisions]
        pairs = zip(firsts, muls, strict=True)
        replace_nodes(self.graph, {id(first): [mul, first] for first, mul in pairs})
        for (products, _), mul in zip(self._divisions, muls, strict=True):
            for node in products.nodes:
                reread(node, 0, mul.outputs[0])

    def _new_weights(self) -> Iterator[Swap]:
        for view in self._views.values():
            values: Floats = values_of(view.constant).astype(view.dtype, copy=False)
            for factor, axis in self._factors[id(view.constant)]:
                values = values * (factor[:, None] if (axis == 0) != view.turned else factor)
            yield _with_values(view.constant, values, list(view.constant.outputs))

    def _new_vectors(self) -> Iterator[Swap]:
        for node, slot, scale in self._vectors:
            constant = node.inputs[slot]
            values: Floats = values_of(constant).astype(constant.dtype, copy=False)
            yield _with_values(constant, values / scale, [node])

    def _mul(self, products: Products, scale: Scale) -> gs.Node:
        """The node that divides an activation."""
        x = products.activation
        inverse = (1 / scale).astype(products.uses[0].view.dtype)
        factors = gs.Constant(f"{x.name}/inverse", inverse)
        output = gs.Variable(f"{x.name}{SMOOTHED}", inverse.dtype, x.shape)
        mul = gs.Node("Mul", f"{x.name}/Smooth", {}, [x, factors], [output])
        annotate(mul, **{"pass": self.made_by})
        return mul


def _with_values(old: gs.Constant, values: Floats, readers: list[gs.Node]) -> Swap:
    new = gs.Constant(f"{old.name}{SMOOTHED}", values.astype(old.dtype, copy=False))
    return old, new, readers


def _renamed(old: gs.Tensor) -> Swap:
    """A tensor of other values, of another name."""
    return old, gs.Variable(f"{old.name}{SMOOTHED}", old.dtype, old.shape), list(old.outputs)


def _swap(old: gs.Tensor, new: gs.Tensor, readers: list[gs.Node]) -> None:
    """Let nodes read, and what makes the old tensor make, the new one."""
    for node in list(old.inputs):
        node.outputs[0] = new
    for node in readers:
        for slot in [slot for slot, tensor in enumerate(node.inputs) if tensor is old]:
            reread(node, slot, new)
