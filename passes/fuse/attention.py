"""fuse-attention: softmax(q k' + bias) v becomes one op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fuse.attention_bias import AttentionBias
from sardonyx.passes.fuse.attention_ops import (
    FIRST_STANDARD,
    can_be_standard,
    multi_head_attention,
    standard_attention,
)
from sardonyx.passes.fuse.attention_parts import Attention, attention_of
from sardonyx.passes.fuse.dying import dying
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import is_standard
from sardonyx.passes.journal import Fusion, Journal
from sardonyx.passes.metadata import annotate, inherit
from sardonyx.passes.origin import label
from sardonyx.passes.rewrite import Draft, Replacements, release, replace_nodes
from sardonyx.passes.scopes import scopes

Write = Callable[[Draft, Draft, Attention, AttentionBias], None]


@dataclass(frozen=True)
class FuseAttention(Pass):
    """``merge(softmax(scale split(q) split(k)' + bias) split(v))``  ->
    ``MultiHeadAttention(q, k, v, , , bias)``, or from opset 23 on ``Attention(q, k, v, bias)``.

    split takes [B, T, N D] to [B, N, T, D] and merge the way back, in whatever Reshapes and
    Transposes; the Attention of opset 23 stands for the middle too. ``bias`` is all that is added
    to the scores or stands in their place: masks, relative positions. It is made once for all
    layers that share it. Keys and values that are split already, or follow those of the past, are
    taken as they are, by MultiHeadAttention only. ``standard``: whether to write Attention, whose
    kernel is the faster one, at all. Does not fire where

    1. the values are not float32, the only ones of onnxruntime's kernel,
    2. scores are computed in another way, scaled after something was added to them, or
       scaled by 0, which the ops take for something else,
    3. masked scores are set to a value above -1e30, which does not drown in what is added to it,
    4. sizes do not show that split and merge are what they seem, or that queries, keys, values and
       masks have one batch (the kernel broadcasts masks only, and only to the scores),
    5. something else reads the scores or the probabilities, as a graph that returns them,
    6. an Attention is both causal and masked, and would have to be a MultiHeadAttention.
    """

    standard: bool = True

    name: ClassVar[str] = "fuse-attention"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-5
    """The same sums in another order, and one product with the scale in place of several."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Fuse every attention, in the graph and in those inside it."""
        sizes = journal.sizes(graph)
        replacements: Replacements = {}
        made: list[tuple[gs.Node, int]] = []
        for scope in scopes(graph):
            bias = AttentionBias(sizes)
            outputs = {id(tensor) for tensor in scope.outputs}
            for node in _anchors(scope):
                try:
                    found = attention_of(sizes, node, outputs)
                    newest = self.standard and graph.opset >= FIRST_STANDARD
                    standard = newest and can_be_standard(found)
                    write = standard_attention if standard else multi_head_attention
                    new, attention, gone = _fuse(scope, found, bias, write)
                except Unfit as reason:
                    journal.miss(self.name, node, reason)
                else:
                    made.append((attention, gone))
                    replacements |= new
        replace_nodes(graph, replacements)
        journal.fused += [Fusion(self.name, node.name, node.op, gone) for node, gone in made]
        return len(made)


def _anchors(graph: gs.Graph) -> list[gs.Node]:
    """Softmaxes near a product that reads them, and Attentions of split heads."""
    nodes = [n for n in graph.nodes if n.op in ("Softmax", "Attention") and is_standard(n)]
    return [
        n for n in nodes if "q_num_heads" not in n.attrs and (n.op != "Softmax" or _is_mixed(n))
    ]


def _is_mixed(softmax: gs.Node, steps: int = 3) -> bool:
    """Whether a product reads what a node makes, or what is made of that in some steps."""
    readers = [reader for tensor in softmax.outputs for reader in tensor.outputs]
    found = any(reader.op == "MatMul" for reader in readers)
    return found or (steps > 0 and any(_is_mixed(reader, steps - 1) for reader in readers))


def _fuse(
    scope: gs.Graph, found: Attention, bias: AttentionBias, write: Write
) -> tuple[Replacements, gs.Node, int]:
    """What takes the place of an attention, the op among it, and how many nodes it had."""
    gone = dying(scope, [found.merged], found.reads)
    _check_alone(found, gone)
    if found.scale == 0:
        raise Unfit("its scores are multiplied by 0")
    name = label(found.anchor)
    shared, draft = Draft(name, np.float32), Draft(name, np.float32)
    write(shared, draft, found, bias)
    made = draft.nodes[0]
    inherit(made, found.anchor)
    annotate(made, **{"pass": FuseAttention.name})
    if found.rows:
        shape = draft.constant("Rows/Shape", [-1, found.heads * found.head_size], np.int64)
        draft.add("Reshape", "Rows", [draft.nodes[-1].outputs[0], shape])
    result = found.merged.outputs[0]
    for node in (n for n in scope.nodes if id(n) in gone):
        release(node)
    draft.nodes[-1].outputs[0] = result
    new = {id(found.anchor): shared.nodes, id(found.merged): draft.nodes}
    return {key: [] for key in gone} | new, made, len(gone)


def _check_alone(found: Attention, gone: set[int]) -> None:
    """Refuse an attention of which something else reads an intermediate value."""
    for node in found.inside:
        if id(node) not in gone:
            readers = [r.op for t in node.outputs for r in t.outputs if id(r) not in gone]
            reader = readers[0] if readers else "the graph's outputs"
            raise Unfit(f"'{node.outputs[0].name}' inside it is also read by {reader}")
