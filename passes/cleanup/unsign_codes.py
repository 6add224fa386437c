"""unsign-codes: activations that are moved as signed codes are moved as unsigned ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.cleanup.movements import (
    data_slots,
    is_movement,
    only_moves,
    pads_with_constant,
)
from sardonyx.passes.fused import operand
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import annotate
from sardonyx.passes.quantizers import DEQUANTIZE, QUANTIZE, is_op, unsigned
from sardonyx.passes.rewrite import name_apart, reread
from sardonyx.passes.scopes import scopes
from sardonyx.passes.within import Within


@dataclass(frozen=True)
class UnsignCodes(Pass):
    """``DequantizeLinear(Move(QuantizeLinear(x, s, z)), s, z)`` of int8  ->  the same of uint8.

    Zero points are 128 higher, and all values the same. On x86 onnxruntime's products take unsigned
    activations alone. It turns signed ones into these where a QuantizeLinear meets its
    DequantizeLinear, but not where sink-dequantize and hoist-quantize have put something between.
    Does not fire where

    1. no Move lies between: onnxruntime sees to it, and others may want signed codes,
    2. something else needs the codes, or they are moved together with codes that are no
       QuantizeLinear's,
    3. a zero point is left out or computed.
    """

    name: ClassVar[str] = "unsign-codes"
    settles: ClassVar[bool] = True

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Change all codes that hang together by movements, in every graph by itself."""
        found = [codes for scope in scopes(graph) for codes in _moved_codes(scope)]
        fit = [codes for codes in found if not codes.obstacle]
        for codes in (codes for codes in found if codes.obstacle):
            journal.miss(self.name, codes.first, codes.obstacle)
        signed = {id(zero): zero for codes in fit for zero in codes.zeros}
        zeros: dict[int, gs.Tensor] = {key: unsigned(zero) for key, zero in signed.items()}
        changed = zeros | {key: new for codes in fit for key, new in codes.unsigned().items()}
        if fit:
            name_apart(graph, changed.values())
        for codes in fit:
            codes.unsign(changed, self.name)
        return len(fit)


def _moved_codes(scope: gs.Graph) -> list[_Codes]:
    """What QuantizeLinears with signed zero points give to movements."""
    within = Within.of(scope)
    found: list[_Codes] = []
    seen = set[int]()
    for node in scope.nodes:
        zero = operand(node, 2) if is_op(node, QUANTIZE) else None
        moved = zero is not None and any(map(is_movement, node.outputs[0].outputs))
        if zero is None or not moved or zero.dtype != np.int8 or id(node.outputs[0]) in seen:
            continue
        found.append(_Codes(node, within))
        found[-1].follow(node.outputs[0])
        seen |= found[-1].tensors.keys()
    return found


@dataclass
class _Codes:
    """Codes that are moved together. ``first``: the first node that makes some.

    ``nodes``: all that make, move and read them; ``zeros``: constants that go with them;
    ``obstacle``: why they stay signed.
    """

    first: gs.Node
    within: Within
    tensors: dict[int, gs.Variable] = field(default_factory=dict)
    nodes: dict[int, gs.Node] = field(default_factory=dict)
    zeros: list[gs.Constant] = field(default_factory=list)
    obstacle: str = ""

    def follow(self, start: gs.Variable) -> None:
        """Find them all."""
        pending = [start]
        while pending:
            tensor = pending.pop()
            if id(tensor) in self.tensors:
                continue
            self.tensors[id(tensor)] = tensor
            if not tensor.inputs or id(tensor) in self.within.outputs:
                self.obstacle = f"'{tensor.name}' comes from outside, or goes there"
            for node in (*tensor.inputs, *tensor.outputs):
                self._check(node, tensor)
                if is_movement(node) and id(node) not in self.nodes:
                    pending += [*(node.inputs[slot] for slot in data_slots(node)), *node.outputs]
                self.nodes[id(node)] = node

    def _check(self, node: gs.Node, tensor: gs.Variable) -> None:
        """Note it where a node must make or read signed codes."""
        makes = any(made is tensor for made in node.outputs)
        moves = is_movement(node) and (makes or only_moves(node, tensor))
        scales = is_op(node, QUANTIZE if makes else DEQUANTIZE)
        scales = scales and all(other is not tensor for other in node.inputs[1:])
        fixed = scales and makes and node.attrs.get("output_dtype", 0)
        if id(node) not in self.within.nodes or fixed or not (moves or scales):
            self.obstacle = f"{node.op} '{node.name}' makes or needs signed codes"
        if scales or (moves and pads_with_constant(node)):
            self._shift(operand(node, 2))

    def _shift(self, zero: gs.Tensor | None) -> None:
        """Note a zero point, or what a Pad puts around codes."""
        if not isinstance(zero, gs.Constant) or zero.dtype != np.int8:
            self.obstacle = "a zero point is left out or computed"
        else:
            self.zeros.append(zero)

    def unsigned(self) -> dict[int, gs.Variable]:
        """Tensors for unsigned codes, by ``id`` of the signed: what a file says of these holds no
        more, so they have names of their own."""
        return {
            key: gs.Variable(f"{tensor.name}/Unsigned", np.uint8, tensor.shape)
            for key, tensor in self.tensors.items()
        }

    def unsign(self, changed: dict[int, gs.Tensor], by: str) -> None:
        """Let the nodes make, move and read unsigned codes. ``changed``: what takes the place of
        tensors, by ``id``."""
        for node in self.nodes.values():
            for slot, tensor in enumerate(node.inputs):
                if id(tensor) in changed:
                    reread(node, slot, changed[id(tensor)])
            for slot, tensor in enumerate(node.outputs):
                if id(tensor) in changed:
                    node.outputs[slot] = changed[id(tensor)]
            annotate(node, **{"pass": by})
