"""widen: which activations are worth 16 bits, by what the model's outputs gain."""

from collections.abc import Collection, Mapping

from sardonyx.passes.journal import Decision, Journal
from sardonyx.passes.quantize.sensitivity import spare
from sardonyx.passes.trial import Rounding
from sardonyx.runtime_ops.uniform import Grid

_ROUNDS_UP = 1e-9
"""So that a share that makes a whole number is not taken for less."""


def widened(
    grids: Mapping[str, tuple[Grid, Grid]], budget: float, goal_db: float, by: str, journal: Journal
) -> dict[str, str]:
    """Names of the activations to be rounded in 16 bits, with the reason, the worst first.

    ``grids``: of 8 and of 16 bits, by name, of all that are to be rounded; opset 21. ``budget``:
    the largest share of them. ``goal_db``: SQNR of the outputs that is enough.
    """
    names = list(grids)
    trial = journal.trial([Rounding.of(name, one) for name, both in grids.items() for one in both])

    def narrow(places: Collection[int]) -> float:
        """SQNR with these in 8 bits, all others in 16."""
        return trial([2 * place + (place not in places) for place in range(len(names))])

    most = int(budget * len(names) + _ROUNDS_UP)
    choice = spare(narrow, len(names), most, goal_db, journal.progress)
    what = f"{len(choice.spared)} of {len(names)} activations in 16 bits"
    gain = f"outputs of {choice.rest_db:.1f} dB, and of {choice.all_db:.1f} dB with all in 8 bits"
    journal.decided.append(Decision(by, what, gain))
    return {
        names[one.place]: f"with it alone in 8 bits outputs are of {one.alone_db:.1f} dB; "
        f"16 gain {one.gained_db:.1f} dB"
        for one in choice.spared
    }
