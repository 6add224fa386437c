"""unfuse-embed-layer-norm: tables inside onnxruntime's EmbedLayerNormalization become Gathers."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fused import MICROSOFT, operand, separable
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import annotate, inherit
from sardonyx.passes.rewrite import Draft, Replacements, replace_nodes, take_outputs


@dataclass(frozen=True)
class UnfuseEmbedLayerNorm(Pass):
    """``EmbedLayerNormalization(ids, segments, words, positions, kinds, gamma, beta, mask,
    places)``  ->  ``SkipLayerNormalization(words[ids] + positions[places], kinds[segments],
    gamma, beta)``.

    Both are contrib ops of onnxruntime. Where ``places`` are left out they are 0, 1, 2, ...; where
    segments are left out, so are they in the sum; a mask index that somebody reads is counted from
    the mask. Does not fire

    1. where a table is no constant matrix.
    """

    name: ClassVar[str] = "unfuse-embed-layer-norm"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-5
    """The three embeddings may be added in another order."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Take apart every one that the case allows."""
        fused = separable(graph, "EmbedLayerNormalization")
        replacements: Replacements = {id(node): _unfused(node) for node in fused}
        replace_nodes(graph, replacements)
        return len(fused)


def _unfused(node: gs.Node) -> list[gs.Node]:
    ids, segments, words, positions, kinds, gamma, beta, mask, places = (
        operand(node, slot) for slot in range(9)
    )
    draft = Draft.of(node, node.inputs[2].dtype)
    total = draft.add("Gather", "words", [words, ids])
    skip = draft.add("Gather", "positions", [positions, places or _places(draft, node.inputs[0])])
    if kinds is not None:
        total = draft.add("Add", "sum", [total, skip])
        skip = draft.add("Gather", "segments", [kinds, segments])
    output, *others = take_outputs(node)
    index, embedding_sum = (*others, *[gs.Variable.empty()] * 2)[:2]
    if not index.is_empty():
        _count(draft, mask, ids, index)
    attrs = {"epsilon": node.attrs["epsilon"]} if "epsilon" in node.attrs else {}
    operands = [total, skip, gamma, beta]
    draft.add("SkipLayerNormalization", "Normalize", operands, domain=MICROSOFT, **attrs)
    normalize = draft.nodes[-1]
    normalize.outputs[0] = output
    if not embedding_sum.is_empty():
        normalize.outputs += [gs.Variable.empty(), gs.Variable.empty(), embedding_sum]
    inherit(normalize, node)
    annotate(normalize, **{"pass": UnfuseEmbedLayerNorm.name})
    return draft.nodes


def _places(draft: Draft, ids: gs.Tensor) -> gs.Variable:
    """[[0, 1, ..., sequence - 1]] for ids [batch, sequence]."""
    shape = draft.add("Shape", "shape", [ids], dtype=np.int64)
    zero, one = (draft.constant(name, i, np.int64) for i, name in enumerate(("zero", "one")))
    length = draft.add("Gather", "length", [shape, one], dtype=np.int64)
    row = draft.add("Range", "row", [zero, length, one], dtype=np.int64)
    axes = draft.constant("row/axes", [0], np.int64)
    return draft.add("Unsqueeze", "places", [row, axes], dtype=np.int64)


def _count(draft: Draft, mask: gs.Tensor | None, ids: gs.Tensor, index: gs.Tensor) -> None:
    """The mask index: of each sequence, how many places of the mask hold 1; 0 without a mask."""
    integer = onnx.TensorProto.INT32
    read = mask or draft.add("Sub", "no_mask", [ids, ids], dtype=ids.dtype)
    held = draft.add("Cast", "mask", [read], dtype=np.int32, to=integer)
    one = draft.constant("is_one/one", 1, np.int32)
    hits = draft.add("Equal", "is_one", [held, one], dtype=np.bool_)
    counts = draft.add("Cast", "hits", [hits], dtype=np.int32, to=integer)
    axes = draft.constant("mask_index/axes", [1], np.int64)
    draft.add("ReduceSum", "mask_index", [counts, axes], keepdims=0)
    draft.nodes[-1].outputs[0] = index
