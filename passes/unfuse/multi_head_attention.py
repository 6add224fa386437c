"""unfuse-multi-head-attention: onnxruntime's attention becomes products and a Softmax."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fused import float_type, operand, rank, result, separable
from sardonyx.passes.journal import Journal
from sardonyx.passes.rewrite import Draft, replace_nodes
from sardonyx.passes.weights import values_of

_PARTS = ("query", "key", "value")


@dataclass(frozen=True)
class UnfuseMultiHeadAttention(Pass):
    """``MultiHeadAttention(query, key, value, bias, mask, attention_bias, past_key, past_value)``
    ->  ``Softmax(scale q k^T + (penalty + attention_bias)) v``, its heads side by side again.

    q, k and v are query, key and value [batch, length, hidden] with their part of the bias added,
    split into heads [batch, heads, length, size]; key and value may come split, and have no bias
    then. Past keys and values stand before new ones; all of them are the presents, if read. The
    penalty is ``mask_filter_value`` where the mask (lengths, or above 0 where a key counts) leaves
    a key out; where ``unidirectional``, it is the lowest number for keys behind the query's place,
    except for the last query, which sees all, as in onnxruntime's kernel. No size of the batch or
    of a sequence is held fast. Does not fire where

    1. query, key and value are packed in one or two tensors,
    2. the past is kept in a buffer, or is given and not both presents are outputs,
    3. the scores are an output,
    4. the type or the width of query, key or value is not known,
    5. the mask is of rank 1 and perhaps more than the lengths, or of unknown rank,
    6. the bias is no vector.
    """

    name: ClassVar[str] = "unfuse-multi-head-attention"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 2e-3
    """Sums of a product may round differently, and Softmax passes that on; most where a mask leaves
    a query no key: its scores are all near -10000, rounded to 1e-3, as their shares are then."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Take every MultiHeadAttention apart that the cases allow."""
        fused = separable(graph, "MultiHeadAttention")
        replace_nodes(graph, {id(node): _unfused(node) for node in fused})
        return len(fused)


def _unfused(node: gs.Node) -> list[gs.Node]:
    heads = node.attrs["num_heads"]
    draft = Draft.of(node, float_type(node))
    query, key, value = _operands(draft, node)
    size = node.inputs[0].shape[2] // heads
    turned = draft.add("Transpose", "key_turned", [key], perm=[0, 1, 3, 2])
    scores = draft.add("MatMul", "scores", [query, turned])
    scale = draft.scalar("scale", node.attrs.get("scale") or 1 / math.sqrt(size))
    scores = draft.add("Mul", "scaled", [scores, scale])
    shift = _shift(draft, node, key)
    if shift is not None:
        scores = draft.add("Add", "shifted", [scores, shift])
    shares = draft.add("Softmax", "shares", [scores], axis=-1)
    context = draft.add("MatMul", "context", [shares, value])
    merged = draft.add("Transpose", "context_merged", [context], perm=[0, 2, 1, 3])
    width = size * heads if rank(node.inputs[2]) == 4 else node.inputs[2].shape[2]
    sizes = draft.constant("output/sizes", [0, 0, width], np.int64)
    draft.add("Reshape", "output", [merged, sizes])
    return draft.take_place(node, UnfuseMultiHeadAttention.name)


def _operands(draft: Draft, node: gs.Node) -> list[gs.Tensor]:
    """Query, key and value [batch, heads, length, size], the past included."""
    operands = []
    for slot, part in enumerate(_PARTS):
        tensor = node.inputs[slot]
        if rank(tensor) == 3:
            tensor = _split(draft, part, tensor, _bias(draft, node, slot), node.attrs["num_heads"])
        past = operand(node, slot + 5) if slot else None
        if past is not None:
            tensor = draft.add("Concat", f"{part}_all", [past, tensor], axis=2)
        present = result(node, slot) if slot else None
        if present is not None:
            tensor = _give(draft, part, tensor, present)
        operands.append(tensor)
    return operands


def _give(draft: Draft, part: str, tensor: gs.Tensor, present: gs.Tensor) -> gs.Tensor:
    """Let ``present`` be the name of keys or values; a copy of those that came as they are."""
    if tensor is not draft.nodes[-1].outputs[0]:
        draft.add("Identity", f"{part}_present", [tensor])
    draft.nodes[-1].outputs[0] = present
    present.dtype = draft.dtype
    return present


def _bias(draft: Draft, node: gs.Node, slot: int) -> gs.Tensor | None:
    """The part of the bias that is added to query, key or value."""
    bias, part, width = operand(node, 3), _PARTS[slot], node.inputs[0].shape[2]
    if bias is None:
        return None
    start, end = slot * width, slot * width + node.inputs[slot].shape[2]
    if isinstance(bias, gs.Constant):
        return gs.Constant(f"{bias.name}.{part}", values_of(bias)[start:end])
    limits = [
        draft.constant(f"{part}_bias/{name}", [limit], np.int64)
        for name, limit in (("start", start), ("end", end))
    ]
    return draft.add("Slice", f"{part}_bias", [bias, *limits])


def _split(
    draft: Draft, part: str, tensor: gs.Tensor, bias: gs.Tensor | None, heads: int
) -> gs.Variable:
    """[batch, length, hidden]  ->  [batch, heads, length, size]."""
    width = tensor.shape[2]
    if bias is not None:
        tensor = draft.add("Add", f"{part}_biased", [tensor, bias])
    sizes = draft.constant(f"{part}/sizes", [0, 0, heads, width // heads], np.int64)
    split = draft.add("Reshape", f"{part}_split", [tensor, sizes])
    return draft.add("Transpose", part, [split], perm=[0, 2, 1, 3])


def _shift(draft: Draft, node: gs.Node, keys: gs.Tensor) -> gs.Tensor | None:
    """All that is added to the scores, summed up first, as in onnxruntime's kernel."""
    penalty, bias = _penalty(draft, node, keys), operand(node, 5)
    if penalty is None or bias is None:
        return bias if penalty is None else penalty
    return draft.add("Add", "shift", [penalty, bias])


def _penalty(draft: Draft, node: gs.Node, keys: gs.Tensor) -> gs.Tensor | None:
    """What is added as far as keys do not count, [batch, 1, queries or 1, keys] or
    [queries, keys]."""
    mask, penalty = operand(node, 4), None
    if mask is not None:
        counts = _counts(draft, mask, keys)
        value = draft.scalar("mask/filter", node.attrs.get("mask_filter_value", -10000.0))
        penalty = draft.add("Where", "mask", [counts, draft.scalar("mask/none", 0), value])
    if node.attrs.get("unidirectional", 0):
        lowest = draft.scalar("later/lowest", -np.inf)
        kept = draft.scalar("later/none", 0) if penalty is None else penalty
        later = _later(draft, node.inputs[0], keys, operand(node, 6))
        penalty = draft.add("Where", "penalty", [later, lowest, kept])
    return penalty


def _counts(draft: Draft, mask: gs.Tensor, keys: gs.Tensor) -> gs.Variable:
    """Which keys the mask lets count, [batch, 1, queries or 1, keys]."""
    missing = {1: [1, 2, 3], 2: [1, 2], 3: [1]}[len(mask.shape)]
    axes = draft.constant("mask/axes", missing, np.int64)
    held = draft.add("Unsqueeze", "mask_held", [mask, axes], dtype=mask.dtype or np.int32)
    if len(mask.shape) > 1:
        none = draft.constant("mask/zero", 0, held.dtype)
        return draft.add("Greater", "counts", [held, none], dtype=np.bool_)
    places = _range(draft, "mask/places", _size(draft, "mask/keys", keys, 2))
    lengths = draft.cast("mask_lengths", held, np.int64)
    return draft.add("Less", "counts", [places, lengths], dtype=np.bool_)


def _later(draft: Draft, query: gs.Tensor, keys: gs.Tensor, past: gs.Tensor | None) -> gs.Variable:
    """Which keys stand behind a query's place, [queries, keys]; none for the last query."""
    queries = _size(draft, "queries", query, 1)
    places = _range(draft, "keys/places", _size(draft, "keys", keys, 2))
    axes = draft.constant("queries/axes", [1], np.int64)
    column = [_range(draft, "queries/places", queries), axes]
    place = draft.add("Unsqueeze", "queries/column", column, dtype=np.int64)
    one = draft.constant("queries/one", 1, np.int64)
    last = draft.add("Sub", "queries/last", [queries, one], dtype=np.int64)
    early = draft.add("Less", "queries/not_last", [place, last], dtype=np.bool_)
    if past is not None:
        place = draft.add(
            "Add", "queries/behind_past", [place, _size(draft, "past", past, 2)], dtype=np.int64
        )
    behind = draft.add("Greater", "behind", [places, place], dtype=np.bool_)
    return draft.add("And", "later", [behind, early], dtype=np.bool_)


def _size(draft: Draft, part: str, tensor: gs.Tensor, axis: int) -> gs.Variable:
    """How long a tensor is along an axis, as a scalar."""
    shape = draft.add("Shape", f"{part}/shape", [tensor], dtype=np.int64)
    index = draft.constant(f"{part}/axis", axis, np.int64)
    return draft.add("Gather", f"{part}/size", [shape, index], dtype=np.int64)


def _range(draft: Draft, part: str, end: gs.Tensor) -> gs.Variable:
    """0, 1, ..., end - 1."""
    start, step = (draft.constant(f"{part}/{n}", n, np.int64) for n in (0, 1))
    return draft.add("Range", part, [start, end, step], dtype=np.int64)
