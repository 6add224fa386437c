"""Whatever Sizes says of a random graph of the ops that exporters compute sizes with is so."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.passes.sizes.shape_rules import SHAPE_RULES

Array = np.ndarray[Any, Any]
FEW = 24


@dataclass
class Grower:
    """Writes nodes that are valid for the sizes drawn, and keeps what each makes."""

    draw: Any
    lines: list[str] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    made: dict[str, Array] = field(default_factory=dict)

    def node(self, text: str, result: Array) -> str:
        """Add ``NAME = text``; its value, computed here, says only what may follow."""
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        self.made[name] = np.asarray(result)
        return name

    def constant(self, value: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = np.array(value)
        return name

    def pick(self, *, whole: bool, ranks: tuple[int, ...] = (0, 1, 2, 3, 4)) -> str | None:
        kind = "i" if whole else "f"
        names = [n for n, v in self.made.items() if v.dtype.kind == kind and v.ndim in ranks]
        return self.draw(st.sampled_from(names)) if names else None

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def chance(self) -> bool:
        return self.draw(st.booleans())


def shape(g: Grower) -> None:
    x = g.pick(whole=False)
    first, last = sorted((g.number(0, 4), g.number(0, 4)))
    size = g.made[x].shape
    if g.chance():
        g.node(f"Shape ({x})", np.array(size, np.int64))
    else:
        text = f"Shape <start = {first}, end = {last}> ({x})"
        g.node(text, np.array(size[first:last], np.int64))


def gather(g: Grower) -> None:
    x = g.pick(whole=True, ranks=(1,))
    if x is None or not g.made[x].size:
        return
    size = g.made[x].size
    ids = g.number(-size, size - 1) if g.chance() else [g.number(-size, size - 1)] * g.number(1, 2)
    g.node(f"Gather ({x}, {g.constant(ids)})", g.made[x][np.array(ids)])


def cut_values(g: Grower) -> None:
    x = g.pick(whole=True, ranks=(1,))
    if x is None:
        return
    start, end, step = g.number(-3, 3), g.number(-3, 9), g.draw(st.sampled_from([1, 2]))
    bounds = [g.constant([v]) for v in (start, end, 0, step)]
    g.node(f"Slice ({x}, {', '.join(bounds)})", g.made[x][start:end:step])


def join_values(g: Grower) -> None:
    parts = [p for _ in range(g.number(1, 3)) if (p := g.pick(whole=True, ranks=(1,)))]
    if g.chance():
        parts.append(g.constant([g.number(-1, 4)]))
    held = [g.made[p] if p in g.made else g.constants[p] for p in parts]
    if held and sum(v.size for v in held) <= FEW:
        g.node(f"Concat <axis = 0> ({', '.join(parts)})", np.concatenate(held))


def unsqueeze_value(g: Grower) -> None:
    x = g.pick(whole=True, ranks=(0,))
    if x is not None:
        g.node(f"Unsqueeze ({x}, {g.constant([0])})", g.made[x][None])


def squeeze_value(g: Grower) -> None:
    x = g.pick(whole=True, ranks=(1,))
    if x is not None and g.made[x].size == 1:
        axes = f", {g.constant([0])}" if g.chance() else ""
        g.node(f"Squeeze ({x}{axes})", g.made[x][0])


def arithmetic(g: Grower) -> None:
    a = g.pick(whole=True, ranks=(0, 1))
    if a is None:
        return
    b = g.pick(whole=True, ranks=(0,)) if g.chance() else None
    b = b or g.constant(g.number(-2, 4))
    other = g.made.get(b, g.constants.get(b))
    op = g.draw(st.sampled_from(["Add", "Sub", "Mul", "Div"]))
    if op == "Div" and (np.any(other == 0) or np.any(g.made[a] == 0)):
        return
    x, y = g.made[a], other
    made = {"Add": x + y, "Sub": x - y, "Mul": x * y}.get(op)
    made = np.trunc(x / y).astype(np.int64) if made is None else made
    if np.all(np.abs(made) < 1 << 20):
        g.node(f"{op} ({a}, {b})", made)


def other_types(g: Grower) -> None:
    x = g.pick(whole=True, ranks=(0, 1))
    if x is None:
        return
    # onnx's inference of shapes, which load asks, takes a Cast to bool for one that keeps values
    number, text = g.draw(st.sampled_from([(1, "float"), (6, "int32")]))
    between = g.node(f"Cast <to = {number}> ({x})", g.made[x].astype(text))
    back = g.made[between]
    if number == 1 and g.chance():
        by = g.draw(st.sampled_from([0.5, 2.0, 1.0]))
        op = g.draw(st.sampled_from(["Mul", "Div", "Add", "Sub"]))
        value = {"Mul": back * by, "Div": back / by, "Add": back + by, "Sub": back - by}[op]
        g.made.pop(between)
        between = g.node(f"{op} ({between}, {g.constant(np.float32(by))})", value)
        back = value
    g.made.pop(between)
    g.node(f"Cast <to = 7> ({between})", back.astype(np.int64))


def choose(g: Grower) -> None:
    x = g.pick(whole=True, ranks=(1,))
    if x is None or not g.made[x].size:
        return
    value = g.number(-1, 4)
    same = g.node(f"Equal ({x}, {g.constant(value)})", g.made[x] == value)
    chosen = np.where(g.made.pop(same), 1, g.made[x])
    g.node(f"Where ({same}, {g.constant(1)}, {x})", chosen)


def product(g: Grower) -> None:
    x = g.pick(whole=True, ranks=(1,))
    if x is not None and g.made[x].size and abs(np.prod(g.made[x])) < 1 << 20:
        g.node(f"ReduceProd <keepdims = 0> ({x})", np.prod(g.made[x]))


def target_of(g: Grower, sizes: tuple[int, ...]) -> str:
    """An int64 vector that holds these sizes, from values of the graph where there are such."""
    parts = []
    scalars = {n: v for n, v in g.made.items() if v.dtype.kind == "i" and v.ndim == 0}
    for size in sizes:
        names = [name for name, value in scalars.items() if value == size]
        if names and g.number(0, 3):
            value = g.draw(st.sampled_from(names))
            parts.append(g.node(f"Unsqueeze ({value}, {g.constant([0])})", g.made[value][None]))
        else:
            parts.append(g.constant([size]))
    return g.node(f"Concat <axis = 0> ({', '.join(parts)})", np.array(sizes))


def reshape(g: Grower) -> None:
    x = g.pick(whole=False)
    sizes = list(g.made[x].shape)
    if not sizes or 0 in sizes:  # a target's 0 copies a size
        return
    place = g.number(0, len(sizes) - 1)
    divisors = [d for d in range(1, sizes[place] + 1) if sizes[place] % d == 0]
    way = g.draw(st.sampled_from(["join", "divide", "same"]))
    if way == "join" and place + 1 < len(sizes):
        sizes[place : place + 2] = [sizes[place] * sizes[place + 1]]
    elif way == "divide" and len(sizes) < 4:
        divisor = g.draw(st.sampled_from(divisors))
        sizes[place : place + 1] = [divisor, sizes[place] // divisor]
    written = list(sizes)
    if g.chance():
        written[g.number(0, len(written) - 1)] = -1
    old = g.made[x].shape
    for i, size in enumerate(written):
        if i < len(old) and old[i] == size and g.number(0, 4) == 0:
            written[i] = 0
    target = target_of(g, tuple(written))
    g.node(f"Reshape ({x}, {target})", g.made[x].reshape(sizes))


def transpose(g: Grower) -> None:
    x = g.pick(whole=False)
    perm = g.draw(st.permutations(range(g.made[x].ndim)))
    if perm:
        g.node(f"Transpose <perm = {perm}> ({x})", g.made[x].transpose(perm))


def expand(g: Grower) -> None:
    x = g.pick(whole=False, ranks=(1, 2, 3))
    sizes = tuple(
        g.number(1, 4) if size == 1 else g.draw(st.sampled_from([1, size]))
        for size in g.made[x].shape
    )
    target = target_of(g, sizes)
    wide = np.broadcast_shapes(sizes, g.made[x].shape)
    g.node(f"Expand ({x}, {target})", np.broadcast_to(g.made[x], wide))


def fill(g: Grower) -> None:
    names = [
        n
        for n, v in g.made.items()
        if v.dtype.kind == "i" and v.ndim == 1 and v.size <= 4 and np.all((v > 0) & (v < 9))
    ]
    if names:
        x = g.draw(st.sampled_from(names))
        text = f"ConstantOfShape <value = float[1] {{0}}> ({x})"
        g.node(text, np.zeros(g.made[x], np.float32))


def count_up(g: Grower) -> None:
    x = g.pick(whole=True, ranks=(0,))
    if x is not None and abs(g.made[x]) < FEW:
        start, step = g.number(-1, 2), g.draw(st.sampled_from([1, 1, 2, -1]))
        result = np.arange(start, g.made[x], step)
        text = f"Range ({g.constant(start)}, {x}, {g.constant(step)})"
        wide = g.node(text, result)
        g.node(f"Cast <to = 1> ({wide})", g.made.pop(wide).astype(np.float32))


def cut(g: Grower) -> None:
    """A slice by bounds of the graph, within the axis: a table is long enough for what it is cut
    to."""
    x = g.pick(whole=False, ranks=(1, 2, 3))
    axis = g.number(0, g.made[x].ndim - 1)
    size = g.made[x].shape[axis]
    bounds = []
    for default in (0, np.iinfo(np.int64).max):
        value = g.pick(whole=True, ranks=(0,)) if g.chance() else None
        if value is None or not 0 < abs(g.made[value]) <= size:
            bounds.append((g.constant([default]), default))
        else:
            vector = g.node(f"Unsqueeze ({value}, {g.constant([0])})", g.made[value][None])
            bounds.append((vector, int(g.made[value])))
    (start, first), (end, last) = bounds
    text = f"Slice ({x}, {start}, {end}, {g.constant([axis])})"
    g.node(text, g.made[x][(slice(None),) * axis + (slice(first, last),)])


def join(g: Grower) -> None:
    x, y = g.pick(whole=False, ranks=(1, 2, 3)), g.pick(whole=False, ranks=(1, 2, 3))
    a, b = g.made[x].shape, g.made[y].shape
    differ = [i for i, (m, n) in enumerate(zip(a, b, strict=False)) if m != n]
    if len(a) == len(b) and len(differ) <= 1:
        axis = differ[0] if differ else g.number(0, len(a) - 1)
        text = f"Concat <axis = {axis}> ({x}, {y})"
        g.node(text, np.concatenate([g.made[x], g.made[y]], axis))


def add(g: Grower) -> None:
    x, y = g.pick(whole=False), g.pick(whole=False)
    with suppress(ValueError):
        g.node(f"Add ({x}, {y})", g.made[x] + g.made[y])


def reduce(g: Grower) -> None:
    x = g.pick(whole=False, ranks=(1, 2, 3))
    axis, keep = g.number(-1, g.made[x].ndim - 1), g.number(0, 1)
    result = g.made[x].sum(axis, keepdims=bool(keep))
    g.node(f"ReduceSum <keepdims = {keep}> ({x}, {g.constant([axis])})", result)


def unsqueeze(g: Grower) -> None:
    x = g.pick(whole=False, ranks=(0, 1, 2, 3))
    axis = g.number(-1, g.made[x].ndim)
    g.node(f"Unsqueeze ({x}, {g.constant([axis])})", np.expand_dims(g.made[x], axis))


def multiply(g: Grower) -> None:
    x = g.pick(whole=False, ranks=(2, 3))
    if x is not None:
        matrix = g.constant(np.zeros((g.made[x].shape[-1], 2), np.float32))
        g.node(f"MatMul ({x}, {matrix})", g.made[x] @ g.constants[matrix])


STEPS = [
    *(shape, gather, cut_values, join_values, unsqueeze_value, squeeze_value, arithmetic),
    *(other_types, choose, product, reshape, transpose, expand, fill, count_up, cut, join, add),
    *(reduce, unsqueeze, multiply, shape, gather, arithmetic, reshape),
]


@given(st.data())
def test_sizes_are_what_onnxruntime_makes(told, text_model, data):
    a, b, c = (data.draw(st.integers(1, 6)) for _ in range(3))
    feeds = {
        "X": np.zeros((a, b, 6), np.float32),
        "Z": np.zeros((1, c, b), np.float32),
        "W": np.zeros(a + c, np.float32),
    }
    grower = Grower(data.draw, made=dict(feeds))
    for step in data.draw(st.lists(st.sampled_from(STEPS), min_size=5, max_size=25)):
        step(grower)
    inputs = "float[a,b,6] X, float[1,c,b] Z, float[n] W"
    body = "\n".join(grower.lines)
    model = text_model(
        f"g ({inputs}) => (float[?,?,?] Y) {{ {body}\n Y = Identity (X) }}", **grower.constants
    )
    model.graph.input[2].type.tensor_type.shape.dim[0].dim_param = "a + c"
    told(model, **feeds)


def test_a_wrong_size_would_be_seen(told, text_model, monkeypatch):
    monkeypatch.setitem(SHAPE_RULES, "Abs", lambda sizes, n: [sizes.shape(n.inputs[0])[::-1]])
    model = text_model("g (float[a,b] X) => (float[?,?] Y) { Y = Abs (X) }")
    told(model, X=np.zeros((2, 2), np.float32))
    with pytest.raises(AssertionError):
        told(model, X=np.zeros((2, 3), np.float32))
