"""The weights that a quantizing pass may encode; why all others stay; what is noted on each."""

from collections import Counter

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.journal import Encoded, Journal, Skip
from sardonyx.passes.roles import Place
from sardonyx.passes.scopes import scopes
from sardonyx.passes.tied import TiedWeight, tied_weights
from sardonyx.passes.weights import WeightUse, other_constants, weight_count
from sardonyx.runtime_ops.coded import CodedTensor
from sardonyx.runtime_ops.errors import InputError


def candidates(
    graph: gs.Graph, uses: list[WeightUse], min_weights: int, journal: Journal
) -> list[TiedWeight]:
    """The weights among ``uses`` that can be encoded; the journal says why others cannot. Slices of
    a matrix are small where the matrix is."""
    journal.weights += weight_count(uses)
    outputs = [out for scope in scopes(graph) for out in scope.outputs]
    found, weights, sizes = [], tied_weights(uses), Counter[str]()
    for weight in weights:
        sizes[_whole(weight)] += weight.size
    for weight in weights:
        skip = _skip(weight, outputs, sizes[_whole(weight)], min_weights)
        if skip is None:
            found.append(weight)
        else:
            journal.skipped.append(skip)
    others = other_constants(graph, uses)
    journal.skipped += [Skip(*other, eligible=False) for other in others]
    return found


def _whole(weight: TiedWeight) -> str:
    """Name of the matrix that a weight is, or is a slice of."""
    return weight.slice.of if weight.slice else weight.name


def _skip(
    weight: TiedWeight, outputs: list[gs.Tensor], whole: int, min_weights: int
) -> Skip | None:
    misfit = next((use.misfit for use in weight.uses if use.misfit), "")
    if misfit:
        return weight.skip(misfit, eligible=True)
    reader = weight.other_reader(outputs)
    if reader:
        return weight.skip(f"also read by {reader}", eligible=True)
    if whole < min_weights:
        reason = f"small: {whole} weights, fewer than {min_weights}"
        return weight.skip(reason, eligible=False)
    return None


def entry_of(
    weight: TiedWeight,
    place: Place,
    tensor: CodedTensor,
    sqnr_db: float,
    compute: str,
    shared: int = 0,
) -> Encoded:
    """The record of an encoded weight. ``shared``: bytes of it that another's record counts."""
    return Encoded(
        name=weight.name,
        nodes=tuple(use.node.name for use in weight.uses),
        op=weight.uses[0].node.op,
        place=place,
        views=weight.views,
        tensor=tensor,
        format=tensor.format,
        sqnr_db=sqnr_db,
        bytes_before=weight.nbytes,
        bytes_after=tensor.nbytes - shared,
        compute=compute,
        slice_of=weight.slice.of if weight.slice else "",
    )


def unsound(weight: TiedWeight, error: ValueError) -> InputError:
    """What to raise where a codec refuses the values of a weight."""
    node = weight.uses[0].node
    return InputError(
        f"weight '{weight.name}' of {node.op} '{node.name}' {error}; "
        "such values cannot be encoded: repair the model first"
    )


def notes(by: str, entry: Encoded) -> dict[str, object]:
    """What Netron shows on a node whose weight the pass ``by`` encoded."""
    share = entry.tensor.outliers / np.prod(entry.views[0].shape)
    layer = entry.place.layer
    constants = [view.constant for view in entry.views]
    kinds = [f"{np.dtype(constant.dtype)} {list(constant.shape)}" for constant in constants]
    tied = [f"{c.name}: {kind}" for c, kind in zip(constants, kinds, strict=True)][1:]
    optional = {
        "compute": entry.compute if entry.compute != "fp32" else "",
        "tied": "\n".join(tied),
    }
    return {
        "pass": by,
        "weight": entry.name,
        "original": kinds[0],
        "role": entry.place.role if layer is None else f"{entry.place.role}, layer {layer}",
        "format": entry.format,
        "bits": entry.format.bits,
        "outlier_share": f"{share:.4%}",
        "sqnr_db": f"{entry.sqnr_db:.2f}",
        "bytes": f"{entry.bytes_before} -> {entry.bytes_after}",
    } | {key: note for key, note in optional.items() if note}
