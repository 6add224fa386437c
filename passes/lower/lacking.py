"""Why something cannot be lowered for a target that lacks what it needs."""

from sardonyx.passes.fuse.unfit import Unfit


class Lacking(Unfit):
    """The reason, and what to do about it: ``advice``."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.advice = advice
