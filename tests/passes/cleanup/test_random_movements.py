"""Random chains of ops that move data, with sizes computed as exporters do: cleaned, they make what
they made, at every size that they take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.compiler import compile
from sardonyx.compiler.recipe import Recipe
from sardonyx.passes.cleanup.fold_shapes import FoldShapes
from sardonyx.passes.cleanup.merge_movements import MergeMovements
from sardonyx.passes.cleanup.remove_no_ops import RemoveNoOps

Array = np.ndarray[Any, Any]
CLEAN = Recipe("clean", "", (FoldShapes(), RemoveNoOps(), MergeMovements()), alone=True)
SIZES = [(1, 1), (1, 5), (3, 5), (2, 2)]


@dataclass
class Chain:
    """Nodes in a row, and what the last of them makes of X."""

    draw: Any
    value: Array
    lines: list[str] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def node(self, text: str) -> str:
        self.lines.append(f"t{len(self.lines)} = {text}")
        return f"t{len(self.lines) - 1}"

    def constant(self, values: Any) -> str:
        self.constants[f"k{len(self.constants)}"] = np.array(values)
        return f"k{len(self.constants) - 1}"

    def sizes(self, x: str, shape: tuple[int, ...]) -> str:
        """A vector of these sizes, those of x asked for where it has them."""
        asked, parts = self.node(f"Shape ({x})"), []
        for place, size in enumerate(shape):
            own = place < self.value.ndim and self.value.shape[place] == size
            if own and self.draw(st.booleans()):
                at = self.node(f"Gather ({asked}, {self.constant(place)})")
                parts.append(self.node(f"Unsqueeze ({at}, {self.constant([0])})"))
            else:
                parts.append(self.constant([size]))
        return self.node(f"Concat <axis = 0> ({', '.join(parts)})")

    def step(self, x: str) -> str:
        kind = self.draw(st.sampled_from(["reshape", "transpose", "view", "same"]))
        text, self.value = getattr(self, f"_{kind}")(x)
        return self.node(text)

    def _reshape(self, x: str) -> tuple[str, Array]:
        shape = list(self.value.shape)
        place = self.draw(st.integers(0, len(shape) - 1))
        if len(shape) > 1 and self.draw(st.booleans()):
            shape[max(place - 1, 0) : max(place - 1, 0) + 2] = [-1]
        elif len(shape) < 5:
            by = self.draw(st.sampled_from([d for d in (1, 2, 3) if shape[place] % d == 0]))
            shape[place : place + 1] = [shape[place] // by, by]
        value = self.value.reshape(shape)
        if self.draw(st.booleans()):
            shape = list(value.shape)
        return f"Reshape ({x}, {self.sizes(x, tuple(shape))})", value

    def _transpose(self, x: str) -> tuple[str, Array]:
        order = self.draw(st.permutations(range(self.value.ndim)))
        return f"Transpose <perm = {order}> ({x})", self.value.transpose(order)

    def _view(self, x: str) -> tuple[str, Array]:
        ones = [axis for axis, size in enumerate(self.value.shape) if size == 1]
        if self.value.ndim > 1 and ones and self.draw(st.booleans()):
            axis = self.draw(st.sampled_from(ones))
            return f"Squeeze ({x}, {self.constant([axis])})", self.value.squeeze(axis)
        if self.value.ndim < 5:
            axis = self.draw(st.integers(-1, self.value.ndim))
            wider = np.expand_dims(self.value, axis)
            return f"Unsqueeze ({x}, {self.constant([axis])})", wider
        flat = self.value.reshape(int(np.prod(self.value.shape[:2])), -1)
        return f"Flatten <axis = 2> ({x})", flat

    def _same(self, x: str) -> tuple[str, Array]:
        texts = ["Identity ({})", "Cast <to = 11> ({})", "Expand ({}, {t})", "Mul ({}, {one})"]
        text = self.draw(st.sampled_from(texts))
        if text.startswith("Cast"):
            return f"Cast <to = 1> ({self.node(text.format(x))})", self.value
        names = {"t": self.sizes(x, self.value.shape), "one": self.constant(np.float32(1))}
        return text.format(x, **names), self.value


@given(st.data())
def test_cleaned_is_the_original(text_model, run_ort, data):
    batch, length = data.draw(st.sampled_from(SIZES))
    chain, last = Chain(data.draw, of(batch, length)), "X"
    for _ in range(data.draw(st.integers(2, 7))):
        last = chain.step(last)
    sizes = ",".join("?" * chain.value.ndim)
    body = "\n".join(chain.lines)
    text = f"g (float[B,S,6] X) => (float[{sizes}] Y) {{ {body}\n Y = Neg ({last}) }}"
    model = text_model(text, **chain.constants)
    cleaned = compile(model, CLEAN).model
    assert len(cleaned.graph.node) <= len(model.graph.node)
    assert np.array_equal(run_ort(cleaned, {"X": of(batch, length)})[0], -chain.value)
    for size in SIZES:
        feeds = {"X": of(*size)}
        try:
            (want,) = run_ort(model, feeds)
        except Exception:  # numbers among its sizes are those of another
            continue
        assert np.array_equal(run_ort(cleaned, feeds)[0], want)


def of(batch: int, length: int) -> Array:
    return np.arange(batch * length * 6, dtype=np.float32).reshape(batch, length, 6)
