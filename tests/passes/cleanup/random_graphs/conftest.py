"""Random graphs that hold what recipe cleanup removes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume
from hypothesis import strategies as st

Array = np.ndarray[Any, Any]
MANY = 400
"""Elements of a tensor above which nothing more is made of it."""

INPUTS = {
    "X": ("float", ("b", "s", 4)),
    "Z": ("float", ("b", 1, "s")),
    "I": ("int64", ("b", "s")),
    "Q": ("uint8", ("b", "s", 4)),
    "W": ("float", (4,)),
}
KINDS = {"float32": "f", "uint8": "c", "int8": "c", "int64": "i"}
TYPES = {"float32": "float"}
QUANTIZERS = [(0.05, 128, "u1"), (0.05, 0, "u1"), (0.1, 0, "i1"), (0.05, -128, "i1")]


class Unfit(Exception):
    """A node cannot be made of what was drawn."""


@dataclass
class Grower:
    """Writes nodes that are valid for two sets of sizes, and keeps the shape and, of integers, the
    values of what each makes for both."""

    draw: Any
    opset: int
    made: dict[str, list[Array]]
    lines: list[str] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def node(self, text: str, result: Callable[..., Any], *read: str) -> str:
        """Add ``NAME = text``; ``result``: of the values of the tensors ``read``."""
        values = [np.asarray(result(*(self.values(name)[at] for name in read))) for at in range(2)]
        if any(value.size > MANY or value.ndim > 5 for value in values):
            raise Unfit
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        self.made[name] = values
        return name

    def values(self, name: str) -> list[Array]:
        """Of a tensor, for both sets of sizes."""
        return self.made.get(name) or [self.constants[name]] * 2

    def shape(self, name: str) -> list[int | None]:
        """Sizes; None where they are not the same in both sets."""
        a, b = (value.shape for value in self.values(name))
        return [m if m == n else None for m, n in zip(a, b, strict=True)]

    def constant(self, value: Any, dtype: str = "int64") -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = np.array(value, dtype)
        return name

    def pick(self, kinds: str = "fc", least: int = 0) -> str:
        """A tensor of at least so many axes. ``kinds``: f floats, c codes of 8 bits, i sizes."""
        held = {n: v[0] for n, v in self.made.items() if v[0].ndim >= least}
        names = [n for n, v in held.items() if KINDS.get(v.dtype.name, "?") in kinds]
        return self.of(names)

    def of(self, options: Any) -> Any:
        """One of some."""
        options = list(options)
        if not options:
            raise Unfit
        return self.draw(st.sampled_from(options))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def axis(self, x: str, fixed: bool = False) -> int:
        """An axis of a tensor, perhaps one whose size is the same in both sets."""
        return self.of(i for i, size in enumerate(self.shape(x)) if size is not None or not fixed)


def same(x: Array) -> Array:
    return x


def no_op(g: Grower) -> None:
    x = g.pick("fci")
    rank, kind = g.values(x)[0].ndim, g.values(x)[0].dtype
    number = onnx.helper.np_dtype_to_tensor_dtype(kind)
    texts = [f"Identity ({x})", f"Cast <to = {number}> ({x})"]
    if rank:
        axis = g.axis(x)
        zero, end = g.constant([0]), g.constant([g.of([1 << 31, (1 << 63) - 1])])
        texts += [
            f"Transpose <perm = {list(range(rank))}> ({x})",
            f"Reshape ({x}, {g.constant([0] * (rank - 1) + [-1])})",
            f"Expand ({x}, {g.constant([1] * g.number(1, rank))})",
            f"Concat <axis = {axis}> ({x})",
            f"Slice ({x}, {zero}, {end}, {g.constant([axis])})",
        ]
    if kind == np.float32:
        texts += [f"Dropout ({x})", *([f"Pad ({x}, {g.constant([0] * 2 * rank)})"] * bool(rank))]
    g.node(g.of(texts), same, x)


def transpose(g: Grower) -> None:
    x = g.pick(least=2)
    perm = list(g.draw(st.permutations(range(g.values(x)[0].ndim))))
    g.node(f"Transpose <perm = {perm}> ({x})", lambda v: v.transpose(perm), x)


def unsqueeze(g: Grower) -> None:
    x = g.pick()
    axis = g.number(-1, g.values(x)[0].ndim)
    text = f"Unsqueeze ({x}, {g.constant([axis])})"
    g.node(text, lambda v: np.expand_dims(v, axis), x)


def squeeze(g: Grower) -> None:
    x = g.pick(least=1)
    axis = g.of(i for i, size in enumerate(g.shape(x)) if size == 1)
    g.node(f"Squeeze ({x}, {g.constant([axis])})", lambda v: v.squeeze(axis), x)


def size_of(g: Grower, x: str, axis: int) -> str:
    """The size of an axis: a vector of one element, computed."""
    whole = g.node(f"Shape ({x})", lambda v: np.array(v.shape, np.int64), x)
    way = g.number(0, 2)
    if way == 0:
        one = g.node(f"Gather ({whole}, {g.constant(axis)})", lambda v: v[axis], whole)
        return g.node(f"Unsqueeze ({one}, {g.constant([0])})", lambda v: v[None], one)
    if way == 1:
        return g.node(f"Gather ({whole}, {g.constant([axis])})", lambda v: v[[axis]], whole)
    bounds = [g.constant([value]) for value in (axis, axis + 1, 0)]
    return g.node(f"Slice ({whole}, {', '.join(bounds)})", lambda v: v[axis : axis + 1], whole)


def reshape(g: Grower) -> None:
    """To sizes given or computed; neighbours joined, an axis divided, or nothing done."""
    x = g.pick(least=1)
    sizes = g.shape(x)
    parts: list[Any] = []
    way, place = g.of(["join", "divide", "same"]), g.axis(x)
    axis = 0
    while axis < len(sizes):
        size = sizes[axis]
        computed = size is None or g.number(0, 2) == 0
        if axis == place and way == "join" and axis + 1 < len(sizes):
            both = [size_of(g, x, axis), size_of(g, x, axis + 1)]
            parts.append(g.node(f"Mul ({both[0]}, {both[1]})", np.multiply, *both))
            axis += 1
        elif axis == place and way == "divide" and size is not None and size % 2 == 0:
            parts += [[2], [size // 2]]
        else:
            parts.append(size_of(g, x, axis) if computed else [size])
        axis += 1
    if g.number(0, 1):
        parts[g.number(0, len(parts) - 1)] = [-1]
    names = [part if isinstance(part, str) else g.constant(part) for part in parts]
    joined = lambda *v: np.concatenate(v)  # noqa: E731
    if all(name in g.constants for name in names):
        target = g.constant(np.concatenate([g.constants[name] for name in names]))
    else:
        target = g.node(f"Concat <axis = 0> ({', '.join(names)})", joined, *names)
    g.node(f"Reshape ({x}, {target})", lambda v, t: v.reshape(t), x, target)


def expand(g: Grower) -> None:
    x = g.pick(least=1)
    sizes = [size_of(g, g.of([x, "X"]), 0)]
    sizes += [g.constant([1])] * (g.values(x)[0].ndim - 1)
    text = f"Concat <axis = 0> ({', '.join(sizes)})"
    target = g.node(text, lambda *v: np.concatenate(v), *sizes)
    wide = lambda v, t: np.broadcast_to(v, np.broadcast_shapes(v.shape, tuple(t)))  # noqa: E731
    g.node(f"Expand ({x}, {target})", wide, x, target)


def cut(g: Grower) -> None:
    x = g.pick("fci", least=1)
    axis, start, end = g.axis(x), g.number(-2, 1), g.of([-1, 1, 2, 9])
    bounds = [g.constant([value]) for value in (start, end, axis)]
    part = (slice(None),) * axis + (slice(start, end),)
    g.node(f"Slice ({x}, {', '.join(bounds)})", lambda v: v[part], x)


def gather(g: Grower) -> None:
    x = g.pick("fci", least=1)
    axis, ids = g.axis(x), g.of([0, -1, [0], [0, 0]])
    text = f"Gather <axis = {axis}> ({x}, {g.constant(ids)})"
    g.node(text, lambda v: v.take(ids, axis), x)


def concat(g: Grower) -> None:
    x = g.pick(least=1)
    axis, fits = g.axis(x), g.values(x)[0].dtype
    names = [n for n, v in g.made.items() if v[0].ndim == len(g.shape(x)) and v[0].dtype == fits]
    y = g.of(names)
    text = f"Concat <axis = {axis}> ({x}, {y})"
    g.node(text, lambda v, w: np.concatenate([v, w], axis), x, y)


def pad(g: Grower) -> None:
    x = g.pick("f", least=1)
    rank = g.values(x)[0].ndim
    pads = [g.number(0, 1) for _ in range(2 * rank)]
    widths = list(zip(pads[:rank], pads[rank:], strict=True))
    g.node(f"Pad ({x}, {g.constant(pads)})", lambda v: np.pad(v, widths), x)


def elementwise(g: Grower) -> None:
    x = g.pick("f")
    low, high = g.constant(g.of([-7, 0, 0.1]), "f4"), g.constant(g.of([0.2, 6, 99]), "f4")
    ops = ["Relu ({})", "Neg ({})", f"Clip ({{}}, {low}, {high})", f"Max ({{}}, {low})"]
    ops += [f"Min ({{}}, {high})", f"Add ({{}}, {low})", f"Mul ({high}, {{}})"]
    g.node(g.of(ops).format(x), same, x)


def add(g: Grower) -> None:
    x, y = g.pick("f"), g.pick("f")
    g.node(f"{g.of(['Add', 'Sub', 'Mul'])} ({x}, {y})", np.add, x, y)


def multiply(g: Grower) -> None:
    """By a weight, in floats or dequantized."""
    x = g.pick("f", least=2)
    width = g.shape(x)[-1]
    if width is None:
        raise Unfit
    held = np.arange(2 * width).reshape(width, 2) % 5
    weight = g.constant(held - 2, g.of(["f4", "i1"]))
    if g.constants[weight].itemsize == 1:
        scale = g.constant(0.02, "f4")
        weight = g.node(f"DequantizeLinear ({weight}, {scale})", lambda v: v.astype("f4"), weight)
    g.node(f"MatMul ({x}, {weight})", np.matmul, x, weight)


def quantizer(g: Grower, x: str, kind: str | None = None) -> tuple[str, np.dtype[Any], int | None]:
    """Scale and zero point as operands, their type, and an axis where there is a scale each."""
    scale, zero, dtype = g.of(q for q in QUANTIZERS if kind in (None, q[2]))
    axis = None
    if len(g.shape(x)) > 0 and g.number(0, 4) == 4:
        axis = g.axis(x, fixed=True)
        count = g.shape(x)[axis]
        names = [g.constant([scale] * count, "f4"), g.constant([zero] * count, dtype)]
    else:
        names = [g.constant(scale, "f4"), g.constant(zero, dtype)]
    return ", ".join(names), np.dtype(dtype), axis


def quantize(g: Grower) -> None:
    x = g.pick("f")
    read, dtype, axis = quantizer(g, x)
    turn = "" if axis is None else f"<axis = {axis}> "
    q = g.node(f"QuantizeLinear {turn}({x}, {read})", lambda v: np.zeros(v.shape, dtype), x)
    if g.number(0, 2):
        g.node(f"DequantizeLinear {turn}({q}, {read})", lambda v: v.astype("f4"), q)


def dequantize(g: Grower) -> None:
    q = g.pick("c")
    read, _, axis = quantizer(g, q, g.values(q)[0].dtype.str[1:])
    turn = "" if axis is None else f"<axis = {axis}> "
    g.node(f"DequantizeLinear {turn}({q}, {read})", lambda v: v.astype("f4"), q)


def constant_part(g: Grower) -> None:
    """What constants alone make."""
    a, b = g.constant([[1, 2], [3, 4]], "f4"), g.constant([[2], [0.5]], "f4")
    zeros = lambda *shape: lambda *_: np.zeros(shape, "f4")  # noqa: E731
    way = g.number(0, 3)
    if way == 0:
        g.node(f"Add ({a}, {b})", np.add, a, b)
    elif way == 1:
        text = f"ConstantOfShape <value = float[1] {{0.5}}> ({g.constant([1, 4])})"
        g.node(text, zeros(1, 4))
    elif way == 2:
        g.node(f"Concat <axis = 1> ({a}, {b})", zeros(2, 3))
    else:
        g.node(f"Transpose <perm = [1, 0]> ({a})", zeros(2, 2))


def look_up(g: Grower) -> None:
    table = g.constant(np.arange(20).reshape(5, 4) / 8, "f4")
    g.node(f"Gather ({table}, I)", lambda t, i: t[i], table, "I")


def count(g: Grower) -> None:
    """Numbers computed from sizes."""
    x = g.pick("i")
    g.node(f"{g.of(['Add', 'Mul', 'Sub'])} ({x}, {g.constant(g.number(0, 2))})", same, x)


def again(g: Grower) -> None:
    """A node that there is already."""
    name, text = g.of(g.lines).split(" = ", 1)
    g.node(text, same, name)


def branch(g: Grower) -> None:
    """An If, its condition a constant or computed."""
    x, number = g.pick("f"), len(g.lines)
    if g.number(0, 1):
        size = g.node(f"Size ({x})", lambda v: np.int64(v.size), x)
        condition = g.node(f"Equal ({size}, {g.constant(12)})", lambda v: v == 12, size)
    else:
        condition = g.constant(g.number(0, 1), "bool")
    kind = f"float[{', '.join('?' for _ in g.shape(x))}]" if g.shape(x) else "float"
    bodies = [
        f"{side} = {side}{number} () => ({kind} {side}o{number}) {{ {side}a{number} = {one} ({x})\n"
        f" {side}o{number} = {other} ({side}a{number}) }}"
        for side, one, other in (
            ("then_branch", "Identity", g.of(["Relu", "Identity"])),
            ("else_branch", g.of(["Neg", "Dropout"]), "Neg"),
        )
    ]
    g.node(f"If ({condition}) <{', '.join(bodies)}>", same, x)


STEPS = [
    *(no_op, no_op, transpose, unsqueeze, squeeze, reshape, reshape, expand, cut, gather, concat),
    *(pad, elementwise, elementwise, add, multiply, quantize, quantize, quantize, dequantize),
    *(constant_part, look_up, count, again, again, branch),
]


def inputs(sizes: dict[str, int]) -> dict[str, Array]:
    """Values for all inputs."""
    generator = np.random.default_rng(0)
    made = {}
    for name, (kind, dims) in INPUTS.items():
        shape = [dim if isinstance(dim, int) else sizes[dim] for dim in dims]
        if kind == "float":
            made[name] = 3 * generator.standard_normal(shape, np.float32)
        else:
            made[name] = generator.integers(0, 5 if kind == "int64" else 256, shape).astype(kind)
    return made


def grow(draw: Any, make: Callable[..., onnx.ModelProto]) -> tuple[onnx.ModelProto, list[Any]]:
    """A model, and its inputs of two sets of sizes."""
    feeds = [inputs({"b": draw(SIZE), "s": draw(SIZE)}) for _ in range(2)]
    g = Grower(
        draw, draw(st.sampled_from([13, 18, 21])), {n: [f[n] for f in feeds] for n in INPUTS}
    )
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=3, max_size=16)):
        with suppress(Unfit, ValueError, IndexError):
            step(g)
    names = [name for name in g.made if name not in INPUTS]
    assume(names)
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    heads = [f"{kind}[{','.join(map(str, dims))}] {n}" for n, (kind, dims) in INPUTS.items()]
    text = f"g ({', '.join(heads)}) => ({', '.join(declared(n, g.made[n][0]) for n in chosen)})"
    return make(f"{text} {{\n" + "\n".join(g.lines) + "\n}", g.opset, **g.constants), feeds


SIZE = st.integers(1, 5)


def declared(name: str, value: Array) -> str:
    """A tensor with its type, sizes left open."""
    sizes = f"[{','.join('?' * value.ndim)}]" if value.ndim else ""
    return f"{TYPES.get(value.dtype.name, value.dtype.name)}{sizes} {name}"


@pytest.fixture(scope="session")
def grown(text_model: Callable[..., onnx.ModelProto]) -> Callable[[Any], Any]:
    """A random model of what is drawn, and inputs of two sets of sizes for it."""
    return lambda draw: grow(draw, text_model)
