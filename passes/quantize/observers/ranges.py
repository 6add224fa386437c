"""The range that a tensor's scale is made from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Values outside ``low`` <= 0 <= ``high`` are clipped. Both are 0 for a tensor without values
    or of zeros only.

    ``method``: by which it was found, such as "kl-symmetric". ``loss``: what the method made
    least: an expected squared error ("mse-..."), a divergence in nats ("kl-..."), or the share of
    values clipped ("percentile"); 0 for others. ``curve``: (threshold, loss) at the thresholds
    tried, ascending, at most 256 a side; those below zero are tries of ``low``.
    """

    low: float
    high: float
    method: str
    loss: float
    curve: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.low <= 0 <= self.high:
            raise ValueError(f"the range {self.low} to {self.high} does not hold 0")
