"""freeze-ranges: ranges that a model finds as it runs become constants that were measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from pydantic import Field, FiniteFloat

from sardonyx.passes.base import Pass
from sardonyx.passes.cleanup.dynamic_quantizers import (
    DynamicQuantizer,
    is_dynamic,
    quantizer_at,
    same_number,
)
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.journal import Journal, Watched
from sardonyx.passes.metadata import annotate, inherit
from sardonyx.passes.quantize.activation_notes import activation_entry, activation_notes
from sardonyx.passes.quantize.code_products import Matrix, matrices
from sardonyx.passes.quantize.grids import GridSettings, KlMode, Measured, RangeMethod, measured
from sardonyx.passes.quantize.observers.find import Solver
from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.observers.rounded_rows import RoundedRows
from sardonyx.passes.quantize.observers.statistic import Statistic
from sardonyx.passes.quantize.product_error import ProductSample
from sardonyx.passes.rewrite import Draft, name_apart, redirect, replace_nodes, take_outputs
from sardonyx.passes.scopes import all_outputs, scopes
from sardonyx.passes.weights import values_of
from sardonyx.passes.within import Within
from sardonyx.runtime_ops.uniform import Grid


@dataclass(frozen=True)
class FreezeRanges(Pass):
    """``q, s, z = DynamicQuantizeLinear(x)``  ->  ``q = QuantizeLinear(x, S, Z)``, and

    ``q = QuantizeLinear(x, s, z)``  ->  the same with S and Z, where s and z are computed from the
    least and the largest of all values of x; or ``q = Cast(Clip(Round(x / s) + z))``. S and Z are
    constants from calibration, and whatever reads s and z reads them. What found the range is left
    to `remove-unused`.

    ``method``, ``mode``, ``percentile``, ``solver``, ``decay``, ``rows``: how the range is found
    (`grids.GridSettings`). A constant zero point stays: the grid mirrors itself at 0. ``least_db``:
    where products by constant weights come out with less on sampled rows, they stay dynamic if the
    range of each run leaves ``least_gain_db`` or more above that: it may well be the worse of both,
    where one huge value takes all steps from the others. Without such products the values
    themselves are judged, and alone. Does not fire where

    1. the quantizer is in the body of an If, Loop or Scan: calibration measures the main graph,
    2. the scale is computed from something else, or over some axes only, or something else reads
       the range, or it is an output,
    3. x is not float32, a constant, or had no values in the calibration data; the codes are not of
       8 bits, or their constant zero point is not that of a symmetric grid,
    4. the range of each run serves the products better.
    """

    method: RangeMethod = "kl"
    mode: KlMode = "best"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    solver: Solver = "grid"
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.9
    rows: Annotated[int, Field(ge=1)] = 256
    least_db: FiniteFloat = 28.0
    least_gain_db: Annotated[float, Field(ge=0)] = 2.0

    name: ClassVar[str] = "freeze-ranges"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = np.inf
    """Codes are others than before, and on made-up values all may saturate. What is lost on real
    values is measured."""
    pointless: ClassVar[str] = (
        "the model makes no 8-bit codes of an activation by one range that it finds as it runs"
    )

    def watches(self, graph: gs.Graph) -> Watched:
        """What dynamic quantizers round; rows of it too where it is multiplied by constants."""
        watches: Watched = {}
        within = Within.of(graph)
        for found in _found(graph, Journal()):
            kept = watches.get(found.x.name) or self._settings.statistics(weighed=False)
            weighed = next(_matrices(found, within), None) is not None
            if weighed and _rows(found, kept) is None:
                kept = (*kept, _empty(found, self.rows))
            watches[found.x.name] = kept
        return watches

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Find all grids; then rewrite."""
        within, frozen = Within.of(graph), list[_Frozen]()
        for found in _found(graph, journal):
            try:
                one = self._measured(found, journal.watched[found.x.name], within)
            except Unfit as reason:
                journal.miss(self.name, found.node, reason)
            else:
                entry = activation_entry(found.node, found.x, one)
                journal.activations.append(entry)
                frozen.append(_Frozen.of(found, one.grid, activation_notes(entry)))
        _apply(graph, frozen)
        return len(frozen)

    @property
    def _settings(self) -> GridSettings:
        return GridSettings.of(self, symmetric=False, signed=False)

    def _measured(
        self, found: DynamicQuantizer, statistics: tuple[Statistic, ...], within: Within
    ) -> Measured:
        """The grid of a quantizer; raises Unfit where none serves it."""
        name = found.x.name
        if not any(s.count for s in statistics if isinstance(s, Histogram)):
            raise Unfit(f"its input '{name}' had no values in the calibration data")
        sample = _rows(found, statistics)
        products = _products(found, sample, within)
        kind = replace(self._settings, symmetric=found.symmetric, signed=found.signed)
        one = measured(statistics, kind, products)
        if found.zero_point is None and one.grid.zero_point != found.fixed:
            raise Unfit(f"its zero point is always {found.fixed}, not {one.grid.zero_point}")
        dynamic_db = products.given_db(sample.rounded) if products and sample else math.inf
        gain_db = dynamic_db - one.product_sqnr_db
        if one.product_sqnr_db < self.least_db and gain_db >= self.least_gain_db:
            raise Unfit(_ruin(name, one.product_sqnr_db, dynamic_db))
        return one


def _ruin(name: str, static_db: float, dynamic_db: float) -> str:
    """Why a range stays dynamic."""
    if math.isinf(dynamic_db):
        return f"a static grid of '{name}' leaves values of {static_db:.1f} dB"
    found = f"the range of each run leaves {dynamic_db:.1f} dB"
    return f"a static grid of '{name}' leaves products of {static_db:.1f} dB, {found}"


def _empty(found: DynamicQuantizer, rows: int) -> RoundedRows:
    return RoundedRows(rows, symmetric=found.symmetric, signed=found.signed)


def _rows(found: DynamicQuantizer, statistics: tuple[Statistic, ...]) -> RoundedRows | None:
    """The rows that were sampled for such a grid, if any were."""
    kind = found.symmetric, found.signed
    samples = (each for each in statistics if isinstance(each, RoundedRows))
    return next((s for s in samples if (s.symmetric, s.signed) == kind), None)


def _products(
    found: DynamicQuantizer, sample: RoundedRows | None, within: Within
) -> ProductSample | None:
    """What the constant weights make of sampled rows; None where there are none of either."""
    weights = list(_matrices(found, within))
    if sample is None or not sample.values.size or not weights:
        return None
    return ProductSample.of(sample.plain, weights)


def _found(graph: gs.Graph, journal: Journal) -> list[DynamicQuantizer]:
    """The quantizers of the main graph that may be frozen; the others are noted."""
    outputs = all_outputs(graph)
    candidates = []
    for scope in scopes(graph):
        for node in filter(is_dynamic, scope.nodes):
            try:
                if scope is not graph:
                    raise Unfit("it is in a body, and calibration measures the main graph")
                candidates.append(quantizer_at(node, outputs))
            except Unfit as reason:
                journal.miss(FreezeRanges.name, node, reason)
    shared = Counter(id(found.scale) for found in candidates)
    found = []
    for each in candidates:
        constant = isinstance(each.x, gs.Constant)
        obstacle = f"its input '{each.x.name}' is a constant" if constant else ""
        if shared[id(each.scale)] > 1:
            obstacle = f"its scale '{each.scale.name}' is that of other codes too"
        if obstacle:
            journal.miss(FreezeRanges.name, each.node, obstacle)
        else:
            found.append(each)
    return found


def _matrices(found: DynamicQuantizer, within: Within) -> Iterator[Matrix]:
    return matrices(found.node.outputs[0], found.scale, within)


@dataclass(frozen=True)
class _Frozen:
    """A quantizer, what is noted on it, and constants: of its own, and by what they stand for."""

    found: DynamicQuantizer
    notes: dict[str, object]
    scale: gs.Constant
    zero_point: gs.Constant
    swaps: tuple[tuple[gs.Tensor, gs.Constant], ...]

    @classmethod
    def of(cls, found: DynamicQuantizer, grid: Grid, notes: dict[str, object]) -> _Frozen:
        draft = Draft(found.x.name, np.float32)
        scale = draft.constant("Scale", grid.scale, np.float32)
        zero_point = draft.constant("ZeroPoint", grid.zero_point, found.dtype)
        numbers = [(found.scale, scale), (found.zero_point, zero_point)]
        ends = [(end, constant) for end, constant in numbers if end is not None]
        swaps = tuple((t, _like(t, constant)) for end, constant in ends for t in same_number(end))
        return cls(found, notes, scale, zero_point, swaps)

    def node(self) -> gs.Node:
        """The quantizer in the place of the old one, which is released."""
        operands = [self.found.x, self.scale, self.zero_point]
        codes = take_outputs(self.found.node)[0]
        codes.dtype = self.found.dtype
        made = gs.Node("QuantizeLinear", self.found.node.name, {}, operands, [codes])
        inherit(made, self.found.node)
        annotate(made, **{"pass": FreezeRanges.name, **self.notes})
        return made


def _like(tensor: gs.Tensor, constant: gs.Constant) -> gs.Constant:
    """A constant in the shape and type of the tensor whose place it takes."""
    dtype, shape = tensor.dtype or constant.dtype, [1] * len(tensor.shape or ())
    if (np.dtype(dtype), shape) == (np.dtype(constant.dtype), []):
        return constant
    values = values_of(constant).reshape(shape).astype(dtype)
    return gs.Constant(f"{constant.name}/Like", values)


def _apply(graph: gs.Graph, frozen: list[_Frozen]) -> None:
    """Put the constants in place of what found them."""
    constants = [t for one in frozen for t in (one.scale, one.zero_point)]
    constants += [new for one in frozen for _, new in one.swaps]
    name_apart(graph, constants)
    for old, new in (swap for one in frozen for swap in one.swaps):
        redirect(old, new)
    replace_nodes(graph, {id(one.found.node): [one.node()] for one in frozen})
