"""Weights as integers: encoded on all cores, and the constants that products and lookups read."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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
from sardonyx.runtime_ops.uniform import Per, UniformTensor, encode

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
    ``sqnr_db``: of the encoded weight; ``notes``: for each node that multiplies or looks up.
    """

    weight: TiedWeight
    tensor: UniformTensor
    sqnr_db: float
    notes: dict[str, object] = field(default_factory=dict)
    codes: gs.Constant = field(init=False)
    scale: gs.Constant = field(init=False)

    def __post_init__(self) -> None:
        codes = self.tensor.codes.T if self.weight.gathered else self.tensor.codes
        self.codes = self._constant("codes", np.ascontiguousarray(codes))
        self.scale = self._constant("scale", self.tensor.scale)

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
    """All weights encoded as ``choose`` says."""

    def coded(weight: TiedWeight) -> CodedWeight:
        (bits, per, by), matrix = choose(weight), weight.view.matrix()
        try:
            if per == "channel":
                return CodedWeight(weight, *encode(matrix, bits, per))
            tensor, db = encode(matrix, bits, "tensor", reach=reach(matrix, bits, by))
            if per == "best" and row_sqnr_db(matrix.T, tensor.decode().T) < GOOD_DB:
                tensor, db = encode(matrix, bits, "channel")
            return CodedWeight(weight, tensor, db)
        except ValueError as error:
            raise unsound(weight, error) from error

    done = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for each in pool.map(coded, weights):
            done.append(each)
            journal.progress("Encoding weights", len(done), len(weights))
    return done
