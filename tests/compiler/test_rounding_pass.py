"""A pass that rounds values anew: their kind is held against the model before, and no more."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from sardonyx.compiler import InputError, Recipe, VerificationError, compile
from sardonyx.passes import Pass
from sardonyx.passes.journal import Activation, Miss

TEXT = """g (float[N,8] X) => (float[N,8] Y) {
  q = QuantizeLinear (X, scale, zero) [read] Y = DequantizeLinear (q, scale, zero)
}"""


@dataclass(frozen=True)
class Rounds(Pass):
    """Quantizes by another scale; ``shape``: of it; ``times``: how often it does anything."""

    shape: tuple[int, ...] = ()
    times: int = 1
    reason: str = ""

    name: ClassVar[str] = "rounds"
    bound: ClassVar[float] = np.inf
    pointless: ClassVar[str] = "the model has nothing to round"

    def run(self, graph, journal):
        if self.reason:
            journal.missed.append(Miss(self.name, "q", self.reason))
        for node in graph.nodes[: self.times]:
            journal.activations.append(Activation("X", "q", "uint8/tensor", (-1, 1), "mine"))
            node.inputs[1] = gs.Constant("other", np.full(self.shape, 0.5, np.float32))
        return self.times


@pytest.fixture
def model(text_model):
    return text_model(TEXT, scale=np.float32(0.02), zero=np.uint8(100))


def recipe(**given):
    return Recipe("mine", "", (Rounds(**given),), alone=True)


@pytest.mark.parametrize("verify", ["default", "full"])
def test_other_codes(model, verify):
    """Of integers, which no finite bound lets differ; whole models are compared up to there."""
    done = compile(model, recipe(), verify=verify)
    checked = done.report.verification
    assert (checked.regions, checked.regions_run, checked.largest_difference) == (1, 1, 0)


def test_another_shape(text_model):
    made = text_model(
        "g (float[8] X) => (float[8] Y) { z = Mul (X, scale) Y = Relu (z) }", scale=np.float32(2)
    )
    done = Recipe("mine", "", (Rounds((1, 1)),), alone=True)
    with pytest.raises(VerificationError, match=r"pass rounds is wrong: Mul .* changes 'z' by inf"):
        compile(made, done)


def test_a_model_without_what_it_is_for(model):
    with pytest.raises(InputError, match="recipe 'mine' has nothing to do: the model has nothing"):
        compile(model, recipe(times=0))


def test_a_reason_is_enough(model):
    assert compile(model, recipe(times=0, reason="it is odd")).report.not_fused[0].node == "q"
