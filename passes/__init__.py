"""All passes, by name."""

from sardonyx.passes.base import Pass
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.fuse.gelu import FuseGelu
from sardonyx.passes.fuse.layer_norm import FuseLayerNorm
from sardonyx.passes.fuse.skip_layer_norm import FuseSkipLayerNorm
from sardonyx.passes.gobo.encode import Gobo
from sardonyx.passes.unfuse.attention import UnfuseAttention
from sardonyx.passes.unfuse.embed_layer_norm import UnfuseEmbedLayerNorm

PASSES: dict[str, type[Pass]] = {
    cls.name: cls
    for cls in (
        LiftConstants,
        RemoveUnused,
        UnfuseAttention,
        UnfuseEmbedLayerNorm,
        FuseGelu,
        FuseLayerNorm,
        FuseSkipLayerNorm,
        Gobo,
    )
}

__all__ = ["PASSES", "Pass"]
