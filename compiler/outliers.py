"""outliers: which channels of a model's activations hold values far from all others, and how much
attention rests on the ends of its inputs; both are what makes 8 bits too few for some models."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.compiler.calibrate import Calibration
from sardonyx.compiler.calibration_source import DATA_FORMS, Given
from sardonyx.compiler.driver import Driver
from sardonyx.compiler.load import load
from sardonyx.compiler.pipeline import NORMALIZE
from sardonyx.compiler.targets import target_named
from sardonyx.compiler.verify import Verification
from sardonyx.passes.activation_sites import Site, activation_sites
from sardonyx.passes.ffn_blocks import LOOKED_FOR, BlockKind, FfnBlock, ffn_blocks
from sardonyx.passes.journal import Journal, Progress, Watched
from sardonyx.passes.quantize.observers.attention_ends import AttentionEnds
from sardonyx.passes.quantize.observers.channel_range import ChannelRange
from sardonyx.passes.quantize.observers.outlying_channels import OutlyingChannels
from sardonyx.passes.weights import ALREADY, other_constants, weight_uses
from sardonyx.runtime_ops.errors import InputError

DEVIATIONS = 6.0
"""Standard deviations from a tensor's mean beyond which a value is an outlier (Bondarenko et al.,
arXiv 2109.12948)."""


@dataclass(frozen=True, eq=False)
class TensorOutliers:
    """One tensor of one layer. ``kind``: which of its `FfnBlock`; ``name``: in the model."""

    layer: int
    kind: BlockKind
    name: str
    channels: OutlyingChannels
    range: ChannelRange

    @property
    def width(self) -> int:
        """How many channels it has."""
        return int(self.channels.beyond.size)

    @property
    def shares(self) -> dict[int, float]:
        """Of each channel with outliers: its share of all, the largest first."""
        beyond = self.channels.beyond
        order = np.argsort(-beyond, kind="stable")[: np.count_nonzero(beyond)]
        return {int(channel): float(beyond[channel] / beyond.sum()) for channel in order}


@dataclass(frozen=True, eq=False)
class Outliers:
    """What was found in a model. ``tensors``: layer by layer, x, g, h and y of each; ``attention``:
    by layer, where probabilities are computed by ops of their own; ``sites``: all that would be
    quantized; ``samples``: measured on."""

    tensors: tuple[TensorOutliers, ...]
    attention: dict[int, AttentionEnds]
    sites: tuple[Site, ...]
    samples: int

    @property
    def roles(self) -> Counter[str]:
        """How many sites there are of each role."""
        return Counter(site.role for site in self.sites)

    @property
    def kinds(self) -> Counter[str]:
        """How many are a tensor of each kind."""
        return Counter(site.kind for site in self.sites if site.kind)


def find_outliers(
    model: str | Path,
    calibration: Given | None,
    *,
    tokenizer: str | Path | None = None,
    progress: Progress | None = None,
) -> Outliers:
    """Measure the tensors of all feed-forward networks and the attention of a model file.

    ``calibration``, ``tokenizer``: as `compile` takes them. Raises InputError where there are none,
    the model is quantized, or it has no feed-forward network.
    """
    if calibration is None:
        raise InputError(f"--outliers measures activations, which needs {DATA_FORMS}")
    source, graph = load(Path(model))
    journal, data = (
        Journal(progress) if progress else Journal(),
        Calibration(calibration, tokenizer),
    )
    driver = Driver(source, graph, journal, Verification("off"), data)
    for a_pass in NORMALIZE:
        driver.run(a_pass)
    _check_float(graph, Path(model))
    for a_pass in target_named("portable").prepare:
        driver.run(a_pass)
    blocks, sites = _blocks(graph, Path(model)), activation_sites(graph)
    probabilities = _probabilities(sites)
    watches: Watched = {name: (AttentionEnds(),) for name in probabilities.values()}
    for block in blocks:
        statistics = OutlyingChannels(DEVIATIONS), ChannelRange()
        watches |= {tensor.name: statistics for tensor in block.tensors.values()}
    seen = data.measure("--outliers", source, graph, watches, journal.progress)
    found = [one for block in blocks for one in _found(block, seen)]
    ends = {layer: _ends(seen[name]) for layer, name in probabilities.items()}
    attention = {layer: each for layer, each in ends.items() if each.sequences}
    return Outliers(tuple(found), attention, tuple(sites), len(data.opened(source, graph)))


def _check_float(graph: gs.Graph, path: Path) -> None:
    """Refuse a model in which weights are quantized: what it computes is not what is asked."""
    for name, _, reason in other_constants(graph, weight_uses(graph)):
        if reason.startswith(ALREADY):
            raise InputError(
                f"'{path}' is no floating-point model: '{name}' is {reason}; outliers are measured "
                "on the model it was made from"
            )


def _blocks(graph: gs.Graph, path: Path) -> list[FfnBlock]:
    journal = Journal()
    found = ffn_blocks(graph, journal)
    if not found:
        missed = next((f"; '{miss.node}': {miss.reason}" for miss in journal.missed), "")
        raise InputError(f"'{path}' has no feed-forward network: looked for {LOOKED_FOR}{missed}")
    return found


def _probabilities(sites: list[Site]) -> dict[int, str]:
    """The first probabilities of each layer, by name."""
    found: dict[int, str] = {}
    for site in sites:
        if site.role == "probabilities" and site.layer is not None:
            found.setdefault(site.layer, site.tensor.name)
    return found


def _found(block: FfnBlock, seen: Watched) -> Iterator[TensorOutliers]:
    for kind, tensor in block.tensors.items():
        channels, ranges = seen[tensor.name]
        assert isinstance(channels, OutlyingChannels)
        assert isinstance(ranges, ChannelRange)
        yield TensorOutliers(block.layer, kind, tensor.name, channels, ranges)


def _ends(statistics: tuple[object, ...]) -> AttentionEnds:
    (ends,) = statistics
    assert isinstance(ends, AttentionEnds)
    return ends
