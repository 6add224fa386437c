"""Which roundings a model's outputs suffer from, and which it is best to spare or to refine.

SQNR throughout: of the model's outputs, in dB, as a `Trial` measures it.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from sardonyx.passes.journal import Progress
from sardonyx.passes.trial import Trial


@dataclass(frozen=True)
class Spared:
    """A rounding that is not to be made. ``place``: its number. ``alone_db``: SQNR if it were the
    only one; ``gained_db``: how much better the outputs are without it, where all that do more harm
    alone are spared."""

    place: int
    alone_db: float
    gained_db: float


@dataclass(frozen=True)
class Choice:
    """What to spare, the most harmful first. SQNR: ``all_db``: with all roundings; ``rest_db``:
    without those."""

    spared: tuple[Spared, ...]
    all_db: float
    rest_db: float


@dataclass(frozen=True)
class Refinement:
    """What may be rounded more finely. ``gained_db``: how much better the outputs are for it, among
    those that were not given up before. ``made``: whether that is worth it."""

    name: str
    gained_db: float
    made: bool


def spare(trial: Trial, count: int, most: int, goal_db: float, progress: Progress) -> Choice:
    """Choose at most ``most`` of ``count`` roundings, and no more than lift the SQNR to a goal.

    Ranked by what each does alone: where several ruin the outputs each by itself, sparing one of
    them gains nothing. Then, from the least harmful on, those are made after all without which the
    outputs are no better.
    """
    asked = _Asked(trial, progress, count + 2 * most)
    every = frozenset(range(count))
    alone = [asked({place}) for place in range(count)]
    ranked = sorted(range(count), key=alone.__getitem__)
    harmful = [place for place in ranked if alone[place] < math.inf][:most]
    needed = _fewest(lambda n: asked(every - {*harmful[:n]}), len(harmful), goal_db)
    made, spared = every - {*harmful[:needed]}, list[Spared]()
    for place in reversed(harmful[:needed]):
        gained = _gain(asked(made), asked(made | {place}))
        if gained > 0:
            spared.insert(0, Spared(place, alone[place], gained))
        else:
            made |= {place}
    choice = Choice(tuple(spared), asked(every), asked(made))
    asked.finish()
    return choice


def refine(
    sqnr_db: Callable[[frozenset[str]], float], names: Sequence[str], least_db: float
) -> list[Refinement]:
    """Choose which refinements to make, in the order of ``names``: from all of them, the one that
    matters least is given up, of equal ones the last, until each gains ``least_db``. ``sqnr_db``:
    SQNR with these."""
    made, gained = list(names), dict[str, float]()
    while made:
        now = sqnr_db(frozenset(made))
        gained |= {name: _gain(now, sqnr_db(frozenset(made) - {name})) for name in made}
        least = min(reversed(made), key=gained.__getitem__)
        if gained[least] >= least_db:
            break
        made.remove(least)
    return [Refinement(name, gained[name], name in made) for name in names]


@dataclass
class _Asked:
    """A trial that answers a question once, and tells how far it is. ``total``: about how many
    questions there will be."""

    trial: Trial
    progress: Progress
    total: int
    answers: dict[frozenset[int], float] = field(default_factory=dict)

    def __call__(self, on: Collection[int]) -> float:
        on = frozenset(on)
        if on not in self.answers:
            self.answers[on] = self.trial(on)
            self.progress(_WHAT, min(len(self.answers), self.total - 1), self.total)
        return self.answers[on]

    def finish(self) -> None:
        self.progress(_WHAT, self.total, self.total)


_WHAT = "Trying roundings"


def _fewest(sqnr_db: Callable[[int], float], most: int, goal_db: float) -> int:
    """The least number up to ``most`` that reaches a goal, of an SQNR that rises with it; ``most``
    if none below does."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if sqnr_db(middle) >= goal_db:
            high = middle
        else:
            low = middle + 1
    return low


def _gain(better: float, worse: float) -> float:
    """dB between two SQNRs, of which either may be infinite."""
    return 0.0 if better == worse else better - worse
