"""simulate: a compiled model on models of chips, at one batch and one sequence length."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sardonyx.runtime_ops.accelerator.chip import Chip
from sardonyx.runtime_ops.accelerator.energy import Energy
from sardonyx.runtime_ops.accelerator.timeline import Timeline


@dataclass(frozen=True)
class Simulation:
    """A model on a chip.

    model: its file. batch, sequence: sizes of its inputs; None for one that the model does not
    have. timeline: what each layer costs, and when; its totals are those of the model.
    """

    model: Path
    batch: int | None
    sequence: int | None
    timeline: Timeline

    @property
    def chip(self) -> Chip:
        return self.timeline.chip

    @property
    def cycles(self) -> int:
        return self.timeline.cycles

    @property
    def seconds(self) -> float:
        return self.timeline.seconds

    @property
    def energy(self) -> Energy:
        return self.timeline.energy

    @property
    def host_ops(self) -> Counter[str]:
        """Ops that run on the host, for want of a unit on the chip, and how many nodes each."""
        return Counter(time.layer.op for time in self.timeline.layers if time.unit == "host")
