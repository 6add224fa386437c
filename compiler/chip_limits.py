"""Whether a model has as many positions as a sequence is to have tokens."""

from itertools import zip_longest

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.compiler.chip_values import ChipValues
from sardonyx.passes.fused import is_standard
from sardonyx.passes.weights import values_of
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.ops import DOMAIN

_PASSED_ON = ("Cast", "Expand", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Ops behind which there are the same numbers."""


def check_positions(values: ChipValues, sequence: int | None) -> None:
    """Raises InputError where a table of positions has not as many rows as are looked up in it, or
    as are added to the tokens."""
    for node in values.graph.nodes:
        if is_standard(node) and node.op == "Add":
            _check_sum(values, node, sequence)
        ids = _ids(node)
        last = None if ids is None else _last(values, ids)
        if last is not None and last >= _rows(values, node):
            raise _beyond(sequence, _rows(values, node), node)


def _check_sum(values: ChipValues, node: gs.Node, sequence: int | None) -> None:
    """Positions that were cut out of a constant are as many as that has."""
    shapes = [values.sizes.sizes.shape(tensor) or () for tensor in node.inputs]
    for pair in zip_longest(*(shape[::-1] for shape in shapes), fillvalue=1):
        sizes = [size for size in pair if isinstance(size, int) and size != 1]
        if len(set(sizes)) > 1:
            raise _beyond(sequence, min(sizes), node)


def _beyond(sequence: int | None, rows: int, node: gs.Node) -> InputError:
    return InputError(
        f"a sequence of {sequence} is beyond the model's positions: '{node.name}' has {rows} rows "
        "for them"
    )


def _ids(node: gs.Node) -> gs.Tensor | None:
    """What a node looks up in rows."""
    if node.domain == DOMAIN:
        return node.inputs[0] if node.op.startswith("GoboGather") else None
    gathers = is_standard(node) and node.op == "Gather" and not node.attrs.get("axis", 0)
    return node.inputs[1] if gathers else None


def _rows(values: ChipValues, node: gs.Node) -> int:
    if node.domain == DOMAIN:
        return int(node.attrs["shape"][1])
    return values.sizes.shape(node.inputs[0])[0]


def _last(values: ChipValues, ids: gs.Tensor) -> int | None:
    """The highest of row numbers that count tokens; None where they are anything else."""
    node = ids.inputs[0] if ids.inputs else None
    if node is None:
        return None
    if node.op == "Range":
        return values.sizes.elements(ids) - 1
    if node.op == "CumSum":  # of a mask
        return max(values.sizes.shape(ids)[1:], default=None)
    if node.op not in ("Add", "Mul", *_PASSED_ON):
        return None
    counted = [last for t in node.inputs if (last := _last(values, t)) is not None]
    offset = sum(filter(None, map(_lone, node.inputs))) if node.op == "Add" else 0
    return min(counted) + offset if counted else None


def _lone(tensor: gs.Tensor) -> int | None:
    """The number in a constant of one element."""
    if not isinstance(tensor, gs.Constant) or int(np.prod(tensor.shape)) != 1:
        return None
    return int(values_of(tensor).reshape(-1)[0])
