"""targets: where a compiled model is to run, and what that asks of the passes around a recipe's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import dropwhile, takewhile
from typing import Any

from sardonyx.passes.base import Pass
from sardonyx.passes.cleanup.merge_equal import MergeEqual
from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.fuse.attention import FuseAttention
from sardonyx.passes.fuse.gelu import FuseGelu
from sardonyx.passes.fuse.layer_norm import FuseLayerNorm
from sardonyx.passes.fuse.linear_bias import FuseLinearBias
from sardonyx.passes.fuse.projection_bias import FuseProjectionBias
from sardonyx.passes.lower.dynamic_linear import LowerDynamicLinear
from sardonyx.passes.lower.integer_linear import LowerIntegerLinear
from sardonyx.passes.lower.keep_layer_norm import KeepLayerNorm
from sardonyx.passes.lower.merge_projections import MergeProjections
from sardonyx.passes.lower.raise_opset import RaiseOpset
from sardonyx.passes.quantize.quantize_values import QuantizeValues
from sardonyx.passes.unfuse.attention import UnfuseAttention
from sardonyx.passes.unfuse.embed_layer_norm import UnfuseEmbedLayerNorm
from sardonyx.passes.unfuse.gelu import UnfuseGelu
from sardonyx.passes.unfuse.matmul import UnfuseMatMul
from sardonyx.passes.unfuse.multi_head_attention import UnfuseMultiHeadAttention
from sardonyx.passes.unfuse.skip_layer_norm import UnfuseSkipLayerNorm
from sardonyx.runtime_ops.errors import InputError


@dataclass(frozen=True)
class Target:
    """``name``: as after ``--target``. ``prepare``, ``finish``: passes that run before and after
    the recipe's; ``last``: after those that settle at the recipe's end, which clean up behind
    ``finish`` too. ``standard``: only standard ops are wanted, so that the report lists others that
    stayed. ``inline_all``: passes are to see what the model's functions hold, and none is to stay
    in an older opset than the graph. ``defaults``: by pass, arguments that are better here than the
    pass's own defaults. ``limits``: by pass, the largest values that its processor serves.
    ``leaves_out``: names of passes that do nothing for it but cost time."""

    name: str = "portable"
    prepare: tuple[Pass, ...] = ()
    finish: tuple[Pass, ...] = ()
    last: tuple[Pass, ...] = ()
    standard: bool = False
    inline_all: bool = False
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    limits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    leaves_out: frozenset[str] = frozenset()

    def completed(self, passes: Sequence[Pass]) -> tuple[Pass, ...]:
        """A recipe's passes and the target's, in their order; what both have at the recipe's start
        runs once.

        Raises InputError where a pass that is left out was to make activations of 16 bits.
        """
        for a_pass in (a_pass for a_pass in passes if a_pass.name in self.leaves_out):
            if isinstance(a_pass, QuantizeValues) and a_pass.wide:
                raise InputError(
                    f"{a_pass.name}.wide={a_pass.wide}: target '{self.name}' has no integer "
                    "products of 16 bits: compile for the target portable, or with a recipe of 8 "
                    "bits, as peg or int8-kl"
                )
        own = [a_pass for a_pass in passes if a_pass.name not in self.leaves_out]
        own = list(dropwhile(lambda a_pass: a_pass in self.prepare, own))
        cleanup = list(takewhile(lambda a_pass: a_pass.settles, reversed(own)))[::-1]
        work = own[: len(own) - len(cleanup)]
        return (*self.prepare, *work, *self.finish, *cleanup, *self.last)

    def settled(self, a_pass: Pass) -> Pass:
        """A pass of a recipe with this target's defaults, where the recipe says nothing else."""
        own = {each.name: each.default for each in fields(a_pass)}
        here = self.defaults.get(a_pass.name, {})
        better = {k: v for k, v in here.items() if getattr(a_pass, k) == own[k]}
        return replace(a_pass, **better) if better else a_pass

    def check(self, passes: Sequence[Pass]) -> None:
        """Raises InputError where a pass is to make what the target does not serve."""
        for a_pass in passes:
            for argument, most in self.limits.get(a_pass.name, {}).items():
                value = getattr(a_pass, argument)
                if value > most:
                    raise InputError(
                        f"{a_pass.name}.{argument}={value}: sums of such products saturate on a "
                        f"processor without VNNI; set it to {most} or less, or compile for the "
                        "target cpu-vnni"
                    )


_UNFUSED: tuple[Pass, ...] = (
    UnfuseAttention(),
    UnfuseEmbedLayerNorm(),
    UnfuseMultiHeadAttention(),
    UnfuseMatMul(),
    UnfuseSkipLayerNorm(),
    UnfuseGelu(),
)
"""Whatever somebody fused becomes standard ops."""

_ACCURATE: dict[str, Any] = {"good_enough_db": 60.0}
"""Of smooth-quant: a Mul wherever it gains something, on targets that are not for speed."""

_PORTABLE = Target(prepare=_UNFUSED, standard=True, defaults={"smooth-quant": _ACCURATE})

_ALL_BITS = {"insert-qdq": {"weight_bits": 8}, "smooth-quant": {"weight_bits": 8} | _ACCURATE}
"""Where sums of products do not saturate."""


def _cpu(name: str, vnni: bool = False) -> Target:
    """onnxruntime on a CPU, with or without VNNI.

    Products of 8 bits are lowered ahead of `RaiseOpset`, which stops at a standard QuantizeLinear,
    and ahead of the fusions, so that their op has the bias, which it adds at no cost; those find
    the rest of their formulas as before. Equal nodes are merged first: products are told to have
    one activation by its being one tensor. Only products gain from integers: other activations stay
    as they are, so that `Peg` splits what products read alone.
    """
    return Target(
        name=name,
        prepare=_UNFUSED,
        finish=(
            MergeEqual(),
            LowerIntegerLinear(vnni),
            MergeProjections(),
            LowerDynamicLinear(),
            RaiseOpset(),
            FuseAttention(),
            FuseProjectionBias(),
            FuseGelu(),
            FuseLayerNorm(),
            FuseLinearBias(),
            RemoveUnused(),
        ),
        last=(KeepLayerNorm(),),
        inline_all=True,
        defaults={"peg": {"tensors": "x,g"}} | (_ALL_BITS if vnni else {}),
        limits={} if vnni else {"insert-qdq": {"weight_bits": 7}},
        leaves_out=frozenset((QuantizeValues.name,)),
    )


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (_PORTABLE, _cpu("cpu"), _cpu("cpu-avx2"), _cpu("cpu-vnni", vnni=True))
}
"""``portable``: any runtime of ONNX. ``cpu``: onnxruntime on a CPU, with its own ops; the other two
say for recipes of 8 bits which instructions it has."""


def target_named(name: str) -> Target:
    """Raises InputError, with the names there are, for an unknown one."""
    if name not in TARGETS:
        raise InputError(f"there is no target '{name}': there is {', '.join(TARGETS)}")
    return TARGETS[name]
