"""All passes, by name."""

from sardonyx.passes.base import Pass
from sardonyx.passes.cleanup.dequantize_sums import DequantizeSums
from sardonyx.passes.cleanup.fold_constants import FoldConstants
from sardonyx.passes.cleanup.fold_shapes import FoldShapes
from sardonyx.passes.cleanup.freeze_ranges import FreezeRanges
from sardonyx.passes.cleanup.hoist_quantize import HoistQuantize
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.cleanup.merge_constants import MergeConstants
from sardonyx.passes.cleanup.merge_equal import MergeEqual
from sardonyx.passes.cleanup.merge_movements import MergeMovements
from sardonyx.passes.cleanup.merge_requantize import MergeRequantize
from sardonyx.passes.cleanup.remove_no_ops import RemoveNoOps
from sardonyx.passes.cleanup.remove_saturated import RemoveSaturated
from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.cleanup.round_once import RoundOnce
from sardonyx.passes.cleanup.sink_dequantize import SinkDequantize
from sardonyx.passes.cleanup.unsign_codes import UnsignCodes
from sardonyx.passes.fuse.attention import FuseAttention
from sardonyx.passes.fuse.gelu import FuseGelu
from sardonyx.passes.fuse.layer_norm import FuseLayerNorm
from sardonyx.passes.fuse.linear_bias import FuseLinearBias
from sardonyx.passes.fuse.projection_bias import FuseProjectionBias
from sardonyx.passes.fuse.skip_layer_norm import FuseSkipLayerNorm
from sardonyx.passes.gobo.encode import Gobo
from sardonyx.passes.lower.dynamic_linear import LowerDynamicLinear
from sardonyx.passes.lower.integer_linear import LowerIntegerLinear
from sardonyx.passes.lower.keep_layer_norm import KeepLayerNorm
from sardonyx.passes.lower.merge_projections import MergeProjections
from sardonyx.passes.lower.raise_opset import RaiseOpset
from sardonyx.passes.peg.peg import Peg
from sardonyx.passes.quantize.insert_qdq import InsertQdq
from sardonyx.passes.quantize.quantize_values import QuantizeValues
from sardonyx.passes.quantize.smooth_quant import SmoothQuant
from sardonyx.passes.unfuse.attention import UnfuseAttention
from sardonyx.passes.unfuse.embed_layer_norm import UnfuseEmbedLayerNorm
from sardonyx.passes.unfuse.gelu import UnfuseGelu
from sardonyx.passes.unfuse.gemm import UnfuseGemm
from sardonyx.passes.unfuse.integer_linear import UnfuseIntegerLinear
from sardonyx.passes.unfuse.matmul import UnfuseMatMul
from sardonyx.passes.unfuse.matmul_integer import UnfuseMatMulInteger
from sardonyx.passes.unfuse.multi_head_attention import UnfuseMultiHeadAttention
from sardonyx.passes.unfuse.qlinear_matmul import UnfuseQLinearMatMul
from sardonyx.passes.unfuse.skip_layer_norm import UnfuseSkipLayerNorm

PASSES: dict[str, type[Pass]] = {
    cls.name: cls
    for cls in (
        LiftConstants,
        FoldConstants,
        SinkDequantize,
        HoistQuantize,
        UnsignCodes,
        RemoveUnused,
        UnfuseAttention,
        UnfuseEmbedLayerNorm,
        UnfuseMultiHeadAttention,
        UnfuseMatMul,
        UnfuseIntegerLinear,
        UnfuseMatMulInteger,
        UnfuseSkipLayerNorm,
        UnfuseGelu,
        UnfuseGemm,
        Peg,
        InsertQdq,
        QuantizeValues,
        SmoothQuant,
        FreezeRanges,
        Gobo,
        FoldShapes,
        RemoveNoOps,
        MergeMovements,
        RemoveSaturated,
        MergeRequantize,
        RoundOnce,
        UnfuseQLinearMatMul,
        DequantizeSums,
        MergeEqual,
        MergeConstants,
        LowerIntegerLinear,
        MergeProjections,
        LowerDynamicLinear,
        RaiseOpset,
        FuseAttention,
        FuseProjectionBias,
        FuseGelu,
        FuseSkipLayerNorm,
        FuseLayerNorm,
        FuseLinearBias,
        KeepLayerNorm,
    )
}

__all__ = ["PASSES", "Pass"]
