"""The two ops that attention becomes: onnxruntime's own, and from opset 23 on the standard's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.attention_bias import AttentionBias, may_be_infinite
from sardonyx.passes.fuse.attention_parts import Attention
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import MICROSOFT, operand
from sardonyx.passes.rewrite import Draft

FIRST_STANDARD = 23
"""The first opset with Attention."""


def can_be_standard(found: Attention) -> bool:
    """Whether Attention takes the keys and values and the scale, and makes 0 of the same rows: two
    masks that are the lowest float are -inf together, which is not seen where each is kept above
    it."""
    return found.whole and found.scale > 0 and not (found.guarded and len(found.biases) > 1)


def multi_head_attention(
    shared: Draft, draft: Draft, found: Attention, bias: AttentionBias
) -> None:
    """Write MultiHeadAttention; what layers share goes to ``shared``.

    Its kernel hides later keys by the lowest float: where a mask hides all others by -inf, a query
    would see those. Raises Unfit.
    """
    if found.causal and found.biases:
        raise Unfit("it is causal and masked, which MultiHeadAttention takes for another thing")
    added = bias.make(shared, found.biases, found.queries, found.keys)
    operands = [found.query, found.key, found.value]
    if added is not None:
        operands += [gs.Variable.empty(), gs.Variable.empty(), added]
    attributes = {"num_heads": found.heads} | _scale(found)
    if found.causal:
        attributes["unidirectional"] = 1
    draft.add("MultiHeadAttention", "Attend", operands, domain=MICROSOFT, **attributes)
    if _may_be_empty(found):
        _guard(draft)


def standard_attention(shared: Draft, draft: Draft, found: Attention, bias: AttentionBias) -> None:
    """Write Attention; an Attention of split heads keeps its mask as it is.

    Newer kernels make 0 of a row in which no score is above the lowest float. What was written out
    makes the mean of the values whose scores are that float: so all that is added is kept above it,
    but for -inf. Only where it made NaN, of scores that all are -inf, there is a number now; and
    a mask of whole numbers is taken to hold 0 and 1.
    """
    if found.anchor.op == "Attention":
        added = operand(found.anchor, 3)
    else:
        biases = [bias.above_lowest(shared, each) for each in found.biases]
        added = bias.make(shared, biases, found.queries, found.keys)
    operands = [found.query, found.key, found.value, *([] if added is None else [added])]
    attributes = {"q_num_heads": found.heads, "kv_num_heads": found.heads} | _scale(found)
    if found.causal:
        attributes["is_causal"] = 1
    draft.add("Attention", "Attend", operands, **attributes)
    if found.anchor.op != "Attention" and _may_be_empty(found):
        _guard(draft)


def _scale(found: Attention) -> dict[str, Any]:
    default = 1 / math.sqrt(found.head_size)
    usual = math.isclose(found.scale, default, rel_tol=1e-6)
    return {} if usual else {"scale": found.scale}


def _may_be_empty(found: Attention) -> bool:
    """Whether there may be queries that no key counts for, and they make 0."""
    return found.guarded and may_be_infinite(found.biases)


def _guard(draft: Draft) -> None:
    """0 for queries that no key counts for, of which softmax makes NaN."""
    (result,) = draft.nodes[-1].outputs
    nobody = draft.add("IsNaN", "Nobody", [result], dtype=np.bool_)
    zero = draft.constant("Zero", 0, np.float32)
    draft.add("Where", "Guard", [nobody, zero, result])
