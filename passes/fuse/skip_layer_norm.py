"""fuse-skip-layer-norm: a residual sum and the normalization of it become onnxruntime's op."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.attempt import State
from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fuse.formula import Formula, fuse
from sardonyx.passes.fuse.needs import is_no_vector, need_vector, sized
from sardonyx.passes.fuse.norms import (
    ANCHOR,
    LAYER_NORM,
    LAYER_NORM_OP,
    REACH,
    RMS_NORM,
    RMS_NORM_OP,
    epsilon_of,
    is_centred,
    need_usual,
    squared,
)
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import MICROSOFT
from sardonyx.passes.journal import Journal
from sardonyx.passes.match import Value
from sardonyx.passes.origin import behind, maker
from sardonyx.passes.rewrite import Draft
from sardonyx.passes.sizes import Shape, Sizes

_OPS = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")

_A, _B, _BIAS = Value("a"), Value("b"), Value("bias", is_no_vector)
_SUMS = (("x", _A + _BIAS + _B), ("x", _A + _B))

_SUM = 3
"""The output of the ops that is the sum."""


@dataclass(frozen=True)
class FuseSkipLayerNorm(Pass):
    """``LayerNormalization(a + b)``  ->  ``SkipLayerNormalization(a, b)``.

    Written out too, at any opset. Likewise RMSNormalization, also written out or as onnxruntime's
    SimplifiedLayerNormalization, ``->  SkipSimplifiedLayerNormalization``. A constant vector in the
    sum becomes the bias; where something else reads the sum, the op gives it too. Does not fire

    1. where a and b are not known to have one shape of two or three axes; of three, one of them may
       have a first axis of 1 or none,
    2. where the norm is not over the last axis, gamma or beta are no constant vectors, or epsilon
       is no constant,
    3. where something else reads a value inside it but the sum,
    4. on other types than float32, in which the op rounds less often than the formula.
    """

    name: ClassVar[str] = "fuse-skip-layer-norm"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-5
    """The kernels add up in another order."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Fuse every one."""
        patterns = (LAYER_NORM_OP, RMS_NORM_OP, *LAYER_NORM, RMS_NORM)
        build, keeps = partial(_build, journal.sizes(graph)), (("x", _SUM),)
        anchors = (*_OPS, ANCHOR)
        formula = Formula(self.name, anchors, patterns, REACH, build, _SUMS, keeps, _is_of_a_sum)
        return fuse(graph, formula, journal)


def _build(sizes: Sizes, draft: Draft, found: State) -> gs.Node:
    values = found.values
    if "a" not in values:
        raise Unfit(f"'{values['x'].name}' is no sum")
    need_usual(sizes, found)
    operands = [*_ordered(sizes, values["a"], values["b"]), values["gamma"]]
    need_vector(sizes, values["x"], "bias", values.get("bias"))
    if is_centred(found):
        operands.append(values.get("beta") or gs.Variable.empty())
    if "bias" in values:
        operands.append(values["bias"])
    elif operands[-1].is_empty():
        operands.pop()
    op = "SkipLayerNormalization" if is_centred(found) else "SkipSimplifiedLayerNormalization"
    draft.add(op, op, operands, domain=MICROSOFT, epsilon=epsilon_of(found))
    return draft.nodes[-1]


def _ordered(sizes: Sizes, a: gs.Tensor, b: gs.Tensor) -> tuple[gs.Tensor, gs.Tensor]:
    """The operand that has the shape of the sum, and the other; raises Unfit."""
    shapes = sizes.shape(a), sizes.shape(b)
    if _fits(*shapes):
        return a, b
    if _fits(*shapes[::-1]):
        return b, a
    known = " and ".join(f"'{t.name}' {sized(s)}" for t, s in zip((a, b), shapes, strict=True))
    raise Unfit(f"{known} are not known to have one shape of two or three axes")


def _fits(x: Shape | None, skip: Shape | None) -> bool:
    """Whether onnxruntime's kernel takes them as input and skip."""
    if x is None or skip is None or len(x) not in (2, 3):
        return False
    return x == skip or (len(x) == 3 and skip in (x[1:], (1, *x[1:])))


def _is_of_a_sum(node: gs.Node) -> bool:
    """Whether what is normalized is a sum of tensors, vectors left out."""
    x = squared(node) if node.op == ANCHOR else node.inputs[0]
    made = None if x is None else maker(behind(x)[0])
    if made is not None and made.op == "Sub" and node.op == ANCHOR:
        x = made.inputs[0]
    return x is not None and _is_sum(x)


def _is_sum(tensor: gs.Tensor) -> bool:
    node = maker(behind(tensor)[0])
    if node is None or node.op != "Add":
        return False
    whole = [t for t in node.inputs if not (isinstance(t, gs.Constant) and len(t.shape) <= 1)]
    return len(whole) > 1 or any(map(_is_sum, whole))
