"""What a model wants to be fed, and whether arrays are that."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from sardonyx.compiler.load import Source, overridable
from sardonyx.compiler.operands import operands
from sardonyx.compiler.region import record_scopes
from sardonyx.runtime_ops.errors import InputError

_PASSED_ON = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Ops behind which there are the same numbers."""


@dataclass(frozen=True)
class ModelInput:
    """An input that must be fed.

    ``dims``: sizes; names of those that may vary, None for one without a name; None as a whole
    where not even the rank is known. ``rows``: of the table that its integers are looked up in.
    """

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int | str | None, ...] | None
    rows: int | None = None

    @property
    def batch(self) -> int | str | None:
        """The first of ``dims``."""
        return self.dims[0] if self.dims else None

    def check_type(self, dtype: np.dtype[Any], shape: tuple[int, ...], place: str) -> None:
        """InputError unless an array of ``place``, of any batch, is of the input's type."""
        if dtype != self.dtype:
            raise InputError(
                f"{place}: '{self.name}' is {dtype}, the model wants {self.dtype}: convert it"
            )
        if self.dims is None:
            return
        fixed = [
            not isinstance(dim, int) or dim == size
            for dim, size in zip(self.dims[1:], shape[1:], strict=False)
        ]
        if len(shape) != len(self.dims) or not all(fixed):
            raise InputError(
                f"{place}: '{self.name}' has shape {list(shape)}, the model wants {self.wanted}"
            )

    def check_values(self, array: NDArray[np.generic], label: str, hint: str) -> None:
        """InputError if the array holds what is no row of the table that it is looked up in, or
        nothing to look up."""
        if self.rows is None:
            return
        if not array.size:
            raise InputError(f"{label}: '{self.name}' is empty, of shape {list(array.shape)}")
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= self.rows:
            raise InputError(
                f"{label}: '{self.name}' holds {low if low < 0 else high}, and the model looks it "
                f"up in a table of {self.rows} rows: {hint}"
            )

    @property
    def wanted(self) -> str:
        """The shape, as people write it."""
        return f"[{', '.join(str(dim or '?') for dim in self.dims or ())}]"


def model_inputs(source: Source, graph: gs.Graph) -> tuple[ModelInput, ...]:
    """The inputs of a model that have no default; ``graph`` tells what they are looked up in."""
    free = overridable(source.model.graph)
    rows = dict(_rows(graph))
    values = [value for value in source.model.graph.input if value.name not in free]
    return tuple(_input(value, rows.get(value.name)) for value in values)


def _input(value: onnx.ValueInfoProto, rows: int | None) -> ModelInput:
    kind = value.type.tensor_type
    if not kind.elem_type:
        raise InputError(f"input '{value.name}' of the model is no tensor: there is no data for it")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if not kind.HasField("shape"):
        return ModelInput(value.name, dtype, None, rows)
    sizes = (d.dim_value if d.HasField("dim_value") else d.dim_param for d in kind.shape.dim)
    return ModelInput(value.name, dtype, tuple(size or None for size in sizes), rows)


def _rows(graph: gs.Graph) -> Iterator[tuple[str, int]]:
    """For each input that is looked up in a table, the rows of the (first) table."""
    known = operands(record for scope in record_scopes(graph) for record in scope.records)
    for value in graph.inputs:
        pending = [value]
        while pending:
            tensor = pending.pop(0)
            limit = known[tensor.name].limit if tensor.name in known else None
            if limit:
                yield value.name, limit
                break
            readers = [n for n in tensor.outputs if n.op in _PASSED_ON and n.inputs[0] is tensor]
            pending += [node.outputs[0] for node in readers]


def batched(
    inputs: Iterable[ModelInput], shapes: dict[str, tuple[int, ...]], place: str
) -> tuple[int, set[str]]:
    """How many samples arrays hold, and the names of those whose first axis counts them.

    An input with a fixed first size of its own (a flag, one mask for all) may be given once; no
    other may. Raises InputError where the others disagree.
    """
    ranked = [one for one in inputs if shapes[one.name]]
    leading = [one for one in ranked if not isinstance(one.batch, int)]
    leading = leading or [one for one in ranked if one.batch == ranked[0].batch]
    if not leading:
        return 1, set()
    count = shapes[leading[0].name][0]
    names = {one.name for one in leading}
    for one in ranked:
        size = shapes[one.name][0]
        if size == count:
            names.add(one.name)
        elif one.name in names or size != one.batch:
            raise InputError(
                f"{place}: '{one.name}' holds {size} samples and '{leading[0].name}' {count}"
            )
    return count, names
