"""The parts of an attention, found by what they compute."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.fuse.attention_bias import Length
from sardonyx.passes.fuse.layout import (
    FLAT,
    ROWS,
    SPLIT,
    TURNED,
    Layout,
    is_layout,
    parts_of,
    step_ahead,
    steps_back,
)
from sardonyx.passes.fuse.scores import Bias, Fill, Scores, find_scores
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import operand
from sardonyx.passes.origin import behind, maker, scalar
from sardonyx.passes.sizes import Dim, Size, Sizes

FIRST_WITH_LAST_AXIS = 13
"""The first opset in which a Softmax that names no axis is along the last."""


@dataclass(frozen=True)
class Attention:
    """``anchor``: its Softmax or Attention. ``inside``: nodes that must have no other reader, from
    the last to the first.

    ``query``: [B, S, N D]; ``key``, ``value``: [B, T, N D], or [B, N, T, D] of which keys of the
    past may be a part. ``merged``: the node that makes the result [B, S, N D], or ``rows``
    [B S, N D]. ``guarded``: where no key counts the result is 0.
    """

    anchor: gs.Node
    inside: tuple[gs.Node, ...]
    query: gs.Tensor
    key: gs.Tensor
    value: gs.Tensor
    heads: int
    head_size: int
    scale: float
    biases: tuple[Bias, ...]
    queries: Length
    keys: Length
    merged: gs.Node
    guarded: bool = False
    causal: bool = False
    rows: bool = False

    @property
    def whole(self) -> bool:
        """Whether keys and values have their heads in one axis."""
        return self.keys.axis == 1

    @property
    def reads(self) -> list[gs.Tensor]:
        """The tensors that the fused op is made from."""
        biases = [b.condition if isinstance(b, Fill) else b for b in self.biases]
        return [self.query, self.key, self.value, *biases]


@dataclass(frozen=True)
class _Heads:
    """Queries, keys or values: ``flat`` [B, T, N D] and ``split`` [B, N, T, D], where there are
    such; the number they were multiplied by on the way from there; sizes of the parts."""

    flat: gs.Tensor | None
    split: gs.Tensor | None
    flat_factor: float
    split_factor: float
    batch: Dim
    heads: int
    length: Dim
    size: int


def attention_of(sizes: Sizes, anchor: gs.Node, outputs: set[int]) -> Attention:
    """The attention around a Softmax or Attention; raises Unfit where there is none to be fused.

    ``outputs``: ids of the graph's outputs.
    """
    if anchor.op == "Attention":
        return _of_attention(sizes, anchor)
    scores = find_scores(sizes, anchor.inputs[0])
    axis = anchor.attrs.get("axis", -1 if sizes.graph.opset >= FIRST_WITH_LAST_AXIS else 1)
    if axis not in (-1, 3):
        raise Unfit(f"its Softmax is along axis {axis}, not along the keys")
    mix, guarded = _mix(anchor)
    query = _heads(sizes, scores.product.inputs[0], SPLIT)
    key = _heads(sizes, scores.product.inputs[1], TURNED)
    value = _heads(sizes, mix.inputs[1], SPLIT)
    found = _attention(sizes, anchor, query, key, value, outputs)
    _check_biases(sizes, scores, query, key)
    merged, rows = _merged(sizes, mix, query, value)
    return replace(
        found,
        inside=(mix, anchor, scores.product),
        scale=found.scale * scores.scale,
        biases=scores.biases,
        merged=merged,
        rows=rows,
        guarded=guarded,
    )


def _of_attention(sizes: Sizes, anchor: gs.Node) -> Attention:
    """The op of opset 23, with queries, keys and values split already."""
    _check_plain(anchor)
    query, key, value = (_heads(sizes, tensor, SPLIT) for tensor in anchor.inputs[:3])
    found = _attention(sizes, anchor, query, key, value, set())
    mask, biases = operand(anchor, 3), tuple[Bias, ...]()
    truths = mask is not None and mask.dtype == np.bool_
    if mask is not None:
        nothing = gs.Constant(f"{mask.name}/Masked", np.array(-np.inf, np.float32))
        biases = (Fill(mask, nothing, when=False) if truths else mask,)
    merged, rows = _merged(sizes, anchor, query, value)
    causal = bool(anchor.attrs.get("is_causal", 0))
    if causal and query.length != key.length:
        raise Unfit("it is causal, and its numbers of queries and keys may differ")
    return replace(
        found,
        scale=found.scale * anchor.attrs.get("scale", 1 / math.sqrt(query.size)),
        biases=biases,
        merged=merged,
        rows=rows,
        causal=causal,
        guarded=mask is not None,
    )


def _check_plain(anchor: gs.Node) -> None:
    if anchor.attrs.get("softcap", 0.0):
        raise Unfit("it caps its scores, which MultiHeadAttention does not")
    if any(operand(anchor, slot) is not None for slot in (4, 5, 6)):
        raise Unfit("it holds a past or padded keys of its own")
    if any(not t.is_empty() for t in anchor.outputs[1:]):
        raise Unfit("it returns more than its result")


def _attention(
    sizes: Sizes,
    anchor: gs.Node,
    query: _Heads,
    key: _Heads,
    value: _Heads,
    outputs: set[int],
) -> Attention:
    """Query, key and value in the form that MultiHeadAttention takes."""
    if query.flat is None:
        raise Unfit("its queries were never [batch, length, heads x size]")
    if not query.heads == key.heads == value.heads or query.size != key.size:
        raise Unfit(
            f"its queries are {query.heads} heads of {query.size}, its keys {key.heads} of "
            f"{key.size}, its values {value.heads}"
        )
    if not _agree(query.batch, key.batch) or not _agree(query.batch, value.batch):
        raise Unfit(
            f"its queries are a batch of {query.batch}, its keys of {key.batch}, its values of "
            f"{value.batch}"
        )
    flat = key.flat is not None and value.flat is not None
    split = key.split is not None and value.split is not None and value.size == key.size
    if split and (not flat or any(id(t) in outputs for t in (key.split, value.split))):
        k, v, factors, axis = key.split, value.split, (key.split_factor, value.split_factor), 2
    elif flat:
        k, v, factors, axis = key.flat, value.flat, (key.flat_factor, value.flat_factor), 1
    else:
        raise Unfit("its keys and values have different forms")
    if factors[1] != 1.0:
        raise Unfit("its values are multiplied by a number")
    return Attention(
        anchor,
        (anchor,),
        query.flat,
        k,
        v,
        query.heads,
        query.size,
        query.flat_factor * factors[0],
        (),
        Length(query.length, query.flat, 1),
        Length(key.length, k, axis),
        anchor,
    )


def _agree(a: Dim, b: Dim) -> bool:
    """Whether two sizes are equal, or may be: one batch is broadcast to another where it is 1, and
    then exporters write the number."""
    return a == b or (isinstance(a, Size) and isinstance(b, Size))


def _check_biases(sizes: Sizes, scores: Scores, query: _Heads, key: _Heads) -> None:
    """Refuse biases that make scores larger; MultiHeadAttention broadcasts the other way only."""
    known = (query.batch, query.heads, query.length, key.length)
    for bias in scores.biases:
        tensor = bias.condition if isinstance(bias, Fill) else bias
        shape = sizes.shape(tensor)
        if shape is None or len(shape) > len(known):
            raise Unfit(f"'{tensor.name}', added to its scores, is not known to have their axes")
        for dim, wanted in zip(shape[::-1], known[::-1], strict=False):
            if dim not in (1, wanted) and (isinstance(dim, int) or wanted == 1):
                raise Unfit(f"'{tensor.name}', added to its scores, has {dim} for {wanted}")


def _heads(sizes: Sizes, tensor: gs.Tensor, layout: Layout) -> _Heads:
    """Where split (or split and turned) values come from."""
    shape = sizes.shape(tensor)
    if shape is None or len(shape) != 4:
        raise Unfit(f"'{tensor.name}' is not known to have four axes")
    parts = parts_of(layout, shape)
    heads, size = parts["heads"], parts["size"]
    if not isinstance(heads, int) or not isinstance(size, int):
        raise Unfit(f"'{tensor.name}' has no fixed number or size of heads")
    if tensor.dtype is not None and tensor.dtype != np.float32:
        raise Unfit(f"'{tensor.name}' is {np.dtype(tensor.dtype)}; the kernel takes float32 only")
    steps = list(steps_back(sizes, tensor, layout, parts))
    flat = next((s for s in reversed(steps) if is_layout(s.layout, FLAT, parts)), None)
    split = next((s for s in reversed(steps) if is_layout(s.layout, SPLIT, parts)), None)
    return _Heads(
        flat.tensor if flat else None,
        split.tensor if split else None,
        flat.factor if flat else 1.0,
        split.factor if split else 1.0,
        parts["batch"],
        heads,
        parts["length"],
        size,
    )


def _mix(softmax: gs.Node) -> tuple[gs.Node, bool]:
    """The product of probabilities and values; whether NaN is made 0 before it."""
    tensor, guarded = _passed_on(softmax.outputs[0]), False
    readers = {reader.op: reader for reader in tensor.outputs}
    guard = readers.get("Where")
    if set(readers) == {"IsNaN", "Where"} and guard is not None:
        condition, zero, kept = guard.inputs
        if maker(condition) is readers["IsNaN"] and scalar(zero) == 0.0 and kept is tensor:
            tensor, guarded = _passed_on(guard.outputs[0]), True
    mixes = [node for node in tensor.outputs if node.op == "MatMul"]
    if len(mixes) != 1 or mixes[0].inputs[0] is not tensor:
        raise Unfit(f"'{tensor.name}', its probabilities, are not multiplied by values alone")
    return mixes[0], guarded


def _passed_on(tensor: gs.Tensor) -> gs.Tensor:
    """The tensor behind Identity and Casts to its own type."""
    while len(tensor.outputs) == 1 and behind(tensor.outputs[0].outputs[0])[1]:
        tensor = tensor.outputs[0].outputs[0]
    return tensor


def _merged(sizes: Sizes, mix: gs.Node, query: _Heads, value: _Heads) -> tuple[gs.Node, bool]:
    """The node behind the mixed values [B, N, S, D] that makes [B, S, N D] of them, or rows
    [B S, N D]; whether it is rows."""
    parts = {
        "batch": query.batch,
        "heads": query.heads,
        "length": query.length,
        "size": value.size,
    }
    node, layout = mix, SPLIT
    while not any(is_layout(layout, end, parts) for end in (FLAT, ROWS)):
        steps = [(r, step_ahead(sizes, r, layout, parts)) for r in node.outputs[0].outputs]
        known = [(reader, step) for reader, step in steps if step is not None]
        if len(known) != 1:
            raise Unfit(f"'{node.outputs[0].name}' is not merged to [batch, length, heads x size]")
        node, layout = known[0]
    return node, len(layout) == 2
