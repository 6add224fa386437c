"""widen: which activations are worth 16 bits, by what the model's outputs gain."""

import math
from collections.abc import Mapping

from sardonyx.passes.journal import Decision, Journal
from sardonyx.passes.quantize.sensitivity import spare
from sardonyx.passes.trial import Rounding
from sardonyx.runtime_ops.uniform import Grid

_ROUNDS_UP = 1e-9
"""So that a share that makes a whole number is not taken for less."""


def widened(
    grids: Mapping[str, Grid], budget: float, goal_db: float, by: str, journal: Journal
) -> dict[str, str]:
    """Names of the activations to be rounded in 16 bits, with the reason, the worst first.

    ``grids``: of 8 bits, by name, of all that are to be rounded. ``budget``: the largest share of
    them. ``goal_db``: SQNR of the outputs that is enough. 16 bits are tried as no rounding at all:
    they lose 48 dB less than 8.
    """
    if not grids:
        return {}
    names = list(grids)
    trial = journal.trial([Rounding.of(name, grid) for name, grid in grids.items()])
    most = math.floor(budget * len(names) + _ROUNDS_UP)
    choice = spare(trial, len(names), most, goal_db, journal.progress)
    what = f"{len(choice.spared)} of {len(names)} activations in 16 bits"
    gain = f"outputs of {choice.rest_db:.1f} dB, and of {choice.all_db:.1f} dB with all in 8 bits"
    journal.decided.append(Decision(by, what, gain))
    return {
        names[one.place]: f"alone in 8 bits it leaves outputs of {one.alone_db:.1f} dB; "
        f"16 gain {one.gained_db:.1f} dB"
        for one in choice.spared
    }
