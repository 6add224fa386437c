"""merge-projections: products of one activation become one product."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from pydantic import Field

from sardonyx.passes.base import Pass
from sardonyx.passes.fused import MICROSOFT, OLDEST_OPSET, operand
from sardonyx.passes.journal import Fusion, Journal
from sardonyx.passes.lower.integer_linear import INTEGER_LINEAR
from sardonyx.passes.metadata import annotate, annotate_part
from sardonyx.passes.rewrite import Draft, Replacements, replace_nodes, take_outputs
from sardonyx.passes.scopes import scopes
from sardonyx.passes.weights import values_of

_CODES, _SCALE, _ZERO, _BIAS = 1, 3, 5, 6
"""Inputs of the product that hold its weight and bias."""


@dataclass(frozen=True)
class MergeProjections(Pass):
    """``y = MatMulIntegerToFloat(q, V, ...) ... z = MatMulIntegerToFloat(q, W, ...)``  ->
    ``y, z = Split(MatMulIntegerToFloat(q, [V W], ...))``.

    Queries, keys and values, mostly. One call has more columns for threads to share, and q is
    rearranged for the kernel once; against that the Split copies the result, which weighs more the
    larger it is: ``max_columns`` are merged at most, and wider products never. Does not fire

    1. on weights that are no constants, that something else reads too, or with a zero point,
    2. on products of other scales or types, with a bias one and without the other,
    3. where the products stand in different graphs, or are of an opset before 13.
    """

    max_columns: Annotated[int, Field(ge=0)] = 4096

    name: ClassVar[str] = "merge-projections"

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Merge in every graph by itself."""
        replacements: Replacements = {}
        if graph.opset < OLDEST_OPSET:
            return 0
        merged: list[tuple[gs.Node, int, str]] = []
        for scope in scopes(graph):
            for products in self._groups(scope):
                reason = _reason(products)
                nodes = _merged(products)
                merged.append((nodes[0], len(products), reason))
                replacements |= {id(node): [] for node in products}
                replacements[id(products[0])] = nodes
        replace_nodes(graph, replacements)
        journal.fused += [Fusion(self.name, n.name, n.op, held, why) for n, held, why in merged]
        return len(merged)

    def _groups(self, scope: gs.Graph) -> Iterator[list[gs.Node]]:
        """Products to merge, two or more."""
        alike: dict[Hashable, list[gs.Node]] = defaultdict(list)
        for node in scope.nodes:
            if _is_free(node) and _columns(node) <= self.max_columns:
                alike[_key(node)].append(node)
        for nodes in alike.values():
            yield from (group for group in self._cut(nodes) if len(group) > 1)

    def _cut(self, nodes: list[gs.Node]) -> list[list[gs.Node]]:
        """Runs of products that are not too wide together."""
        groups: list[list[gs.Node]] = [[]]
        for node in nodes:
            if sum(map(_columns, [*groups[-1], node])) > self.max_columns:
                groups.append([])
            groups[-1].append(node)
        return groups


def _is_free(node: gs.Node) -> bool:
    """Whether a node is a product with constants of its own, the weight read by nothing else."""
    if (node.domain, node.op) != (MICROSOFT, INTEGER_LINEAR) or operand(node, _ZERO) is not None:
        return False
    held = [node.inputs[_CODES], node.inputs[_SCALE], operand(node, _BIAS)]
    constant = all(isinstance(t, gs.Constant) for t in held if t is not None)
    return constant and len(node.inputs[_CODES].outputs) == 1


def _key(node: gs.Node) -> Hashable:
    """Equal for products of the same activation that can be one."""
    activation = (node.inputs[0], node.inputs[2], operand(node, 4))
    codes = node.inputs[_CODES]
    alike = tuple(map(_identity, activation))
    return alike, codes.shape[0], str(codes.dtype), operand(node, _BIAS) is None


def _identity(tensor: gs.Tensor | None) -> Hashable:
    if isinstance(tensor, gs.Constant):
        return str(tensor.dtype), values_of(tensor).tobytes()
    return id(tensor)


def _columns(node: gs.Node) -> int:
    return int(node.inputs[_CODES].shape[1])


def _reason(products: list[gs.Node]) -> str:
    total = sum(map(_columns, products))
    return f"{len(products)} products of one activation: one product of {total} columns"


def _merged(products: list[gs.Node]) -> list[gs.Node]:
    """The product of all, and the Split into what each made."""
    columns = list(map(_columns, products))
    biased = operand(products[0], _BIAS) is not None
    draft = Draft.of(products[0], np.float32)
    parts = [[values_of(node.inputs[slot]) for node in products] for slot in (_CODES, _SCALE)]
    scales = [np.broadcast_to(s.reshape(-1), n) for s, n in zip(parts[1], columns, strict=True)]
    codes = draft.constant("Merged/Codes", np.concatenate(parts[0], axis=1), parts[0][0].dtype)
    scale = draft.constant("Merged/Scale", np.concatenate(scales), np.float32)
    q, _, q_scale, _, *zero = products[0].inputs[:5]
    operands = [q, codes, q_scale, scale, *zero]
    if biased:
        biases = np.concatenate([values_of(node.inputs[_BIAS]) for node in products])
        bias = draft.constant("Merged/Bias", biases, np.float32)
        operands += [gs.Variable.empty()] * (_BIAS - len(operands)) + [bias]
    shape = products[0].outputs[0].shape
    whole = None if shape is None else [*shape[:-1], sum(columns)]
    value = draft.add(INTEGER_LINEAR, "Merged", operands, domain=MICROSOFT, shape=whole)
    annotate(draft.nodes[0], **{"pass": MergeProjections.name})
    annotate(draft.nodes[0], merged="\n".join(node.name for node in products))
    for number, node in enumerate(products, 1):
        ends = sum(columns[: number - 1]), sum(columns[:number])
        annotate_part(draft.nodes[0], number, node, columns="{} to {}".format(*ends))
    sizes = draft.constant("Merged/Sizes", columns, np.int64)
    outputs = [take_outputs(node)[0] for node in products]
    split = gs.Node("Split", f"{draft.name}/Split", {"axis": -1}, [value, sizes], outputs)
    return [draft.nodes[0], split]
