"""fuse-gelu: the formulas of Gelu become onnxruntime's ops."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import onnx_graphsurgeon as gs

from sardonyx.passes.attempt import State
from sardonyx.passes.base import Pass
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.fuse.formula import Formula, fuse
from sardonyx.passes.fuse.needs import is_no_vector, need_float32, need_same_rank, need_vector
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.fused import MICROSOFT
from sardonyx.passes.journal import Journal
from sardonyx.passes.match import Pattern, Scalar, Value, op
from sardonyx.passes.origin import behind, maker
from sardonyx.passes.rewrite import Draft
from sardonyx.passes.sizes import Sizes

_X = Value("x")
_BIASED = (("x", Value("y") + Value("bias", is_no_vector)),)


def _halved(s: Pattern) -> Pattern:
    """``x (1 + s) / 2``."""
    return _X * (1 + s) * 0.5 | _X * (s * 0.5 + 0.5) | _X * 0.5 + _X * s * 0.5


ERF_GELU = _halved(op("Erf", _X / math.sqrt(2)))

_C, _D = math.sqrt(2 / math.pi), 0.044715
_CUBIC = (
    (_X + _X**3 * _D) * _C
    | _X * (1 + _X**2 * _D) * _C
    | _X * _C + _X**3 * (_C * _D)
    | _X * (_X**2 * (_C * _D) + _C)
)
TANH_GELU = _halved(op("Tanh", _CUBIC))

QUICK_GELU = _X * op("Sigmoid", _X * Scalar("alpha"))

_OP = op("Gelu", _X)


@dataclass(frozen=True)
class FuseGelu(Pass):
    """``x (1 + erf(x / sqrt 2)) / 2``  ->  ``Gelu(x)``, or ``BiasGelu(y, bias)`` of x = y + bias.

    Also ``x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2  ->  FastGelu(x[, bias])``,
    ``x sigmoid(alpha x)  ->  QuickGelu(x)``, and the standard ``Gelu(y + bias)``, exact or by tanh,
    ->  ``BiasGelu``, ``FastGelu``. Products and sums may be written in any order and grouping, or
    multiplied out. Does not fire

    1. where another number stands in the formula,
    2. where something else reads a value inside it; if that is y + bias, it becomes x,
    3. on other types than float32, for which onnxruntime has kernels on the CPU,
    4. on the standard Gelu of a tensor that is no y + bias, where nothing would be gained.

    A bias is a constant vector with as many elements as the last axis of y.
    """

    name: ClassVar[str] = "fuse-gelu"
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 1e-5
    """The kernels approximate erf and tanh by other polynomials."""

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Fuse every one."""
        formulas = _formulas(journal.sizes(graph))
        return sum(fuse(graph, formula, journal) for formula in formulas)


def _formulas(sizes: Sizes) -> Iterator[Formula]:
    name = FuseGelu.name
    yield Formula(name, ("Erf",), (ERF_GELU,), 4, partial(_exact, sizes), _BIASED)
    yield Formula(name, ("Gelu",), (_OP,), 0, partial(_op, sizes), _BIASED)
    yield Formula(name, ("Sigmoid",), (QUICK_GELU,), 2, partial(_quick, sizes), meant=is_gate)
    build = partial(_by_tanh, sizes)
    yield Formula(name, ("Tanh",), (TANH_GELU,), 4, build, _BIASED, meant=is_of_a_power)


def _exact(sizes: Sizes, draft: Draft, found: State) -> gs.Node:
    operands = _operands(sizes, found)
    name = "BiasGelu" if len(operands) > 1 else "Gelu"
    draft.add(name, name, operands, domain=MICROSOFT)
    return draft.nodes[-1]


def _by_tanh(sizes: Sizes, draft: Draft, found: State) -> gs.Node:
    draft.add("FastGelu", "FastGelu", _operands(sizes, found), domain=MICROSOFT)
    return draft.nodes[-1]


def _quick(sizes: Sizes, draft: Draft, found: State) -> gs.Node:
    alpha = found.numbers["alpha"]
    draft.add("QuickGelu", "QuickGelu", _operands(sizes, found), domain=MICROSOFT, alpha=alpha)
    return draft.nodes[-1]


def _op(sizes: Sizes, draft: Draft, found: State) -> gs.Node:
    if "bias" not in found.values:
        x = found.values["x"]
        raise Unfit(f"nothing is gained: '{x.name}' is no sum of a tensor and a constant vector")
    build = _by_tanh if found.nodes[0].attrs.get("approximate", "none") == "tanh" else _exact
    return build(sizes, draft, found)


def _operands(sizes: Sizes, found: State) -> list[gs.Tensor]:
    """x, or y and the bias."""
    x, bias = found.values.get("y", found.values["x"]), found.values.get("bias")
    need_float32(found)
    need_same_rank(sizes, x, found)
    need_vector(sizes, x, "bias", bias)
    return [x] if bias is None else [x, bias]


def is_of_a_power(tanh: gs.Node) -> bool:
    """Whether a tanh is of a polynomial: of sums and products in which a tensor stands twice."""
    pending, seen = [tanh.inputs[0]], set[int]()
    while pending:
        tensor, _ = behind(pending.pop())
        node = maker(tensor)
        if id(tensor) in seen or (node is not None and node.op == "Pow"):
            return True
        if not isinstance(tensor, gs.Constant):
            seen.add(id(tensor))
        pending += node.inputs if node is not None and node.op in ("Add", "Mul") else []
    return False


def is_gate(sigmoid: gs.Node) -> bool:
    """Whether a sigmoid is multiplied by what it is the sigmoid of, perhaps scaled."""
    x, _ = behind(sigmoid.inputs[0])
    scaled = maker(x)
    origins = [x, *(scaled.inputs if scaled is not None and scaled.op in ("Mul", "Div") else ())]
    gated = {id(behind(tensor)[0]) for tensor in origins}
    products = [reader for reader in sigmoid.outputs[0].outputs if reader.op == "Mul"]
    return any(id(behind(tensor)[0]) in gated for node in products for tensor in node.inputs)
