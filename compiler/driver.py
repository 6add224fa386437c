"""driver: runs a pass and checks what it promised."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import onnx_graphsurgeon as gs

from sardonyx.compiler.calibrate import Calibration
from sardonyx.compiler.load import Source
from sardonyx.compiler.region import Scope, record_scopes
from sardonyx.compiler.verify import Moment, Verification, check_encoded, check_regions
from sardonyx.passes.base import Pass
from sardonyx.passes.facts import Fact
from sardonyx.passes.journal import Encoded, Journal, Watched
from sardonyx.passes.scopes import all_nodes
from sardonyx.runtime_ops.errors import InputError, VerificationError

T = TypeVar("T")

_MOST_ROUNDS = 100
"""Of passes that settle; a round that changes nothing new is far below."""


@dataclass(frozen=True)
class PassRun:
    """What a pass did: rewrites made, nodes before and after, seconds (checks left out)."""

    name: str
    rewrites: int
    nodes_before: int
    nodes_after: int
    seconds: float


@dataclass
class Driver:
    """Runs passes on one graph and keeps the record of them.

    ``ran``: every pass that ran, also those of which ``runs`` holds no record, and what it was told
    of activations.
    """

    source: Source
    graph: gs.Graph
    journal: Journal
    verification: Verification
    calibration: Calibration = field(default_factory=Calibration)
    runs: list[PassRun] = field(default_factory=list)
    ran: list[tuple[Pass, Watched]] = field(default_factory=list)
    _scopes: list[Scope] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal.trial = partial(self.calibration.trial, self.source, self.graph)

    def settle(self, passes: Sequence[Pass]) -> Iterator[Pass]:
        """Run passes in turn, and all again once one rewrote something; yield each that ran.

        Raises VerificationError where they never come to rest.
        """
        due = set(range(len(passes)))
        for again in range(_MOST_ROUNDS):
            for place, a_pass in enumerate(passes):
                if place in due:
                    due.discard(place)
                    if self.run(a_pass, again > 0) and a_pass.settles:
                        due = set(range(len(passes)))
                    yield a_pass
            if not due:
                return
        names = ", ".join(passes[place].name for place in sorted(due))
        raise VerificationError(f"passes undo each other's work without end: {names}")

    def run(self, a_pass: Pass, again: bool = False) -> int:
        """Check what the pass requires, measure what it watches, run it, check what it establishes
        and what it changed. Returns how many rewrites it made; none is not recorded, nor checked,
        ``again``: a change that it did not tell shows in the next check."""
        self._check_facts(a_pass, a_pass.requires, "requires")
        self._measure(a_pass)
        checked = self.verification.level != "off"
        before = self._now() if checked else None
        nodes_before = self._count_nodes()
        encoded = len(self.journal.encoded)
        start = time.perf_counter()
        rewrites = self._do(a_pass, lambda: a_pass.run(self.graph, self.journal))
        seconds = time.perf_counter() - start
        self.ran.append((a_pass, self.journal.watched))
        if rewrites:
            self.journal.known = None
        if rewrites or not again:
            nodes = nodes_before, self._count_nodes() if rewrites else nodes_before
            self.runs.append(PassRun(a_pass.name, rewrites, *nodes, seconds))
        self._check_facts(a_pass, a_pass.establishes, "promises")
        if before and (rewrites or not again):
            self._check(a_pass, before, self.journal.encoded[encoded:])
        return rewrites

    def _now(self) -> Moment:
        """The graph before a pass; what the last check saw is still so."""
        self._scopes = self._scopes or record_scopes(self.graph)
        return Moment(self._scopes, self.journal.sizes(self.graph))

    def _check(self, a_pass: Pass, before: Moment, encoded: list[Encoded]) -> None:
        check_encoded(a_pass, encoded, self.verification)
        self._scopes = record_scopes(self.graph)
        check_regions(a_pass, before, self._scopes, self.source, encoded, self.verification)

    def _count_nodes(self) -> int:
        return sum(1 for _ in all_nodes(self.graph))

    def _measure(self, a_pass: Pass) -> None:
        watches = self._do(a_pass, lambda: a_pass.watches(self.graph))
        if watches:
            watches = self.calibration.measure(
                f"pass {a_pass.name}", self.source, self.graph, watches, self.journal.progress
            )
        self.journal.watched = watches

    def _do(self, a_pass: Pass, what: Callable[[], T]) -> T:
        """Have the pass do something; an error that it does not mean is a broken promise."""
        try:
            return what()
        except (InputError, VerificationError):
            raise
        except Exception as error:
            done = ", ".join(run.name for run in self.runs) or "no other"
            raise VerificationError(
                f"pass {a_pass.name} failed, after {done}: {type(error).__name__}: {error}"
            ) from error

    def _check_facts(self, a_pass: Pass, facts: tuple[Fact, ...], verb: str) -> None:
        for fact in facts:
            if not fact.holds(self.graph):
                raise VerificationError(
                    f"pass {a_pass.name} {verb} that {fact.sentence}, which does not hold"
                )
