"""smooth-quant: weights take over the outlying channels of activations, before both are rounded."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import onnx_graphsurgeon as gs
from pydantic import Field, FiniteFloat

from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.journal import Journal, Miss, Smoothed, Watched
from sardonyx.passes.metadata import PREFIX, PROPS, annotate
from sardonyx.passes.quantize.channel_scale import Measured, Scale
from sardonyx.passes.quantize.divide_channels import Way, Ways
from sardonyx.passes.quantize.observers.channel_range import ChannelRange
from sardonyx.passes.quantize.observers.row_sample import RowSample
from sardonyx.passes.quantize.owners import Owners
from sardonyx.passes.quantize.products import Products, products
from sardonyx.passes.quantize.rescale import Rescale
from sardonyx.passes.sizes import Sizes

ALPHAS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""What a search tries. Below, weights lose more of their 7 or 8 bits than activations gain."""

_NOTE = "smooth_into"


@dataclass(frozen=True)
class SmoothQuant(Pass):
    """``MatMul(x, W)``  ->  ``MatMul(x / s, s W)``, with a scale s for each channel of x: one for
    all products that read x.

    In real numbers nothing changes; but a few channels of x far larger than the others would leave
    these few of 256 steps, and the rows of W have room for scales (Xiao et al. 2022). The division
    goes, for nothing, into constants of what makes x, where only the products read x:

    (a) scale and bias of a LayerNormalization, or the constants of its last Mul and Add,
    (b) columns and bias of a MatMul or Gemm, also ahead of a Relu, or a product with something else
        as gates are,
    (c) those of the values, where x is what attention makes of them;

    else (d) a Mul in front of the products.

    ``alpha``: how much of the range weights take over, 0 to 1, or ``search``: of `ALPHAS` the one
    of the largest SQNR on ``rows`` real rows, with 8-bit activations and weights of ``weight_bits``
    bits a column; of equals the smallest. (a) to (c) are done where they raise the SQNR. A Mul
    costs time at each run, so there (d) must gain ``least_gain_db`` or more, on less than
    ``good_enough_db``; without ``explicit`` it is never done. What was decided is noted on the
    products: those that bear a note are left as they are. Does not fire

    1. where something else needs a weight, or one of the same contents, or it is stored in another
       type than it is read in: the weight would have to be stored twice,
    2. where calibration saw no value of x, or the scaled weights leave the range of their type,
    3. where it would gain too little,
    4. on products in the bodies of If, Loop and Scan.
    """

    alpha: Literal["search"] | Annotated[float, Field(ge=0, le=1)] = "search"
    good_enough_db: FiniteFloat = 28.0
    least_gain_db: FiniteFloat = 2.0
    weight_bits: Annotated[int, Field(ge=2, le=8)] = 7
    rows: Annotated[int, Field(ge=1)] = 256
    explicit: bool = True

    name: ClassVar[str] = "smooth-quant"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-4
    """Quotients, products and inverses round, and a large term's rounding stays where it cancels
    out: that of an outlying channel."""

    def watches(self, graph: gs.Graph) -> Watched:
        """The range of each channel and some rows, of activations that bear no note yet."""
        empty = ChannelRange(), RowSample(self.rows)
        return {group.activation.name: empty for group in _undecided(graph)}

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Decide on all activations, on all cores; then rewrite."""
        groups = _undecided(graph)
        if not groups:
            return 0
        sizes, owners = journal.sizes(graph), Owners.of(graph)
        chances = [_Chance.of(group, sizes, owners, journal.watched) for group in groups]
        rescale = Rescale(graph, self.name)
        for decision in self._decide_all(chances, journal):
            decision.record(self.name, journal)
            if decision.change:
                chance = decision.chance
                rescale.divide(chance.products, decision.change.scale, chance.way)
        rescale.apply()
        return rescale.count

    def _decide_all(self, chances: "list[_Chance]", journal: Journal) -> "Iterator[_Decision]":
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done, decision in enumerate(pool.map(self._decide, chances)):
                journal.progress("Smoothing", done + 1, len(chances))
                yield decision

    def _decide(self, chance: "_Chance") -> "_Decision":
        if chance.obstacle:
            return _Decision(chance, reason=chance.obstacle)
        measured = chance.measured(self.weight_bits)
        if not np.isfinite(measured.weights).all():
            return _Decision(chance, reason="its weights hold NaN or infinite values")
        before = measured.sqnr_db()
        if chance.way is None and before >= self.good_enough_db:
            return _Decision(chance, before)
        alpha = measured.best_alpha(ALPHAS if self.alpha == "search" else (self.alpha,))
        scale = measured.scale(alpha)
        after = measured.sqnr_db(scale)
        reason = self._too_little(chance, after - before) or measured.misfit(scale, chance.dtype)
        change = None if reason else _Change(alpha, scale, after)
        return _Decision(chance, before, change, reason)

    def _too_little(self, chance: "_Chance", gain_db: float) -> str:
        """Why a gain is not worth its costs; empty if it is."""
        if chance.way is not None:
            return "" if gain_db > 0 else "smoothing gains nothing"
        if gain_db < self.least_gain_db:
            return f"smoothing gains {gain_db:.2f} dB, less than {self.least_gain_db:g}"
        return "" if self.explicit else f"no Mul is wanted, and {chance.no_way}"


def _undecided(graph: gs.Graph) -> list[Products]:
    """The products of activations on which nothing was decided yet."""
    noted = f"{PREFIX}{_NOTE}"
    return [
        group
        for group in products(graph)
        if not any(noted in node.attrs.get(PROPS, {}) for node in group.nodes)
    ]


@dataclass(frozen=True)
class _Chance:
    """An activation that may be smoothed. ``seen``, ``rows``: what calibration folded. ``way``:
    where the division goes for nothing; None: nowhere, for the reason ``no_way``. ``obstacle``: why
    it cannot be smoothed at all."""

    products: Products
    seen: ChannelRange
    rows: RowSample
    way: Way | None = None
    no_way: str = ""
    obstacle: str = ""

    @classmethod
    def of(cls, group: Products, sizes: Sizes, owners: Owners, watched: Watched) -> "_Chance":
        """The chance of a group of products."""
        seen, rows = watched[group.activation.name]
        assert isinstance(seen, ChannelRange)
        assert isinstance(rows, RowSample)
        obstacle = owners.obstacle(group.uses)
        if not obstacle and rows.values.size == 0:
            obstacle = f"calibration saw no value of '{group.activation.name}'"
        try:
            way = Ways(sizes, owners, group.width).find(group.activation, group.nodes)
            return cls(group, seen, rows, way, obstacle=obstacle)
        except Unfit as reason:
            return cls(group, seen, rows, None, str(reason), obstacle)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The type of the products."""
        return self.products.uses[0].view.dtype

    @property
    def into(self) -> str:
        """Where the division goes."""
        return self.way.into if self.way else "Mul"

    def measured(self, bits: int) -> Measured:
        """What smoothing is chosen by."""
        weights = [use.view.matrix() for use in self.products.uses]
        return Measured.of(self.seen, self.rows.values, weights, bits)


@dataclass(frozen=True)
class _Change:
    """The scale to divide an activation by, of which alpha, and the SQNR that comes of it."""

    alpha: float
    scale: Scale
    sqnr_db: float


@dataclass(frozen=True)
class _Decision:
    """What to change, if anything; ``reason``: why nothing, empty where the products are good
    enough. ``before_db``: their SQNR, if it was measured."""

    chance: _Chance
    before_db: float | None = None
    change: _Change | None = None
    reason: str = ""

    def record(self, by: str, journal: Journal) -> None:
        """Say what was decided, in the journal and on the products."""
        group = self.chance.products
        notes: dict[str, object] = {_NOTE: "nothing"}
        if self.before_db is not None:
            notes["smooth_db"] = self.before_db
        if self.reason:
            journal.missed.append(Miss(by, group.nodes[0].name, self.reason))
        if self.change and self.before_db is not None:
            alpha, after, into = self.change.alpha, self.change.sqnr_db, self.chance.into
            notes |= {_NOTE: into, "smooth_alpha": alpha}
            notes["smooth_db"] = f"{self.before_db} -> {after}"
            names = tuple(node.name for node in group.nodes)
            x = group.activation.name
            journal.smoothed.append(Smoothed(x, names, into, alpha, self.before_db, after))
        for node in group.nodes:
            annotate(node, **notes)
