"""All passes, by name."""

from sardonyx.passes.base import Pass
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.gobo.encode import Gobo

PASSES: dict[str, type[Pass]] = {cls.name: cls for cls in (LiftConstants, RemoveUnused, Gobo)}

__all__ = ["PASSES", "Pass"]
