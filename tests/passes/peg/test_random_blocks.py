"""Networks of any size and form, whose streams all get an order, are what they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]

BOUND = 3e-5
"""Relative to the largest output: small networks of random weights cancel out more than trained
ones, and each sum of float32 adds up in another order."""


@dataclass
class Network:
    """Layers of attention (here a product with a matrix) and feed-forward, being written."""

    draw: Draw
    lines: list[str] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    sums: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        numbers = st.integers(2, 9)
        self.width, self.inner = self.draw(numbers), self.draw(numbers)
        self.pre_norm, self.gated = self.draw(st.booleans()), self.draw(st.booleans())
        self.shared = self.draw(st.booleans())  # one matrix for all layers
        self.random = np.random.default_rng(self.draw(st.integers(0, 99)))
        value = self.start()
        for _ in range(self.draw(st.integers(1, 3))):
            value = self.layer(value)
        self.end(self.norm(value) if self.pre_norm else value)

    def add(self, text: str) -> str:
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        if self.draw(st.integers(0, 5)) == 0:
            name, before = f"t{len(self.lines)}", name
            self.lines.append(f"{name} = Identity ({before})")
        return name

    def constant(self, *shape: int, name: str = "") -> str:
        name = name if name and self.shared else f"k{len(self.constants)}"
        self.constants.setdefault(name, self.random.normal(size=shape).astype(np.float32))
        return name

    def swapped(self, op: str, a: str, b: str) -> str:
        return self.add(f"{op} ({b}, {a})" if self.draw(st.booleans()) else f"{op} ({a}, {b})")

    def start(self) -> str:
        """Word and position embeddings, or floats that are given."""
        if self.draw(st.booleans()):
            return self.swapped("Add", "X", self.constant(3, self.width))
        words = self.add(f"Gather ({self.constant(5, self.width, name='table')}, ids)")
        return self.swapped("Add", words, self.constant(1, 3, self.width))

    def layer(self, value: str) -> str:
        value = self.branch(value, lambda x: self.product(x, self.width, self.width, "attention"))
        value = self.branch(value, self.network)
        self.sums.append(value if self.pre_norm else self.sum)
        return value

    def branch(self, value: str, inside: Callable[[str], str]) -> str:
        if self.pre_norm:
            return self.swapped("Add", value, inside(self.norm(value)))
        self.sum = self.swapped("Add", value, inside(value))
        return self.norm(self.sum)

    def network(self, x: str) -> str:
        self.made.append(x)
        g = self.activation(self.product(x, self.width, self.inner, "in"))
        if self.gated:
            g = self.swapped("Mul", g, self.product(x, self.width, self.inner, "gate"))
        self.made.append(g)
        return self.product(g, self.inner, self.width, "out")

    def product(self, x: str, rows: int, columns: int, name: str) -> str:
        """Times a matrix, perhaps turned or by Gemm, perhaps with a bias."""
        way = self.draw(st.sampled_from(["plain", "turned", "gemm"]))
        shape = (columns, rows) if way == "turned" else (rows, columns)
        weight = self.constant(*shape, name=f"{name} {way}".replace(" ", "_"))
        if way == "gemm":
            flat = self.add(f"Reshape ({x}, {self.shape(-1, rows)})")
            made = self.add(f"Gemm ({flat}, {weight}, {self.constant(columns)})")
            return self.add(f"Reshape ({made}, {self.shape(2, 3, columns)})")
        turned = self.add(f"Transpose ({weight})") if way == "turned" else weight
        made = self.add(f"MatMul ({x}, {turned})")
        return self.swapped("Add", made, self.constant(columns)) if rows % 2 else made

    def shape(self, *numbers: int) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = np.array(numbers)
        return name

    def activation(self, x: str) -> str:
        if self.draw(st.booleans()):
            return self.add(f"Relu ({x})")
        return self.swapped("Mul", x, self.add(f"Sigmoid ({x})"))

    def norm(self, x: str) -> str:
        """LayerNormalization, or what it means."""
        scale, bias = self.constant(self.width), self.constant(self.width)
        if self.draw(st.booleans()):
            return self.add(f"LayerNormalization <axis = -1> ({x}, {scale}, {bias})")
        centred = self.add(f"Sub ({x}, {self.add(f'ReduceMean <axes = [-1]> ({x})')})")
        square = self.add(f"Mul ({centred}, {centred})")
        spread = self.swapped("Add", self.add(f"ReduceMean <axes = [-1]> ({square})"), "one")
        unit = self.add(f"Div ({centred}, {self.add(f'Sqrt ({spread})')})")
        return self.swapped("Add", self.swapped("Mul", unit, scale), bias)

    def end(self, value: str) -> None:
        """``gathers``: how many must stay where all layers have one order."""
        way = self.draw(st.sampled_from(["as it is", "mean", "tied", "head"]))
        self.gathers = int(way in ("as it is", "mean"))
        if way == "mean":
            value = self.add(f"ReduceMean <axes = [1], keepdims = 0> ({value})")
        elif way == "tied":
            table = self.constant(5, self.width, name="table")
            value = self.add(f"MatMul ({value}, {self.add(f'Transpose ({table})')})")
        elif way == "head":
            first = self.add(f"Gather <axis = 1> ({value}, zero)")
            value = self.add(f"Gemm ({first}, {self.constant(self.width, 2)})")
        self.lines.append(f"Y = Identity ({value})")


@settings(max_examples=40)
@given(st.data())
def test_a_network(text_model, shaped, shuffled, data):
    network = Network(data.draw)
    body = "\n".join(network.lines)
    width = network.width
    held = {"one": np.float32(1), "zero": np.array(0)} | network.constants
    model = text_model(
        f"g (float[B,3,{width}] X, int64[B,3] ids) => (float Y) {{ {body} }}",
        **{name: values for name, values in held.items() if name in body},
    )
    feeds = {
        "X": network.random.normal(size=(2, 3, width)).astype(np.float32),
        "ids": network.random.integers(0, 5, (2, 3)),
    }
    model, starts = shaped(model, feeds), " ".join(network.made)
    given_floats = "Add (X," in body or ", X)" in body
    seed = data.draw(st.integers(0, 9))
    after = shuffled(model, feeds, starts, seed=seed, bound=BOUND)
    assert len(after.gathers) <= network.gathers + given_floats
    apart = shuffled(model, feeds, starts, " ".join(network.sums), seed, BOUND)
    assert len(apart.gathers) <= len(network.sums) + network.gathers + given_floats
