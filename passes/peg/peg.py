"""peg: feed-forward networks in groups of channels, so that a scale a tensor is one a group."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal, TypeVar

import numpy as np
import onnx_graphsurgeon as gs
from pydantic import AfterValidator, Field

from sardonyx.passes.activation_sites import KINDS, SUMS, Site, activation_sites
from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.ffn_blocks import (
    BLOCK_KINDS,
    LOOKED_FOR,
    OUTER,
    BlockKind,
    FfnBlock,
    ffn_blocks,
)
from sardonyx.passes.journal import Decision, Journal, Watched
from sardonyx.passes.metadata import PREFIX, PROPS
from sardonyx.passes.peg.channels import Stream, stream_of
from sardonyx.passes.peg.groups import Range, Rule, channel_order, group_sizes
from sardonyx.passes.peg.reorder import Reorder, cut, orderings
from sardonyx.passes.peg.split import Groups, Lengths, obstacle, split_blocks
from sardonyx.passes.peg.worth import Network, kinds_worth
from sardonyx.passes.quantize.observers.channel_range import ChannelRange
from sardonyx.passes.scopes import all_nodes
from sardonyx.passes.sizes import Sizes
from sardonyx.passes.trial import AUTO
from sardonyx.runtime_ops.errors import InputError

T = TypeVar("T")

Measured = Mapping[int, Mapping[BlockKind, Range]]
"""Ranges of the tensors of each network, by ``id`` of its FFN-out product and by kind."""

Family = list[FfnBlock]
"""Networks that share a weight or a tensor that is split."""


def _tensors(words: str) -> str:
    """An argument ``tensors``; raises ValueError where it is none."""
    if words != AUTO and not {word.strip() for word in words.split(",")} <= set(KINDS):
        raise ValueError(
            f"Input should be some of {', '.join(KINDS)}, with commas between them, or {AUTO} alone"
        )
    return words


@dataclass(frozen=True)
class Peg(Pass):
    """``y = residual + FFN(x)``  ->  the same in K groups of channels, each a tensor of its own.

    Quantizers of tensors, which other passes put there, are then quantizers of groups: the
    per-embedding-group quantization of Bondarenko et al. (arXiv 2109.12948), for hardware with one
    scale a tensor. x is what the FFN-in product reads, g what the FFN-out product reads, h what
    this makes, y the residual sum. Each of ``tensors`` that is among them is split; of ``auto``,
    those by whose groups the outputs of the model gain enough (`worth.kinds_worth`), r among them:

    (a) x and g: in K slices, multiplied by rows of the weight, K products that are added up; who
        else reads x reads its slices too,
    (b) h: where g is whole, in K products by columns of the weight; else its sum is cut,
    (c) y: in K sums, and a Concat for who reads it,
    (d) r, every other sum of two activations, as behind attention and of embeddings: cut and joined
        again, for quantizers in between; in groups of its own.

    ``k``: groups of each; with 1 all stays as it is. ``groups``: ``equal`` in size, or ``optimal``:
    those of the least noise (`groups.optimal_groups`). ``order``: channels of like ranges come to
    stand side by side, which is folded into constants: in one order for the network (``global``),
    in one for each ``layer``, with a Gather wherever it changes, or not at all (``none``). x, h and
    y of a layer share order and groups; layers that share weights share both; the order of g is its
    own. Does not fire on networks

    1. that are none by `ffn_blocks.ffn_blocks`, or the products of which are no MatMuls,
    2. where it is not known that residual, bias and what lies between have the channels of h,
    3. where the sizes of h are read, and it is to be split by columns,
    4. in a graph that was split before;

    nor on an r of fewer channels than groups, or of a number that is not known, or that calibration
    never reached.
    """

    tensors: Annotated[str, AfterValidator(_tensors)] = "x,h,y,g,r"
    k: Annotated[int, Field(ge=1)] = 6
    groups: Rule = "optimal"
    order: Literal["none", "global", "layer"] = "global"

    name: ClassVar[str] = "peg"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-4
    """Sums of partial products round anew; so do norms of channels in another order."""

    @property
    def kinds(self) -> frozenset[str]:
        """The tensors to be split, or from which that is chosen."""
        if self.tensors == AUTO:
            return frozenset(KINDS)
        return frozenset(kind.strip() for kind in self.tensors.split(","))

    @property
    def _of_networks(self) -> list[BlockKind]:
        """Those of them that are tensors of a network."""
        return [kind for kind in BLOCK_KINDS if kind in self.kinds]

    def watches(self, graph: gs.Graph) -> Watched:
        """The range of each channel, where groups depend on it. What cannot be split is refused
        here, before anything is measured."""
        if _is_split(graph):
            return {}
        journal = Journal()
        blocks = self._fitting(graph, journal)
        if self.k == 1 or not self._measures:
            return {}
        tensors = [block.tensors[kind] for block in blocks for kind in self._of_networks]
        tensors += [site.tensor for site in self._sums(graph, journal.sizes(graph))]
        return {tensor.name: (ChannelRange(),) for tensor in tensors}

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Choose the groups of all networks, put channels in order, then split."""
        if _is_split(graph):
            return 0
        blocks = self._fitting(graph, journal)
        if self.k == 1:
            return 0
        measured = {id(block.out.node): self._ranges(block, journal.watched) for block in blocks}
        if self.tensors == AUTO:
            return self._settled(graph, blocks, measured, journal).run(graph, journal)
        if self.order == "layer" and self.kinds & OUTER:
            cut(graph, [block.y for block in blocks], journal.sizes(graph), self.name)
            blocks = self._again(graph, blocks, journal)
        groups, lengths = self._ordered(graph, blocks, measured, journal.watched)
        gathers = orderings(graph)
        blocks = self._again(graph, blocks, journal)
        pairs = [(block, groups[id(block.out.node)]) for block in blocks]
        shared = {id(block.residual): held.outer for block, held in pairs if "y" in held.kinds}
        sums = zip(self._sums(graph, Sizes(graph)), lengths, strict=True)
        own = [(site, shared.get(id(site.tensor), sizes)) for site, sizes in sums if sizes]
        split_blocks(graph, pairs, own, self.name)
        what = f"{len(blocks)} networks in {self.k} groups of channels ({self.tensors})"
        only = f"{gathers} {'Gather' if gathers == 1 else 'Gathers'} for nothing but orders"
        how = f"{self.groups} sizes, order {self.order}, {only}"
        journal.decided.append(Decision(self.name, what, how))
        return len(blocks)

    def _sums(self, graph: gs.Graph, sizes: Sizes) -> list[Site]:
        """Sums that are no part of a network, if they are to be split and have enough channels."""
        sites = activation_sites(graph) if SUMS in self.kinds else []
        return [s for s in sites if s.kind == SUMS and _channels(s.tensor, sizes) >= self.k]

    @property
    def _measures(self) -> bool:
        plain = self.groups == "equal" and self.order == "none"
        return not plain or self.tensors == AUTO or SUMS in self.kinds

    def _settled(
        self, graph: gs.Graph, blocks: Sequence[FfnBlock], measured: Measured, journal: Journal
    ) -> "Peg":
        """The same pass for the tensors that are worth it; of one group, if none is."""
        networks = list[Network]()
        for block in blocks:
            held = measured[id(block.out.node)]
            networks.append({k: (str(block.tensors[k].name), held[k]) for k in self._of_networks})
        for site in self._sums(graph, journal.sizes(graph)):
            seen = _range(site.tensor, journal.watched)
            networks += [{SUMS: (str(site.tensor.name), seen)}] if seen else []
        ordered = self.order != "none"
        worth = kinds_worth(networks, self.k, self.groups, ordered, self.name, journal)
        return replace(self, tensors=",".join(worth)) if worth else replace(self, k=1, tensors="x")

    def _fitting(self, graph: gs.Graph, journal: Journal) -> list[FfnBlock]:
        """The networks that can be split."""
        sizes, found = journal.sizes(graph), list[FfnBlock]()
        for block in ffn_blocks(graph, journal):
            reason = obstacle(block, self.kinds, sizes)
            if reason:
                journal.miss(self.name, block.out.node, reason)
            else:
                found.append(block)
        if not found:
            missed = (f": {m.node}: {m.reason}" for m in journal.missed if m.by == self.name)
            raise InputError(
                f"no feed-forward network that can be split was found{next(missed, '')}; "
                f"looked for {LOOKED_FOR}; the bodies of If, Loop and Scan were not searched"
            )
        self._check_width(found)
        if self.k > 1 and not self._of_networks and not self._sums(graph, sizes):
            raise InputError(
                f"{self.name}.k={self.k}: no sum of kind '{SUMS}' is known to have so many channels"
            )
        return found

    def _check_width(self, blocks: Sequence[FfnBlock]) -> None:
        widths = [
            (block.out.view.shape[0 if kind == "g" else 1], block.layer, kind)
            for block in blocks
            for kind in self._of_networks
        ]
        width, layer, kind = min(widths, default=(self.k, 0, ""))
        if not 1 <= self.k <= width:
            raise InputError(
                f"{self.name}.k={self.k}: '{kind}' of layer {layer} has {width} channels: choose a "
                f"k from 1 to {width}"
            )

    def _ranges(self, block: FfnBlock, watched: Watched) -> dict[BlockKind, Range]:
        """What was measured of a network."""
        found = dict[BlockKind, Range]()
        for kind in self._of_networks if self._measures else ():
            tensor = block.tensors[kind]
            seen = _range(tensor, watched)
            if seen is None:
                raise InputError(
                    f"calibration never reached layer {block.layer}: '{tensor.name}' had no "
                    "values; give samples that run through all of the model"
                )
            found[kind] = seen
        return found

    def _again(
        self, graph: gs.Graph, blocks: Sequence[FfnBlock], journal: Journal
    ) -> list[FfnBlock]:
        """The same networks, found anew: their tensors may be others."""
        here = {id(block.out.node): block for block in ffn_blocks(graph, journal)}
        return [here[id(block.out.node)] for block in blocks if id(block.out.node) in here]

    def _ordered(
        self, graph: gs.Graph, blocks: Sequence[FfnBlock], measured: Measured, watched: Watched
    ) -> tuple[dict[int, Groups], list[Lengths]]:
        """Put channels in order; the groups of each network, by ``id`` of its FFN-out product, and
        of other sums."""
        reorder, sizes = Reorder(graph, self.name), Sizes(graph)
        outer, inner = (
            self._grouped(reorder, sizes, blocks, kinds, measured)
            for kinds in (self.kinds & OUTER, self.kinds - OUTER - {SUMS})
        )
        sums = [self._lengths(site, reorder, watched) for site in self._sums(graph, sizes)]
        reorder.apply()
        products = [id(block.out.node) for block in blocks]
        groups = {p: Groups(self.kinds, outer.get(p, ()), inner.get(p, ())) for p in products}
        return groups, sums

    def _lengths(self, site: Site, reorder: Reorder, watched: Watched) -> Lengths:
        """The groups of a sum by itself, in the order that it is to have; none where calibration
        never reached it."""
        found = _range(site.tensor, watched)
        if found is None:
            return ()
        low, high = found
        order = reorder.order_of(site.tensor)
        order = np.arange(low.size) if order is None else order
        return group_sizes([(low, high)], order, self.k, self.groups)

    def _grouped(
        self,
        reorder: Reorder,
        sizes: Sizes,
        blocks: Sequence[FfnBlock],
        kinds: frozenset[str],
        measured: Measured,
    ) -> dict[int, Lengths]:
        """The groups that tensors of some kinds share, network by network. Their order is put down
        in ``reorder``."""
        streams, found = _Streams(reorder.graph, sizes, kinds), dict[int, Lengths]()
        families = _joined(blocks, _held) if kinds else []
        plain = self.order == "none"
        clusters = [[family] for family in families]
        if not plain:
            clusters = _joined(families, lambda family: map(id, streams.of(family)))
        for cluster in clusters:
            sets = [_merged(family, kinds, measured) for family in cluster]
            if plain:
                order = np.arange(cluster[0][0].out.view.shape["g" not in kinds])
            else:
                order = channel_order(sets, self.k, self.groups)
                for stream in streams.of([block for family in cluster for block in family]):
                    reorder.permute(stream, order)
            for family, ranges in zip(cluster, sets, strict=True):
                lengths = group_sizes(ranges, order, self.k, self.groups)
                found |= {id(block.out.node): lengths for block in family}
        return found


def _channels(tensor: gs.Tensor, sizes: Sizes) -> int:
    """The size of the last axis; 0 where it is not known."""
    shape = sizes.shape(tensor)
    return shape[-1] if shape and isinstance(shape[-1], int) else 0


def _range(tensor: gs.Tensor, watched: Watched) -> Range | None:
    """The measured range of each channel of a tensor; None where it had no values."""
    (seen,) = watched[tensor.name]
    assert isinstance(seen, ChannelRange)
    reached = seen.low.size > 0 and np.isfinite([seen.low, seen.high]).all()
    return (seen.low, seen.high) if reached else None


def _is_split(graph: gs.Graph) -> bool:
    return any(f"{PREFIX}site" in node.attrs.get(PROPS, {}) for node in all_nodes(graph))


def _held(block: FfnBlock) -> Iterable[Hashable]:
    """What networks may share."""
    weights = [use.view.constant for use in (*block.ins, block.out)]
    return [id(tensor) for tensor in (*weights, block.x, block.g)]


def _joined(items: Sequence[T], keys: Callable[[T], Iterable[Hashable]]) -> list[list[T]]:
    """Items that have a key in common, together, also by way of others."""
    groups: list[tuple[set[Hashable], list[T]]] = []
    for item in items:
        held, members = set(keys(item)), list[T]()
        for known, others in [group for group in groups if group[0] & held]:
            held, members = held | known, members + others
        groups = [group for group in groups if not group[0] & held]
        groups.append((held, [*members, item]))
    return [members for _, members in groups]


def _merged(family: Family, kinds: frozenset[str], measured: Measured) -> list[Range]:
    """The range of each kind over all networks of a family; nothing if none was measured."""
    found = [measured[id(block.out.node)] for block in family]
    merged = []
    for kind in sorted(kind for kind in found[0] if kind in kinds):
        lows, highs = zip(*(ranges[kind] for ranges in found), strict=True)
        merged.append((np.minimum.reduce(lows), np.maximum.reduce(highs)))
    return merged


@dataclass
class _Streams:
    """The streams of tensors of some kinds, each found once."""

    graph: gs.Graph
    sizes: Sizes
    kinds: frozenset[str]
    found: list[Stream] = field(default_factory=list)

    def of(self, family: Family) -> list[Stream]:
        """Those of the networks of a family."""
        tensors = [getattr(block, kind) for block in family for kind in sorted(self.kinds)]
        return list({id(stream): stream for stream in map(self._stream, tensors)}.values())

    def _stream(self, tensor: gs.Tensor) -> Stream:
        held = next((stream for stream in self.found if stream.holds(tensor)), None)
        if held is None:
            held = stream_of(self.graph, tensor, self.sizes)
            self.found.append(held)
        return held
