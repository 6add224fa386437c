"""unfuse-attention: the projections inside onnxruntime's Attention become MatMuls again."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fused import MICROSOFT, operand, separable
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import annotate, inherit
from sardonyx.passes.rewrite import Draft, Replacements, replace_nodes, take_outputs
from sardonyx.passes.weights import is_float, values_of

_KEPT = ("num_heads", "mask_filter_value", "scale", "unidirectional")
"""Attributes that MultiHeadAttention has too, with the same meaning and default."""


@dataclass(frozen=True)
class UnfuseAttention(Pass):
    """``Attention(x, W, bias, mask, past, attention_bias)``  ->  ``MultiHeadAttention(x Wq, x Wk,
    x Wv, bias, mask, attention_bias, past[0], past[1])``, with W = [Wq Wk Wv].

    Both are contrib ops of onnxruntime with one kernel behind them; now the three weights can be
    encoded, each with a table of its own. Does not fire on an Attention

    1. with rotary positions, with a past that shares its buffer with the present, or without bias,
    2. whose W is no constant matrix of floats,
    3. whose mask is of rank 4, is [batch, 1], or is of rank 1 and perhaps more than the lengths.
    """

    name: ClassVar[str] = "unfuse-attention"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-4
    """Sums of a narrower product may round differently, and Softmax passes that on."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Take every Attention apart that the cases allow."""
        fused = [n for n in separable(graph, "Attention") if is_float(n.inputs[1].dtype)]
        replacements: Replacements = {id(node): _unfused(node) for node in fused}
        replace_nodes(graph, replacements)
        return len(fused)


def _unfused(node: gs.Node) -> list[gs.Node]:
    x, weights = node.inputs[:2]
    bias, mask, past, attention_bias = (operand(node, slot) for slot in (2, 3, 4, 5))
    draft = Draft.of(node, weights.dtype)
    batch = (x.shape or [None, None])[:2]
    query, key, value = (
        draft.add(
            "MatMul",
            part,
            [x, gs.Constant(f"{weights.name}.{part}", columns)],
            shape=[*batch, columns.shape[1]],
        )
        for part, columns in _split(weights, node.attrs.get("qkv_hidden_sizes"))
    )
    for product in draft.nodes:
        annotate(product, **{"pass": UnfuseAttention.name, "from": weights.name})
    pasts = [_pick(draft, past, i) if past is not None else None for i in (0, 1)]
    operands = [query, key, value, bias, mask, attention_bias, *pasts]
    output, *present = take_outputs(node)
    attrs = {name: node.attrs[name] for name in _KEPT if name in node.attrs}
    given = [gs.Variable.empty() if t is None else t for t in operands]
    draft.add("MultiHeadAttention", "Attend", given, domain=MICROSOFT, **attrs)
    attend = draft.nodes[-1]
    inherit(attend, node)
    annotate(attend, **{"pass": UnfuseAttention.name})
    attend.outputs[0] = output
    if present and not present[0].is_empty():
        _stack(draft, attend, present[0])
    return draft.nodes


def _split(weights: gs.Constant, sizes: list[int] | None) -> list[tuple[str, np.ndarray]]:
    """The projections in a packed weight, by name."""
    sizes = sizes or [weights.shape[1] // 3] * 3
    parts = np.split(values_of(weights), np.cumsum(sizes)[:2], axis=1)
    return list(zip(("query", "key", "value"), map(np.ascontiguousarray, parts), strict=True))


def _pick(draft: Draft, past: gs.Tensor, index: int) -> gs.Variable:
    """Keys or values of ``past`` [2, batch, heads, sequence, size]."""
    part = ("past_key", "past_value")[index]
    return draft.add("Gather", part, [past, draft.constant(f"{part}_index", index, np.int64)])


def _stack(draft: Draft, attend: gs.Node, present: gs.Tensor) -> None:
    """Keys and values of the present, as one tensor again."""
    parts = []
    axes = draft.constant("present_axis", [0], np.int64)
    for part in ("present_key", "present_value"):
        attend.outputs.append(gs.Variable(f"{draft.name}/{part}:0", draft.dtype))
        parts.append(draft.add("Unsqueeze", f"{part}_4d", [attend.outputs[-1], axes]))
    draft.add("Concat", "present", parts, axis=0)
    draft.nodes[-1].outputs[0] = present
