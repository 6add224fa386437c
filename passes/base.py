"""What a pass is. Read this, then any file beside it.

A pass is a frozen dataclass: its fields are its arguments, in a recipe file and after ``--set``.
It edits the graph in place, keeps nothing between runs, and states in class variables what the
driver then checks: the facts it needs and establishes, and how far a rewritten region may differ.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.facts import Fact
from sardonyx.passes.journal import Journal, Watched


@dataclass(frozen=True)
class Pass(ABC):
    """One rewrite of a graph.

    ``name``: kebab-case, unique. ``requires``, ``establishes``: facts that hold before and after.
    ``bound``: the greatest difference that a rewritten region's outputs may show, relative to the
    largest magnitude of the output; 0 means bit for bit, infinity that values are rounded anew: no
    more than kinds and shapes stay. Where a pass replaces constants by encoded ones, the region is
    compared with the *decoded* constants in place. ``rounds_less``: the pass takes roundings out,
    so that values come closer to those of the floats, not of the source: in a rewritten region
    integers may differ by 1, and made-up inputs that a QuantizeLinear reads span its range and do
    not exceed it; what the whole model's outputs lose is measured, not judged. ``settles``:
    consecutive such passes run in turn until none rewrites. ``pointless``: of what a recipe with
    the pass is for, what a model lacks that the pass finds nothing in; empty: it is for any.
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[Fact, ...]] = ()
    establishes: ClassVar[tuple[Fact, ...]] = ()
    bound: ClassVar[float] = 0.0
    quantizes: ClassVar[bool] = False
    settles: ClassVar[bool] = False
    rounds_less: ClassVar[bool] = False
    pointless: ClassVar[str] = ""

    def watches(self, graph: gs.Graph) -> Watched:
        """Tensors of the main graph, by name, whose values the pass must know, and the empty
        statistics to fold them into. The driver measures them before `run`: `Journal.watched`.
        """
        return {}

    @abstractmethod
    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Rewrite ``graph``; say in ``journal`` what was encoded or skipped, and why.

        Returns how many rewrites were made; run again, it makes none. Raises InputError where
        the graph or an argument makes the pass impossible.
        """
