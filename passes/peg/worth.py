"""Which kinds of tensors are worth groups, by what the model's outputs gain."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sardonyx.passes.activation_sites import KINDS
from sardonyx.passes.ffn_blocks import OUTER
from sardonyx.passes.journal import Decision, Journal
from sardonyx.passes.peg.groups import Range, Ranges, Rule, channel_order, group_sizes
from sardonyx.passes.peg.merged import Order
from sardonyx.passes.quantize.sensitivity import Refinement, refine
from sardonyx.passes.trial import Rounding
from sardonyx.runtime_ops.uniform import Grid, grid

LEAST_DB = 1.0
"""What groups of a kind of tensor must gain to be worth their products."""

Network = Mapping[str, tuple[str, Range]]
"""By kind, the name of a tensor and the ranges of its channels. A sum that is no part of a network
is one by itself."""

_TOGETHER = (OUTER, *({kind} for kind in KINDS if kind not in OUTER))
"""Kinds that share their groups."""


def kinds_worth(
    networks: Sequence[Network], k: int, rule: Rule, ordered: bool, by: str, journal: Journal
) -> list[str]:
    """The kinds that gain `LEAST_DB` by ``k`` groups in place of one, on grids of 8 bits from the
    least to the largest value of each group: what clips is for the pass that rounds to choose.

    All tensors of all networks are rounded, nothing else; from groups of all kinds, that which
    matters least is given up, one after another. ``ordered``: channels may be put in order; which
    is tried network by network, and sum by sum, whether or not they are to share one. The kinds
    there are and what each gains are a decision of ``by`` in the journal.
    """
    kinds = [kind for kind in KINDS if any(kind in network for network in networks)]
    roundings = dict[str, tuple[str, Rounding, Rounding]]()
    for network in networks:
        for kind, name, group in _groups(network, k, rule, ordered):
            low, high = network[kind][1]
            whole = Rounding.of(name, _grid(low, high))
            grids = [_grid(low[group == g], high[group == g]) for g in range(k)]
            roundings.setdefault(name, (kind, whole, Rounding.grouped(name, grids, group)))
    pairs, most = list(roundings.values()), _most_asked(len(kinds))
    trial = journal.trial([one for _, *both in pairs for one in both])
    asked = 0

    def sqnr_db(grouped: Collection[str]) -> float:
        nonlocal asked
        asked += 1
        journal.progress("Trying groups", asked, most)
        return trial([2 * at + (kind in grouped) for at, (kind, *_) in enumerate(pairs)])

    plain_db, all_db = sqnr_db(()), sqnr_db(kinds)
    found = refine(sqnr_db, kinds, LEAST_DB)
    journal.progress("Trying groups", most, most)
    reason = f"outputs of {plain_db:.1f} dB without groups, of {all_db:.1f} dB with all in groups"
    journal.decided.append(Decision(by, _made(found), "; ".join([reason, *map(_gain, found)])))
    return [one.name for one in found if one.made]


def _most_asked(kinds: int) -> int:
    """More questions than there are, should each kind be given up."""
    return 2 + sum(1 + count for count in range(1, kinds + 1)) + 1


def _groups(
    network: Network, k: int, rule: Rule, ordered: bool
) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    """Kind and name of each tensor, and the group that each of its channels is in."""
    for kinds in filter(None, (sorted(together & network.keys()) for together in _TOGETHER)):
        ranges = [network[kind][1] for kind in kinds]
        order = _order(ranges, k, rule, ordered)
        group = np.empty(order.size, np.int64)
        group[order] = np.repeat(np.arange(k), group_sizes(ranges, order, k, rule))
        yield from ((kind, network[kind][0], group) for kind in kinds)


def _order(ranges: Ranges, k: int, rule: Rule, ordered: bool) -> Order:
    return channel_order([ranges], k, rule) if ordered else np.arange(ranges[0][0].size)


def _grid(low: NDArray[np.floating], high: NDArray[np.floating]) -> Grid:
    return grid(min(0.0, float(low.min())), max(0.0, float(high.max())))


def _made(found: Sequence[Refinement]) -> str:
    made = [one.name for one in found if one.made]
    return f"{', '.join(made) or 'no tensor'} in groups"


def _gain(one: Refinement) -> str:
    if one.made:
        return f"{one.name} gains {one.gained_db:.1f} dB"
    return f"{one.name} would gain {one.gained_db:.1f} dB"
