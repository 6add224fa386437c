"""quantize-values: every activation is rounded where a chip of integers writes it back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from pydantic import Field

from sardonyx.passes.activation_sites import Site, activation_sites
from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.journal import Journal, Watched
from sardonyx.passes.metadata import annotate
from sardonyx.passes.quantize.activation_notes import activation_notes, site_entry
from sardonyx.passes.quantize.grids import GridSettings, KlMode, RangeMethod, measured
from sardonyx.passes.quantize.observers.find import Solver
from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.qdq_nodes import rounding
from sardonyx.passes.quantizers import QUANTIZE, is_op
from sardonyx.passes.rewrite import Replacements, readers_of, replace_nodes, reread
from sardonyx.runtime_ops.errors import InputError

WIDE_OPSET = 21
"""The first whose QuantizeLinear makes codes of 16 bits."""


@dataclass(frozen=True)
class QuantizeValues(Pass):
    """``t``, read by others  ->  ``DequantizeLinear(QuantizeLinear(t))`` for all of them, for every
    activation t that a chip which computes in integers writes back
    (`activation_sites.activation_sites`), each with one scale and zero point: of 8 bits, or of 16.

    ``sites``: which, by kind, role or name, with commas between them; ``all``. ``wide``: those of
    them in 16 bits, likewise; empty: none. ``method``, ``mode``, ``percentile``, ``solver``,
    ``decay``, ``symmetric``, ``signed``: how ranges are found (`grids.GridSettings`), all of them
    before any activation is rounded.

    Does not fire on an activation

    1. that ``sites`` does not name, or that is not of float32,
    2. that nothing reads but the graph's caller, or what rounds it already,
    3. that the calibration data never reached.
    """

    sites: str = "all"
    wide: str = ""
    method: RangeMethod = "min-max"
    mode: KlMode = "best"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    solver: Solver = "grid"
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.9
    symmetric: bool = False
    signed: bool = False

    name: ClassVar[str] = "quantize-values"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    pointless: ClassVar[str] = "the model has no activation that is made by a product, sum or norm"
    bound: ClassVar[float] = 4.0
    """Rounding to a grid made for other values may lose all of an output (1) or overshoot it by a
    step: only its kind is held against the plain one. What is lost on real values is reported."""

    def watches(self, graph: gs.Graph) -> Watched:
        """All that is to be rounded."""
        if self.wide and graph.opset < WIDE_OPSET:
            raise InputError(
                f"{self.name}.wide: 16 bits need opset {WIDE_OPSET}, and the graph has "
                f"{graph.opset}: put the pass raise-opset with to = {WIDE_OPSET} ahead of it, or "
                "export the model again"
            )
        statistics = self._settings.statistics(weighed=False)
        return {site.tensor.name: statistics for site in self._sites(graph)}

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Find all grids; then rewrite."""
        sites = self._sites(graph)
        wide = {id(site) for site in _named(sites, self.wide, f"{self.name}.wide")}
        after: Replacements = {}
        rereads: list[tuple[gs.Node, gs.Tensor, gs.Tensor]] = []
        for site in sites:
            x = site.tensor
            watched = journal.watched[x.name]
            histogram = next(s for s in watched if isinstance(s, Histogram))
            if not histogram.count:
                journal.miss(self.name, x.inputs[0], "no values in the calibration data")
                continue
            settings = replace(self._settings, bits=16 if id(site) in wide else 8)
            found = measured(watched, settings, None)
            readers = _readers(x)
            entry = site_entry(readers[0], site, found, "asked for" if id(site) in wide else "")
            journal.activations.append(entry)
            draft = rounding(x, found.grid, activation_notes(entry))
            for node in draft.nodes:
                annotate(node, **{"pass": self.name})
            maker = x.inputs[0]
            after.setdefault(id(maker), [maker]).extend(draft.nodes)
            rereads += [(reader, x, draft.nodes[-1].outputs[0]) for reader in readers]
        replace_nodes(graph, after)
        for reader, old, new in rereads:
            for slot in [slot for slot, tensor in enumerate(reader.inputs) if tensor is old]:
                reread(reader, slot, new)
        return len(after)

    @property
    def _settings(self) -> GridSettings:
        return GridSettings(
            self.method,
            self.mode,
            self.percentile,
            self.solver,
            self.decay,
            self.symmetric,
            self.signed,
            rows=1,
        )

    def _sites(self, graph: gs.Graph) -> list[Site]:
        """The activations that are to be rounded."""
        every = [site for site in activation_sites(graph) if site.tensor.dtype == np.float32]
        chosen = every if self.sites == "all" else _named(every, self.sites, f"{self.name}.sites")
        return [site for site in chosen if _readers(site.tensor)]


def _readers(x: gs.Tensor) -> list[gs.Node]:
    """What reads an activation and does not round it."""
    return [node for node in readers_of(x) if not is_op(node, QUANTIZE)]


def _named(sites: Sequence[Site], words: str, argument: str) -> list[Site]:
    """The sites whose kind, role or name is one of some words; InputError for a word that is
    none."""
    wanted = {word.strip() for word in words.split(",")} - {""}
    known = {word for site in sites for word in _words(site)}
    for word in sorted(wanted - known):
        kinds = sorted({word for site in sites for word in (site.kind, site.role)} - {""})
        raise InputError(
            f"{argument}: no activation is '{word}': there is {', '.join(kinds)}, and each by name"
        )
    return [site for site in sites if wanted & _words(site)]


def _words(site: Site) -> set[str]:
    return {site.kind, site.role, str(site.tensor.name)} - {""}
