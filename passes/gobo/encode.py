"""gobo: replace the weights of MatMul, Gemm and Gather by GOBO-encoded ones (arXiv 2005.03842)."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from pydantic import Field

from sardonyx.passes.base import Pass
from sardonyx.passes.candidates import candidates, entry_of, notes, unsound
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.gobo.lower import lower
from sardonyx.passes.gobo.role_bits import Bits, BitsTable, LayerCounts, bits_for, bits_table
from sardonyx.passes.journal import Journal
from sardonyx.passes.rewrite import Replacements, replace_nodes
from sardonyx.passes.roles import Place, weight_places
from sardonyx.passes.tied import TiedWeight
from sardonyx.passes.weights import weight_uses
from sardonyx.runtime_ops.codebook import Solver
from sardonyx.runtime_ops.gobo import GoboTensor, Loss, Settings, encode
from sardonyx.runtime_ops.int8_product import MOST_ROWS
from sardonyx.runtime_ops.ops import Compute
from sardonyx.runtime_ops.outliers import Rule, check_threshold

Coded = tuple[GoboTensor, Loss]
Groups = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Gobo(Pass):
    """``MatMul(A, W)``  ->  ``GoboMatMul<bits>(A, indices, centroids, positions, values)``, and

    ``Gemm(A, B, C)``  ->  the same, between Transpose, Mul and Add where transA, alpha, beta or C
    ask for them; ``Gather(W, ids)``  ->  ``GoboGather<embedding_bits>(ids, ...)``. W may be reached
    through Identity, Cast and Transpose. Weights with equal contents, one perhaps the transpose of
    the other, are encoded once; a weight that any Gather reads takes ``embedding_bits``.

    ``bits``: of an index; a table by role (`passes.roles`) where roles differ, as ``{default = 3,
    value = 4}``. ``role_layers``: by a model's number of layers, in how many of the first ones a
    role's own bits hold; empty: in all. ``outliers`` and ``threshold``: which weights stay in
    floating point (`runtime_ops.outliers`). ``solver``: how centroids are fitted
    (`runtime_ops.codebook`). ``min_weights``: smaller tensors are left alone.

    ``groups``: how many groups of consecutive columns of W (outputs of the product) have centroids
    of their own; fewer where there are fewer columns. ``embedding_groups``: the same for weights
    that take ``embedding_bits``, whose columns are the rows of the table: apart from each other in
    meaning, and many. Stock onnxruntime needs memory for each group of a weight while a session is
    created, 0.3 MB at 3 bits. ``compute``: ``int8`` lets the kernels of products round activations
    to 8 bits a row (`runtime_ops.int8_product`), as the reference executor then does; stock
    onnxruntime runs the ops' bodies, in floating point. Left out, with the reason in notes and
    report, where weights are not float32 or the sum would not fit.

    Does not fire on a weight

    1. that is the left operand, has another rank than 2, is reached through more than one Cast, or
       is gathered along another axis than 0, or is inside a fused op,
    2. that another op or an output of the graph needs too, so that the plain weight would stay,
    3. of fewer than ``min_weights`` elements,
    4. whose encoded form would not be smaller,

    nor on what no product or lookup reads as floats: vectors, convolutions, quantized weights.
    """

    bits: BitsTable = field(default_factory=lambda: {"default": 3})
    role_layers: LayerCounts = field(default_factory=dict)
    embedding_bits: Bits = 4
    outliers: Rule = "logpdf"
    threshold: float | None = None
    solver: Solver = "paper"
    min_weights: Annotated[int, Field(ge=1)] = 4096
    groups: Groups = 1
    embedding_groups: Groups = 1
    compute: Compute = "fp32"

    name: ClassVar[str] = "gobo"
    quantizes: ClassVar[bool] = True
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-5
    """A Gemm becomes MatMul and Add, whose sums may round differently; the rest is exact."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", bits_table(self.bits))
        if self.threshold is not None:
            check_threshold(self.outliers, self.threshold)

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Encode all weights, the largest first, on all cores; then rewrite."""
        uses = weight_uses(graph)
        weights = candidates(graph, uses, self.min_weights, journal)
        places = weight_places(graph, uses)
        replacements: Replacements = {}
        coded = self._encode_all(weights, self._bits(weights, places), journal)
        for weight, (tensor, loss) in zip(weights, coded, strict=True):
            if tensor.nbytes >= weight.nbytes:
                reason = f"encoded it takes {tensor.nbytes} bytes, plain {weight.nbytes}"
                journal.skipped.append(weight.skip(reason, eligible=True))
                continue
            place = places[id(weight.view.constant)]
            entry = entry_of(weight, place, tensor, loss.sqnr_db, self._compute(weight))
            journal.encoded.append(entry)
            replacements |= lower(weight, tensor, notes(self.name, entry), entry.compute)
        replace_nodes(graph, replacements)
        return len(replacements)

    def _bits(self, weights: list[TiedWeight], places: Mapping[int, Place]) -> list[int]:
        layers = [place.layer for place in places.values() if place.layer is not None]
        depth = max(layers, default=-1) + 1
        return [
            self.bits.get("embedding", self.embedding_bits)
            if weight.gathered
            else bits_for(places[id(weight.view.constant)], self.bits, self.role_layers, depth)
            for weight in weights
        ]

    def _compute(self, weight: TiedWeight) -> str:
        """How products by a weight are computed; if not as wanted, with the reason."""
        rows, dtype = weight.view.shape[0], weight.view.dtype
        if self.compute == "fp32" or all(use.node.op == "Gather" for use in weight.uses):
            return "fp32"
        if dtype != np.float32:
            return f"fp32, as activations are {dtype}: int8 takes float32"
        if rows > MOST_ROWS:
            return f"fp32, as columns have {rows} weights: int8 sums at most {MOST_ROWS}"
        return self.compute

    def _encode_all(
        self, weights: list[TiedWeight], bits: list[int], journal: Journal
    ) -> list[Coded]:
        """Encoded weights in the order given. The largest start first, to keep all cores busy."""
        order = sorted(range(len(weights)), key=lambda i: -weights[i].size)
        total = sum(weight.size for weight in weights)
        done = 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                jobs = {i: pool.submit(self._encode, weights[i], bits[i]) for i in order}
                sizes = {job: weights[i].size for i, job in jobs.items()}
                for job in as_completed(sizes):
                    done += sizes[job]
                    journal.progress("Encoding weights", done, total)
                    job.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [jobs[i].result() for i in range(len(weights))]

    def _encode(self, weight: TiedWeight, bits: int) -> Coded:
        groups = self.embedding_groups if weight.gathered else self.groups
        settings = Settings(bits, self.outliers, self.threshold, self.solver, groups)
        try:
            return encode(weight.view.matrix(), settings)
        except ValueError as error:
            raise unsound(weight, error) from error
