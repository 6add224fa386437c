"""What passes that fuse a formula into one op share: find it, replace it, say why where not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.journal import Fusion, Journal, Miss
from sardonyx.passes.match import Pattern, State, Trail, maker
from sardonyx.passes.metadata import annotate, inherit
from sardonyx.passes.rewrite import Draft, Replacements, replace_nodes
from sardonyx.passes.scopes import scopes

Build = Callable[[Draft, State], gs.Node]
"""Adds the nodes that take a formula's place to a draft; returns the one that makes its result."""


@dataclass(frozen=True)
class Formula:
    """A formula and the op it becomes.

    ``anchors``: ops one of which every way of writing it holds; each such node is a candidate.
    ``patterns``: the ways, tried in this order. ``reach``: steps from an anchor to the result.
    ``build``: makes the replacement from what was found; raises `Unfit` where it cannot.
    """

    name: str
    anchors: tuple[str, ...]
    patterns: tuple[Pattern, ...]
    reach: int
    build: Build


def fuse(graph: gs.Graph, formula: Formula, journal: Journal) -> int:
    """Replace a formula wherever it stands; returns how many times."""
    replacements: Replacements = {}
    count = len(journal.fused)
    for scope in scopes(graph):
        outputs = {tensor.name for tensor in scope.outputs}
        for anchor in _anchors(scope, formula):
            if id(anchor) in replacements:
                continue
            try:
                found = _find(anchor, formula)
                _check_alone(found, outputs)
                replacements |= _replacement(formula, found, journal)
            except Unfit as reason:
                node = anchor.name or anchor.outputs[0].name
                journal.missed.append(Miss(formula.name, node, str(reason)))
    replace_nodes(graph, replacements)
    return len(journal.fused) - count


def _anchors(graph: gs.Graph, formula: Formula) -> list[gs.Node]:
    return [n for n in graph.nodes if n.op in formula.anchors and maker(n.outputs[0]) is n]


def _find(anchor: gs.Node, formula: Formula) -> State:
    """The formula around an anchor."""
    trail = Trail()
    roots = list(_ahead(anchor, formula.reach))
    for pattern in formula.patterns:
        for root in roots:
            for found in pattern.find(root.outputs[0], State(trail)):
                if any(node is anchor for node in found.nodes):
                    return found
    raise Unfit(trail.reason)


def _ahead(node: gs.Node, steps: int) -> Iterator[gs.Node]:
    """The node and those that read it, within some steps, the nearest first."""
    ring, seen = [node], {id(node)}
    for _ in range(steps + 1):
        yield from ring
        readers = [r for n in ring for out in n.outputs for r in out.outputs]
        ring = list({id(r): r for r in readers if id(r) not in seen}.values())
        seen |= set(map(id, ring))


def _check_alone(found: State, outputs: set[str]) -> None:
    """Refuse a formula of which something else reads an intermediate value."""
    inside = set(map(id, found.nodes))
    for tensor in (tensor for node in found.nodes[1:] for tensor in node.outputs):
        if tensor.name in outputs:
            raise Unfit(f"'{tensor.name}' inside it is an output of the graph")
        reader = next((r for r in tensor.outputs if id(r) not in inside), None)
        if reader is not None:
            raise Unfit(f"'{tensor.name}' inside it is also read by {reader.op}")


def _replacement(formula: Formula, found: State, journal: Journal) -> Replacements:
    root = found.nodes[0]
    (result,) = root.outputs
    draft = Draft(root.name or result.name, result.dtype)
    made = formula.build(draft, found)
    inherit(made, root)
    annotate(made, **{"pass": formula.name})
    for node in found.nodes:
        node.inputs.clear()
        node.outputs.clear()
    made.outputs[0] = result
    journal.fused.append(Fusion(formula.name, made.name, made.op, len(found.nodes)))
    return {id(node): [] for node in found.nodes} | {id(root): draft.nodes}
