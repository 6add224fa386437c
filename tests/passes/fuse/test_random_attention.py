"""Attention of any size, however it is written, is fused and stays what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.passes.fuse.attention import FuseAttention

Draw = Callable[[st.SearchStrategy[Any]], Any]
LOWEST = np.finfo(np.float32).min


class Text:
    """Nodes being written; some pass their value on, or give it a type that it has."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}

    def node(self, text: str) -> str:
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        extra = self.draw(st.sampled_from([None, None, None, "Identity", "Cast <to = 1>"]))
        if extra and "Shape" not in text:
            name, before = f"t{len(self.lines)}", name
            self.lines.append(f"{name} = {extra} ({before})")
        return name

    def constant(self, value: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = np.array(value)
        return name

    def scaled(self, name: str, factor: float) -> str:
        """The tensor times a number, as a product or a quotient of it."""
        ways = ["Mul ({0}, {1})", "Mul ({1}, {0})", "Div ({0}, {1})"]
        way = self.draw(st.sampled_from(ways))
        number = np.float32(1 / factor if way.startswith("Div") else factor)
        shape = self.draw(st.sampled_from([(), (1,), (1, 1, 1)]))
        return self.node(way.format(name, self.constant(np.full(shape, number))))


def masks(length: str, other: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Biases of every rank: by name, type and sizes."""
    return {
        "keys": ("float", ("batch", "1", "1", other)),
        "pairs": ("float", ("batch", "1", length, other)),
        "heads": ("float", ("1", "heads", length, other)),
        "rank3": ("float", ("heads", length, other)),
        "rank2": ("float", (length, other)),
        "rank1": ("float", (other,)),
        "fill": ("bool", ("batch", "1", "1", other)),
        "fill2": ("bool", (length, other)),
    }


@dataclass
class Attention:
    """An attention being written: of X on itself, or on E."""

    draw: Draw
    text: Text = field(init=False)
    sizes: dict[str, int] = field(init=False)
    inputs: dict[str, tuple[str, tuple[str, ...]]] = field(init=False)

    def __post_init__(self) -> None:
        self.text = Text(self.draw)
        names = ("batch", "length", "heads", "size", "wide", "other")
        self.sizes = {name: self.draw(st.integers(1, 4)) for name in names}
        self.inputs = {"X": ("float", ("batch", "length", "wide"))}
        if self.draw(st.booleans()):
            self.inputs["E"] = ("float", ("batch", "other", "wide"))
        self.values = np.random.default_rng(self.draw(st.integers(0, 9)))

    def projected(self, source: str, width: int) -> str:
        matrix = self.values.standard_normal((self.sizes["wide"], width)).astype(np.float32)
        return self.text.node(f"MatMul ({source}, {self.text.constant(matrix)})")

    def split(self, name: str, width: int, perm: list[int]) -> str:
        length = self.draw(st.sampled_from([0, -1]))
        target = self.text.constant([0, length, self.sizes["heads"], width])
        four = self.text.node(f"Reshape ({name}, {target})")
        return self.text.node(f"Transpose <perm = {perm}> ({four})")

    def maybe_scaled(self, name: str) -> str:
        factor = self.draw(st.sampled_from([None, None, 0.5, 1.7]))
        return name if factor is None else self.text.scaled(name, factor)

    def scores(self, source: str) -> str:
        """Of all queries and keys, with scales wherever they may be."""
        width = self.sizes["heads"] * self.sizes["size"]
        q = self.maybe_scaled(self.projected("X", width))
        q = self.maybe_scaled(self.split(q, self.sizes["size"], [0, 2, 1, 3]))
        k = self.maybe_scaled(self.projected(source, width))
        if self.draw(st.booleans()):
            k = self.split(k, self.sizes["size"], [0, 2, 3, 1])
        else:
            k = self.split(k, self.sizes["size"], [0, 2, 1, 3])
            k = self.text.node(f"Transpose <perm = [0, 1, 3, 2]> ({k})")
        k = self.maybe_scaled(k)
        return self.maybe_scaled(self.text.node(f"MatMul ({q}, {k})"))

    def masked(self, scores: str, known: dict[str, tuple[str, tuple[str, ...]]]) -> str:
        """Some biases in any order; a row in which all keys count for nothing may be NaN."""
        lowest = self.text.constant(np.float32(self.draw(st.sampled_from([LOWEST, -np.inf]))))
        for name in self.draw(st.lists(st.sampled_from([*known]), max_size=3, unique=True)):
            self.inputs[name] = known[name]
            if known[name][0] == "bool":
                pair = self.draw(st.permutations([lowest, scores]))
                scores = self.text.node(f"Where ({name}, {', '.join(pair)})")
            else:
                pair = self.draw(st.permutations([scores, name]))
                scores = self.text.node(f"Add ({', '.join(pair)})")
        return scores

    def feeds(self) -> dict[str, Any]:
        made = {}
        for name, (kind, shape) in self.inputs.items():
            numbers = [self.sizes.get(part) or int(part) for part in shape]
            values = self.values.standard_normal(numbers).astype(np.float32)
            if name in ("keys", "pairs", "rank2"):
                values[values > 1] = LOWEST
            made[name] = values > 0 if kind == "bool" else values
        return made

    def header(self, width: int) -> str:
        """Sizes of inputs as numbers or as names; heads are always a number."""
        words = {name: str(number) for name, number in self.sizes.items()}
        if self.draw(st.booleans()):
            words |= {name: name for name in ("batch", "length", "other", "wide")}
        inputs = [
            f"{kind}[{','.join(words.get(part, part) for part in shape)}] {name}"
            for name, (kind, shape) in self.inputs.items()
        ]
        output = f"float[{words['batch']},{words['length']},{width}] Y"
        return f"({', '.join(inputs)}) => ({output})"


@st.composite
def attentions(draw):
    """The text of a model, its constants, and values for its inputs."""
    drawn = Attention(draw)
    source, keys = ("E", "other") if "E" in drawn.inputs else ("X", "length")
    scores = drawn.masked(drawn.scores(source), masks("length", keys))
    heads, size = drawn.sizes["heads"], draw(st.sampled_from([drawn.sizes["size"], 3]))
    v = drawn.split(drawn.projected(source, heads * size), size, [0, 2, 1, 3])
    p = drawn.text.node(f"Softmax <axis = {draw(st.sampled_from([-1, 3]))}> ({scores})")
    mixed = drawn.text.node(f"MatMul ({p}, {v})")
    mixed = drawn.text.node(f"Transpose <perm = [0, 2, 1, 3]> ({mixed})")
    flat = drawn.text.constant([0, draw(st.sampled_from([0, -1])), heads * size])
    drawn.text.lines.append(f"Y = Reshape ({mixed}, {flat})")
    body = "\n".join(drawn.text.lines)
    header = drawn.header(heads * size)
    return f"g {header} {{ {body} }}", drawn.text.constants, drawn.feeds()


@given(attentions(), st.sampled_from([13, 17, 23]))
def test_all_are_fused_and_stay_what_they_are(apply, text_model, run_ort, drawn, opset):
    text, constants, feeds = drawn
    model = text_model(text, opset, **constants)
    after = apply(FuseAttention(), model)
    assert after.journal.missed == []
    assert (after.rewrites, after.again) == (1, 0)
    onnx.checker.check_model(after.model)
    (want,), (have,) = run_ort(model, feeds), run_ort(after.model, feeds)
    shown = np.isfinite(want)  # not so for a query that sees no key
    assert np.isfinite(have[shown]).all()
    assert opset == 23 or np.isnan(have[~shown]).all()  # Attention makes a number of it
    worst = np.abs(want - have)[shown].max(initial=0)
    assert worst <= FuseAttention.bound * np.abs(want)[shown].max(initial=0)
