"""What passes that fuse a formula into one op share: find it, replace it, say why where not."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from sardonyx.passes.attempt import State, Trail
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.journal import Fusion, Journal
from sardonyx.passes.match import Pattern
from sardonyx.passes.metadata import annotate, inherit
from sardonyx.passes.origin import behind, label, maker
from sardonyx.passes.rewrite import Draft, Replacements, release, replace_nodes
from sardonyx.passes.scopes import all_outputs, scopes

Build = Callable[[Draft, State], gs.Node]
"""Adds the nodes that take a formula's place to a draft; returns the one that makes its result."""


@dataclass(frozen=True)
class Formula:
    """A formula and the op it becomes.

    ``anchors``: ops one of which every way of writing it holds; each such node is a candidate, if
    it is ``meant``: those that plainly belong to something else are passed over in silence.
    ``patterns``: the ways, tried in this order. ``reach``: steps from an anchor to the result.
    ``refinements``: what a value of the formula may itself be, tried in this order; where none
    fits, it is left outside. ``keeps``: values that the op gives too, and in which output; others
    may read them. ``build``: makes the replacement from what was found; raises `Unfit` where it
    cannot.
    """

    name: str
    anchors: tuple[str, ...]
    patterns: tuple[Pattern, ...]
    reach: int
    build: Build
    refinements: tuple[tuple[str, Pattern], ...] = ()
    keeps: tuple[tuple[str, int], ...] = ()
    meant: Callable[[gs.Node], bool] = lambda _: True


def fuse(graph: gs.Graph, formula: Formula, journal: Journal) -> int:
    """Replace a formula wherever it stands; returns how many times."""
    replacements: Replacements = {}
    made: list[_Fused] = []
    outputs = all_outputs(graph)
    for scope in scopes(graph):
        here = set(map(id, scope.nodes))
        for anchor in _anchors(scope, formula):
            if id(anchor) in replacements:
                continue
            trail = Trail(anchor)
            fused = _fuse_at(anchor, formula, _Surroundings(here, outputs), trail)
            if fused:
                replacements |= fused.replacements
                made.append(fused)
            else:
                reason = trail.reason or "nothing around it is written like the formula"
                journal.miss(formula.name, anchor, reason)
    replace_nodes(graph, replacements)
    for each in made:
        entry = Fusion(formula.name, each.node.name, each.node.op, each.replaced)
        journal.fused.append(entry)
    return len(made)


@dataclass(frozen=True)
class _Surroundings:
    """Where a formula stands: nodes of its graph, outputs of any graph; all by ``id``."""

    nodes: set[int]
    outputs: set[int]

    def reader(self, tensor: gs.Tensor, inside: Container[int]) -> str:
        """What else reads a tensor than the nodes inside; empty if nothing does."""
        if id(tensor) in self.outputs:
            return "is an output of the graph"
        reader = next((r for r in tensor.outputs if id(r) not in inside), None)
        return f"is also read by {reader.op} '{label(reader)}'" if reader is not None else ""


@dataclass(frozen=True)
class _Fused:
    """What takes the place of a formula. ``node``: makes its result; ``replaced``: how many nodes
    it had."""

    replacements: Replacements
    node: gs.Node
    replaced: int


def _anchors(graph: gs.Graph, formula: Formula) -> list[gs.Node]:
    nodes = [n for n in graph.nodes if n.op in formula.anchors and n.outputs]
    return [n for n in nodes if maker(n.outputs[0]) is n and formula.meant(n)]


def _fuse_at(
    anchor: gs.Node, formula: Formula, around: _Surroundings, trail: Trail
) -> _Fused | None:
    """What becomes of the formula around an anchor, if it is one."""
    for found in _candidates(anchor, formula, trail):
        try:
            nodes = _nodes(found, around)
            _check_alone(formula, found, nodes, around)
            draft = Draft(label(found.nodes[0]), found.nodes[0].outputs[0].dtype)
            made = formula.build(draft, found)
        except Unfit as reason:
            trail.miss(found, str(reason), found=True)
        else:
            return _replaced(formula, found, nodes, around, draft, made)
    return None


def _candidates(anchor: gs.Node, formula: Formula, trail: Trail) -> Iterator[State]:
    """Every way in which the formula stands around an anchor, the most refined first."""
    roots = list(ahead(anchor, formula.reach))
    for pattern in formula.patterns:
        for root in roots:
            for found in pattern.find(root.outputs[0], State(trail)):
                if all(node is not anchor for node in found.nodes):
                    continue
                for name, refinement in formula.refinements:
                    yield from refinement.find(found.values[name], found)
                yield found


def ahead(node: gs.Node, steps: int) -> Iterator[gs.Node]:
    """The node and those that read it, within some steps, the nearest first."""
    ring, seen = [node], {id(node)}
    for _ in range(steps + 1):
        yield from (n for n in ring if n.outputs)
        readers = [r for n in ring for out in n.outputs for r in out.outputs]
        ring = list({id(r): r for r in readers if id(r) not in seen}.values())
        seen |= set(map(id, ring))


def _nodes(found: State, around: _Surroundings) -> list[gs.Node]:
    """The nodes of a formula, each once, with those before it that only pass a value on to it."""
    nodes = {id(node): node for node in found.nodes}
    for node in found.nodes:
        for tensor in node.inputs:
            for step in behind(tensor)[1]:
                if around.reader(step.outputs[0], nodes.keys()):
                    break
                nodes[id(step)] = step
    return list(nodes.values())


def _check_alone(
    formula: Formula, found: State, nodes: list[gs.Node], around: _Surroundings
) -> None:
    """Refuse a formula of which something else reads an intermediate value."""
    inside = set(map(id, nodes))
    kept = {id(found.values[name]) for name, _ in formula.keeps}
    root = found.nodes[0]
    for tensor in (t for node in nodes for t in node.outputs if t is not root.outputs[0]):
        reader = "" if id(tensor) in kept else around.reader(tensor, inside)
        if reader:
            raise Unfit(f"'{tensor.name}' inside it {reader}")
    for node in nodes:
        if id(node) not in around.nodes:
            raise Unfit(f"'{node.outputs[0].name}' inside it is computed in another graph")


def _replaced(
    formula: Formula,
    found: State,
    nodes: list[gs.Node],
    around: _Surroundings,
    draft: Draft,
    made: gs.Node,
) -> _Fused:
    place = root = found.nodes[0]
    result, inside = root.outputs[0], set(map(id, nodes))
    kept: dict[int, gs.Tensor] = {}
    for name, slot in formula.keeps:
        value = found.values[name]
        if around.reader(value, inside):
            kept[slot], place = value, value.inputs[0]  # others may read it before the root
    inherit(made, root)
    annotate(made, **{"pass": formula.name})
    for node in nodes:
        release(node)
    made.outputs[0] = result
    for slot in range(1, max(kept, default=0) + 1):
        made.outputs.append(kept.get(slot) or gs.Variable.empty())
    replacements = {id(node): [] for node in nodes} | {id(place): draft.nodes}
    return _Fused(replacements, made, len(nodes))
