"""fuse-attention: softmax(q k' + bias) v becomes onnxruntime's MultiHeadAttention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fuse.attention_bias import AttentionBias, may_be_infinite
from sardonyx.passes.fuse.attention_parts import Attention, attention_of
from sardonyx.passes.fuse.dying import dying
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import MICROSOFT
from sardonyx.passes.journal import Fusion, Journal, Miss
from sardonyx.passes.metadata import annotate, inherit
from sardonyx.passes.origin import maker
from sardonyx.passes.rewrite import Draft, Replacements, replace_nodes
from sardonyx.passes.scopes import scopes
from sardonyx.passes.sizes import Sizes


@dataclass(frozen=True)
class FuseAttention(Pass):
    """``merge(softmax(scale split(q) split(k)' + bias) split(v))``  ->
    ``MultiHeadAttention(q, k, v, , , bias)``.

    split takes [B, T, N D] to [B, N, T, D] and merge the way back, in whatever Reshapes and
    Transposes; the Attention of opset 23 stands for the middle too. ``bias`` is all that is added
    to the scores or stands in their place: masks, relative positions. It is made once for all
    layers that share it. Keys and values that are split already, or follow those of the past, are
    taken as they are.
    Does not fire where

    1. the values are not float32, the only ones of onnxruntime's kernel,
    2. scores are computed in another way, or scaled after something was added to them,
    3. masked scores are set to a value above -1e30, which does not drown in what is added to it,
    4. sizes do not show that split and merge are what they seem, or that queries, keys, values and
       masks have one batch (the kernel broadcasts masks only, and only to the scores),
    5. something else reads the scores or the probabilities, as a graph that returns them.
    """

    name: ClassVar[str] = "fuse-attention"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-5
    """The same sums in another order, and one product with the scale in place of several."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Fuse every attention, in the graph and in those inside it."""
        sizes = Sizes(graph)
        replacements: Replacements = {}
        before = len(journal.fused)
        for scope in scopes(graph):
            bias = AttentionBias(sizes)
            outputs = {id(tensor) for tensor in scope.outputs}
            for node in _anchors(scope):
                try:
                    found = attention_of(sizes, node, outputs)
                    replacements |= _fuse(scope, found, bias, journal)
                except Unfit as reason:
                    name = node.name or node.outputs[0].name
                    journal.missed.append(Miss(self.name, name, str(reason)))
        replace_nodes(graph, replacements)
        return len(journal.fused) - before


def _anchors(graph: gs.Graph) -> list[gs.Node]:
    named = [node for node in graph.nodes if node.op in ("Softmax", "Attention")]
    return [node for node in named if maker(node.outputs[0]) is node]


def _fuse(scope: gs.Graph, found: Attention, bias: AttentionBias, journal: Journal) -> Replacements:
    gone = dying(scope, [found.merged], found.reads)
    _check_alone(found, gone)
    name = found.anchor.name or found.anchor.outputs[0].name
    shared, draft = Draft(name, np.float32), Draft(name, np.float32)
    added = bias.make(shared, found.biases, found.queries, found.keys)
    attend = _attend(draft, found, added)
    result = found.merged.outputs[0]
    for node in (n for n in scope.nodes if id(n) in gone):
        node.inputs.clear()
        node.outputs.clear()
    _finish(draft, found)
    draft.nodes[-1].outputs[0] = result
    journal.fused.append(Fusion(FuseAttention.name, attend.name, attend.op, len(gone)))
    new = {id(found.anchor): shared.nodes, id(found.merged): draft.nodes}
    return {key: [] for key in gone} | new


def _attend(draft: Draft, found: Attention, added: gs.Tensor | None) -> gs.Node:
    operands = [found.query, found.key, found.value, None, None, added]
    while operands[-1] is None:
        operands.pop()
    given = [gs.Variable.empty() if t is None else t for t in operands]
    draft.add("MultiHeadAttention", "Attend", given, domain=MICROSOFT, **_attributes(found))
    attend = draft.nodes[-1]
    inherit(attend, found.anchor)
    annotate(attend, **{"pass": FuseAttention.name})
    return attend


def _finish(draft: Draft, found: Attention) -> None:
    """What some exporters do behind attention: 0 for queries that no key counts for, of which
    softmax makes NaN; rows [B S, N D]."""
    (result,) = draft.nodes[-1].outputs[:1]
    if found.guarded and may_be_infinite(found.biases):
        nobody = draft.add("IsNaN", "Nobody", [result], dtype=np.bool_)
        zero = draft.constant("Zero", 0, np.float32)
        result = draft.add("Where", "Guard", [nobody, zero, result])
    if found.rows:
        shape = draft.constant("Rows/Shape", [-1, found.heads * found.head_size], np.int64)
        draft.add("Reshape", "Rows", [result, shape])


def _attributes(found: Attention) -> dict[str, Any]:
    default = 1 / math.sqrt(found.head_size)
    attributes: dict[str, Any] = {"num_heads": found.heads}
    if not math.isclose(found.scale, default, rel_tol=1e-6):
        attributes["scale"] = found.scale
    if found.causal:
        attributes["unidirectional"] = 1
    return attributes


def _check_alone(found: Attention, gone: set[int]) -> None:
    """Refuse an attention of which something else reads an intermediate value."""
    for node in found.inside:
        if id(node) not in gone:
            readers = [r.op for t in node.outputs for r in t.outputs if id(r) not in gone]
            reader = readers[0] if readers else "the graph's outputs"
            raise Unfit(f"'{node.outputs[0].name}' inside it is also read by {reader}")
