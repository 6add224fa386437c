"""quantize-values: every activation is rounded where a chip of integers writes it back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, get_args

import numpy as np
import onnx_graphsurgeon as gs
from pydantic import Field

from sardonyx.passes.activation_sites import KINDS, Site, SiteRole, activation_sites
from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.ffn_blocks import LOOKED_FOR
from sardonyx.passes.journal import Journal, Watched
from sardonyx.passes.lower.raise_opset import RaiseOpset
from sardonyx.passes.metadata import annotate
from sardonyx.passes.quantize.activation_notes import activation_notes, site_entry
from sardonyx.passes.quantize.grids import GridSettings, KlMode, Measured, RangeMethod, measured
from sardonyx.passes.quantize.observers.find import Solver
from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.observers.statistic import Statistic
from sardonyx.passes.quantize.qdq_nodes import rounding
from sardonyx.passes.quantize.widen import widened
from sardonyx.passes.quantizers import QUANTIZE, is_op
from sardonyx.passes.rewrite import Draft, Replacements, readers_of, redirect, replace_nodes
from sardonyx.passes.trial import AUTO
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.uniform import Grid

WIDE_OPSET = 21
"""The first whose QuantizeLinear makes codes of 16 bits."""

_ROLES = frozenset(role for part in get_args(SiteRole) for role in get_args(part))


@dataclass(frozen=True)
class QuantizeValues(Pass):
    """``t``, read by others  ->  ``DequantizeLinear(QuantizeLinear(t))`` for all of them, for every
    activation t that a chip which computes in integers writes back
    (`activation_sites.activation_sites`), each with one scale and zero point: of 8 bits, or of 16.

    ``sites``: which, by kind, role or name, with commas between them; ``all``. ``wide``: those of
    them in 16 bits, likewise; empty: none; ``auto``: those from which the model's outputs gain most
    (`widen.widened`), until the outputs reach an SQNR of ``goal_db``, or they make up ``budget``: a
    share of those that are rounded at all, each group of a split one counted; by default that of
    the 36 of 161 that Bondarenko et al. (arXiv 2109.12948) choose in BERT-base. ``method``,
    ``mode``, ``percentile``, ``solver``, ``decay``, ``symmetric``, ``signed``: how ranges are found
    (`grids.GridSettings`), all of them before any activation is rounded.

    Outputs of the graph stay as they are. Does not fire on an activation

    1. that ``sites`` does not name,
    2. of another type than float32,
    3. that no node reads, or none but those that round it already,
    4. that had no values in the calibration data.
    """

    sites: str = "all"
    wide: str = ""
    budget: Annotated[float, Field(ge=0, le=1)] = 0.224
    goal_db: Annotated[float, Field(gt=0)] = math.inf
    method: RangeMethod = "mse"
    mode: KlMode = "best"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    solver: Solver = "grid"
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.9
    symmetric: bool = False
    signed: bool = False

    name: ClassVar[str] = "quantize-values"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    pointless: ClassVar[str] = "outside bodies of If, Loop and Scan no op makes an activation"
    bound: ClassVar[float] = 4.0
    """Rounding to a grid made for other values may lose all of an output (1) or overshoot it by a
    step: only its kind is held against the plain one. What is lost on real values is reported."""

    def watches(self, graph: gs.Graph) -> Watched:
        """All that is to be rounded. Words that name none of it are refused before that."""
        if self._is_too_old(graph):
            return {}
        chosen, statistics = self._chosen(graph), self._settings.statistics(weighed=False)
        if self.wide != AUTO:
            self._wide(chosen)
        return {s.tensor.name: statistics for s in chosen if not _obstacle(s)}

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Find all grids; then rewrite."""
        if self._is_too_old(graph):
            missed = (f" ({m.reason})" for m in journal.missed if m.by == RaiseOpset.name)
            raise InputError(
                f"{self.name}.wide: 16 bits need opset {WIDE_OPSET}, and the model has "
                f"{graph.opset}{next(missed, '')}: put the pass raise-opset with to = {WIDE_OPSET} "
                "ahead, or export the model again"
            )
        chosen = self._chosen(graph)
        sites = self._reached(chosen, journal)
        wide = self._widened(sites, journal) if self.wide == AUTO else self._wide(chosen)
        drafts = list[Draft]()
        for site in sites:
            why_wide = wide.get(site.tensor.name, "")
            found = self._measured(site, journal, 16 if why_wide else 8)
            entry = site_entry(_readers(site.tensor)[0], site, found, why_wide)
            journal.activations.append(entry)
            drafts.append(rounding(site.tensor, found.grid, activation_notes(entry)))
            for node in drafts[-1].nodes:
                annotate(node, **{"pass": self.name})
        _put(graph, drafts)
        return len(drafts)

    @property
    def _settings(self) -> GridSettings:
        return GridSettings.of(self, symmetric=self.symmetric, signed=self.signed)

    def _is_too_old(self, graph: gs.Graph) -> bool:
        return bool(self.wide) and graph.opset < WIDE_OPSET

    def _measured(self, site: Site, journal: Journal, bits: int) -> Measured:
        settings = replace(self._settings, bits=bits)
        return measured(journal.watched[site.tensor.name], settings, None)

    def _both_grids(self, site: Site, journal: Journal) -> tuple[Grid, Grid]:
        """Of 8 and of 16 bits."""
        return self._measured(site, journal, 8).grid, self._measured(site, journal, 16).grid

    def _chosen(self, graph: gs.Graph) -> list[Site]:
        """The activations that are asked for."""
        every = activation_sites(graph)
        return every if self.sites == "all" else _named(every, self.sites, f"{self.name}.sites")

    def _reached(self, chosen: Sequence[Site], journal: Journal) -> list[Site]:
        """Those of some activations that can be rounded. Raises InputError where some might, and
        calibration reached none."""
        reached, empty = list[Site](), list[Site]()
        for site in chosen:
            reason = _obstacle(site)
            if not reason and not _histogram(journal.watched[site.tensor.name]).count:
                empty.append(site)
                reason = "had no values in the calibration data"
            if reason:
                journal.miss(self.name, site.tensor.inputs[0], reason)
            else:
                reached.append(site)
        if empty and not reached and not any(_is_rounded(site.tensor) for site in chosen):
            raise InputError(
                f"calibration reached no activation that {self.name} rounds: "
                f"'{empty[0].tensor.name}' had no values; give samples that run through all of the "
                "model"
            )
        return reached

    def _wide(self, chosen: Sequence[Site]) -> dict[str, str]:
        """Why the activations are in 16 bits that are asked for, by name."""
        named = _named(chosen, self.wide, f"{self.name}.wide")
        if chosen and self.wide and not any(site.tensor.outputs for site in named):
            raise InputError(
                f"{self.name}.wide={self.wide}: what {self.name}.sites={self.sites} rounds holds "
                f"none of these (x, g, h and y are of feed-forward networks; looked for "
                f"{LOOKED_FOR}): choose others, or {self.name}.wide=auto"
            )
        return {str(site.tensor.name): "asked for" for site in named}

    def _widened(self, sites: Sequence[Site], journal: Journal) -> dict[str, str]:
        """Why those are that are worth it."""
        if not sites:
            return {}
        grids = {str(site.tensor.name): self._both_grids(site, journal) for site in sites}
        return widened(grids, self.budget, self.goal_db, self.name, journal)


def _put(graph: gs.Graph, drafts: Sequence[Draft]) -> None:
    """Round each activation behind the node that makes it, for all that read it."""
    after: Replacements = {}
    for draft in drafts:
        maker = draft.nodes[0].inputs[0].inputs[0]
        after.setdefault(id(maker), [maker]).extend(draft.nodes)
    replace_nodes(graph, after)
    for draft in drafts:
        x, rounded = draft.nodes[0].inputs[0], draft.nodes[-1].outputs[0]
        redirect(x, rounded, set(map(id, _readers(x))))


def _obstacle(site: Site) -> str:
    """Why an activation cannot be rounded, whatever its values; empty if it can."""
    x = site.tensor
    if x.dtype != np.float32:
        return f"makes {x.dtype}: only float32 is rounded"
    if not x.outputs:
        return "makes an output of the graph that nothing else reads"
    return "" if _readers(x) else "makes what is rounded already"


def _is_rounded(x: gs.Tensor) -> bool:
    return any(is_op(node, QUANTIZE) for node in readers_of(x))


def _histogram(statistics: Sequence[Statistic]) -> Histogram:
    return next(each for each in statistics if isinstance(each, Histogram))


def _readers(x: gs.Tensor) -> list[gs.Node]:
    """What reads an activation and does not round it."""
    return [node for node in readers_of(x) if not is_op(node, QUANTIZE)]


def _named(sites: Sequence[Site], words: str, argument: str) -> list[Site]:
    """The sites whose kind, role or name is one of some words; InputError for a word that can be
    none."""
    wanted = {word.strip() for word in words.split(",")} - {""}
    for word in sorted(wanted - {*KINDS, *_ROLES, *(site.tensor.name for site in sites)}):
        kinds = dict.fromkeys(word for site in sites for word in (site.kind, site.role) if word)
        raise InputError(
            f"{argument}: no activation is '{word}': there is {', '.join(kinds)}, and each by name"
        )
    return [site for site in sites if wanted & _words(site)]


def _words(site: Site) -> set[str]:
    return {site.kind, site.role, str(site.tensor.name)} - {""}
