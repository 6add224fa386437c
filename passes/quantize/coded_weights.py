"""Weights as integers: encoded on all cores, and the constants that products and lookups read."""

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from sardonyx.passes.candidates import unsound
from sardonyx.passes.journal import Journal
from sardonyx.passes.quantize.product_error import row_sqnr_db
from sardonyx.passes.quantize.weight_range import WeightRange, reach
from sardonyx.passes.rewrite import Draft
from sardonyx.passes.tied import TiedWeight
from sardonyx.runtime_ops.coded import Floats
from sardonyx.runtime_ops.uniform import Per, UniformTensor, encode, sqnr_db

Sharing = Literal[Per, "best"]
"""What shares a scale; ``best``: all of a matrix where that leaves it `GOOD_DB`, else a column."""

Chosen = tuple[int, Sharing, WeightRange]
"""Bits, what shares a scale, and which weights one for a whole matrix reaches."""

GOOD_DB = 20.0
"""The mean row of word embeddings comes out with that, and outputs as with a scale for each row;
looking scales up takes three more nodes."""


@dataclass
class CodedWeight:
    """The constants of an encoded weight, made once for all that read it.

    A table that rows are looked up in is stored as such, [V, H]: products read it turned.
    ``sqnr_db``: of the encoded weight; ``lender``: whose scale it reads too, as the rows of one
    matrix do; ``notes``: for each node that multiplies or looks up.
    """

    weight: TiedWeight
    tensor: UniformTensor
    sqnr_db: float
    lender: "CodedWeight | None" = None
    notes: dict[str, object] = field(default_factory=dict)
    codes: gs.Constant = field(init=False)
    scale: gs.Constant = field(init=False)

    def __post_init__(self) -> None:
        codes = self.tensor.codes.T if self.weight.gathered else self.tensor.codes
        self.codes = self._constant("codes", np.ascontiguousarray(codes))
        own = self._constant("scale", self.tensor.scale)
        self.scale = self.lender.scale if self.lender else own

    def matrix(self, draft: Draft) -> gs.Tensor:
        """The codes [K, N]."""
        if not self.weight.gathered:
            return self.codes
        return draft.add("Transpose", "Codes", [self.codes], dtype=self.codes.dtype, perm=[1, 0])

    def _constant(self, part: str, values: NDArray[np.generic]) -> gs.Constant:
        return gs.Constant(f"{self.weight.name}.{part}", values)


def coded_weights(
    weights: list[TiedWeight], choose: Callable[[TiedWeight], Chosen], journal: Journal
) -> list[CodedWeight]:
    """All weights encoded as ``choose`` says; slices of one matrix as parts of it, so that their
    codes and scales are those that it has whole."""

    def coded(slices: list[TiedWeight]) -> list[CodedWeight]:
        first = slices[0]
        matrices, axis = [each.view.matrix() for each in slices], _axis(first)
        whole = np.concatenate(matrices, axis) if len(slices) > 1 else matrices[0]
        try:
            tensor, db = _encoded(whole, *choose(first))
        except ValueError as error:
            raise unsound(first, error) from error
        if len(slices) == 1:
            return [CodedWeight(first, tensor, db)]
        parts = list(_cut(tensor, [matrix.shape[axis] for matrix in matrices], axis))
        losses = [sqnr_db(m, part.decode()) for m, part in zip(matrices, parts, strict=True)]
        made = [CodedWeight(first, parts[0], losses[0])]
        for each, part, loss in list(zip(slices, parts, losses, strict=True))[1:]:
            lender = made[0] if part.scale is parts[0].scale else None
            made.append(CodedWeight(each, part, loss, lender))
        return made

    done: dict[int, CodedWeight] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for made in pool.map(coded, _wholes(weights, choose)):
            done |= {id(each.weight): each for each in made}
            journal.progress("Encoding weights", len(done), len(weights))
    return [done[id(weight)] for weight in weights]


def _encoded(
    matrix: Floats, bits: int, per: Sharing, by: WeightRange
) -> tuple[UniformTensor, float]:
    if per == "channel":
        return encode(matrix, bits, per)
    tensor, db = encode(matrix, bits, "tensor", reach=reach(matrix, bits, by))
    if per == "best" and row_sqnr_db(matrix.T, tensor.decode().T) < GOOD_DB:
        return encode(matrix, bits, "channel")
    return tensor, db


def _wholes(
    weights: list[TiedWeight], choose: Callable[[TiedWeight], Chosen]
) -> list[list[TiedWeight]]:
    """Weights, those that are slices of one matrix together, in their order."""
    wholes: dict[Hashable, list[TiedWeight]] = defaultdict(list)
    for weight in weights:
        part = weight.slice
        fitting = weight.view.shape[1 - _axis(weight)], weight.view.dtype, choose(weight)
        wholes[(part.of, part.axis, *fitting) if part else id(weight)].append(weight)
    return [
        sorted(whole, key=lambda weight: weight.slice.start if weight.slice else 0)
        for whole in wholes.values()
    ]


def _axis(weight: TiedWeight) -> int:
    """The axis that a slice is a part of."""
    return 1 if weight.slice and weight.slice.axis == "columns" else 0


def _cut(tensor: UniformTensor, lengths: list[int], axis: int) -> Iterator[UniformTensor]:
    """An encoded matrix in slices."""
    for start, end in pairwise(accumulate(lengths, initial=0)):
        if axis == 0:
            yield replace(tensor, codes=tensor.codes[start:end])
        else:
            scale = tensor.scale[start:end] if tensor.scale.ndim else tensor.scale
            yield replace(tensor, codes=tensor.codes[:, start:end], scale=scale)
