"""The grid of an activation: from what was measured of it, by the method that was asked for."""

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

from sardonyx.passes.base import Pass
from sardonyx.passes.quantize.observers.find import Method, Mode, Settings, Solver, find_range
from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.observers.moving_range import MovingRange
from sardonyx.passes.quantize.observers.ranges import Range
from sardonyx.passes.quantize.observers.row_sample import RowSample
from sardonyx.passes.quantize.observers.statistic import Statistic
from sardonyx.passes.quantize.observers.tensor_class import TensorClass, tensor_class
from sardonyx.passes.quantize.product_error import ProductSample
from sardonyx.runtime_ops.uniform import Grid, grid

RangeMethod = Literal[Method, "ema"]
KlMode = Literal[Mode, "best"]
_MODES: tuple[Mode, ...] = ("naive", "independent", "conjugate", "symmetric")
"""Those that ``best`` chooses from; of equal ones the first, whose range is the widest."""


@dataclass(frozen=True)
class GridSettings:
    """How grids are found. ``method``: ``ema`` or one of `find.Settings`; ``mode``: of ``kl``, or
    ``best``: that whose products come out best on the sampled rows. ``symmetric``, ``signed``: as
    `uniform.grid` takes them. ``rows``: to sample. ``decay``: of ``ema``. ``bits``: 8 or 16, which
    are enough for all values: only ``ema`` is another range then."""

    method: RangeMethod
    mode: KlMode
    percentile: float
    solver: Solver
    decay: float
    symmetric: bool
    signed: bool
    rows: int = 1
    bits: int = 8

    @classmethod
    def of(cls, a_pass: Pass, *, symmetric: bool, signed: bool) -> "GridSettings":
        """Those of a pass that has the others as arguments, ``rows`` and ``bits`` perhaps not, for
        one kind of grid."""
        names = {field.name for field in fields(cls)} - {"symmetric", "signed"}
        given = {name: getattr(a_pass, name) for name in names if hasattr(a_pass, name)}
        return cls(**given, symmetric=symmetric, signed=signed)

    def statistics(self, weighed: bool) -> tuple[Statistic, ...]:
        """What must be measured of an activation; if it is ``weighed``, multiplied by a weight,
        also rows of it."""
        moving = (MovingRange(self.decay),) if self.method == "ema" else ()
        return (Histogram(), *moving, *((RowSample(self.rows),) if weighed else ()))


@dataclass(frozen=True)
class Measured:
    """An activation's grid, the range it was made from, and its class.

    ``sqnr_db``: of all values on the grid; ``product_sqnr_db``: of the products by weights that
    read it, on sampled rows.
    """

    grid: Grid
    range: Range
    tensor_class: TensorClass
    sqnr_db: float
    product_sqnr_db: float


def measured(
    statistics: tuple[Statistic, ...],
    settings: GridSettings,
    products: ProductSample | None,
) -> Measured:
    """The grid of a tensor with these statistics. ``products``: on the sampled rows, by weights as
    they are encoded; None where none reads it, so that its values alone count."""
    histogram = statistics[0]
    assert isinstance(histogram, Histogram)
    kind = tensor_class(histogram)
    if settings.bits > 8 and settings.method != "ema":
        settings = replace(settings, method="min-max")

    def tried(found: Range) -> Measured:
        made = grid(found.low, found.high, settings.symmetric, settings.signed, settings.bits)
        loss = _expected_sqnr_db(histogram, made)
        product = products.sqnr_db(made, None) if products else loss
        return Measured(made, found, kind, loss, product)

    if settings.method == "ema":
        moving = next(s for s in statistics if isinstance(s, MovingRange))
        return tried(moving.range(settings.symmetric))
    plain = Settings(
        settings.method,
        symmetric=settings.symmetric,
        percentile=settings.percentile,
        solver=settings.solver,
    )
    found = [tried(find_range(histogram, replace(plain, mode=mode))) for mode in _modes(settings)]
    return max(found, key=lambda one: one.product_sqnr_db)


def _expected_sqnr_db(histogram: Histogram, made: Grid) -> float:
    """Of values in the middle of their bins, zeros exact: a step of 8 bits is 32 bins or more,
    unless the range is clipped; those of 16 bits fall anywhere in the bins."""
    middles = (np.arange(histogram.bins) + 0.5) * histogram.width
    values = np.concatenate([-middles[::-1], middles])
    counts = histogram.without_zeros().counts
    noise = float(counts @ np.square(values - made.rounded(values)))
    signal = float(counts @ np.square(values))
    return 10.0 * math.log10(signal / noise) if noise and signal else math.inf


def _modes(settings: GridSettings) -> tuple[Mode, ...]:
    """Those to try: other methods than ``kl`` have none to choose from, and of a symmetric grid one
    threshold is enough."""
    if settings.mode != "best":
        return (settings.mode,)
    if settings.method != "kl":
        return _MODES[:1]
    return ("naive", "symmetric") if settings.symmetric else _MODES
