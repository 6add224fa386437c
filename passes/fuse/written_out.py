"""Normalizations and activation functions that are written out in elementary ops."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from sardonyx.passes.attempt import State, Trail
from sardonyx.passes.fuse.formula import ahead
from sardonyx.passes.fuse.gelu import ERF_GELU, QUICK_GELU, TANH_GELU, is_gate, is_of_a_power
from sardonyx.passes.fuse.norms import ANCHOR, LAYER_NORM, REACH, RMS_NORM, is_of_squares
from sardonyx.passes.match import Pattern
from sardonyx.passes.origin import maker, scalar
from sardonyx.passes.scopes import is_constant


@dataclass(frozen=True)
class _Form:
    """Ways to write a formula. ``anchor``: an op that all of them hold, if it is ``meant``;
    ``reach``: steps from there to the result."""

    patterns: tuple[Pattern, ...]
    anchor: str
    reach: int
    meant: Callable[[gs.Node], bool] = lambda _: True


_NORM = _Form((*LAYER_NORM, RMS_NORM), ANCHOR, REACH, is_of_squares)

_FUNCTIONS = (
    _Form((ERF_GELU,), "Erf", 4),
    _Form((TANH_GELU,), "Tanh", 4, is_of_a_power),
    _Form((QUICK_GELU,), "Sigmoid", 2, is_gate),
)


def written_norms(graph: gs.Graph) -> Iterator[tuple[gs.Node, ...]]:
    """The nodes of each LayerNormalization or RMSNormalization directly in a graph, the one that
    makes its result first; scale and shift are constants,
    not of one element."""
    return _found(graph, _NORM)


def written_functions(graph: gs.Graph) -> Iterator[tuple[gs.Node, ...]]:
    """The nodes of each GELU, exact or by tanh, QuickGELU or SiLU, likewise."""
    for form in _FUNCTIONS:
        yield from _found(graph, form)


def _found(graph: gs.Graph, form: _Form) -> Iterator[tuple[gs.Node, ...]]:
    for node in graph.nodes:
        if node.op == form.anchor and maker(node.outputs[0]) is node and form.meant(node):
            state = next(_ways(node, form), None)
            if state:
                yield state.nodes


def _ways(anchor: gs.Node, form: _Form) -> Iterator[State]:
    """Every way in which the formula stands around an anchor."""
    roots = list(ahead(anchor, form.reach))
    for pattern in form.patterns:
        for root in roots:
            for found in pattern.find(root.outputs[0], State(Trail(anchor))):
                parameters = [t for name, t in found.values.items() if name != "x"]
                vectors = all(is_constant(t) and scalar(t) is None for t in parameters)
                if vectors and any(node is anchor for node in found.nodes):
                    yield found
