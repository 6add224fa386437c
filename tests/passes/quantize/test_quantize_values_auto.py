"""quantize-values with wide = "auto": which activations get 16 bits, held against all others."""

from itertools import combinations

import numpy as np
import onnx
import pytest
from pydantic import TypeAdapter, ValidationError

from sardonyx.passes.quantize.quantize_values import QuantizeValues
from sardonyx.runtime_ops.errors import InputError

MODEL = """g (float[1,T,16] X) => (float[1,T,16] Y) {
  a = MatMul (X, A)
  b = MatMul (a, B)
  c = MatMul (b, C)
  d = MatMul (c, D)
  Y = MatMul (d, E)
}"""


def matrix(seed, loud=1.0, deaf=False):
    """Weights of which the first column is ``loud``, and the first row, if ``deaf``, next to 0: who
    reads such a column needs little of it, but its values set the scale of all others."""
    values = np.random.default_rng(seed).standard_normal((16, 16)).astype(np.float32) / 4
    values[:, 0] *= loud
    if deaf:
        values[0] *= 1e-3
    return values


@pytest.fixture(scope="module")
def chain(text_model):
    """Four activations: of a and c, one channel is 200 and 1,000 times larger than the others."""
    weights = {
        "A": matrix(1, loud=200),
        "B": matrix(2, deaf=True),
        "C": matrix(3, loud=1000),
        "D": matrix(4, deaf=True),
        "E": matrix(5),
    }
    return text_model(MODEL, 21, ir_version=10, **weights)


@pytest.fixture(scope="module")
def batches():
    rng = np.random.default_rng(9)
    return [{"X": rng.standard_normal((1, 7, 16)).astype(np.float32)} for _ in range(4)]


def bits(journal):
    return {one.name: one.bits for one in journal.activations}


def loss(sqnr, before, after, batches):
    """SQNR of the outputs of all batches, which are of one size."""
    return sqnr(before, after, {"X": np.concatenate([one["X"] for one in batches], axis=1)})


@pytest.mark.parametrize(("budget", "expected"), [(0.25, "c"), (0.5, "ac"), (0.74, "ac")])
def test_the_best_set_of_its_size(chain, batches, done, sqnr, budget, expected):
    made = done(QuantizeValues(wide="auto", budget=budget), chain, *batches)
    chosen = {name for name, held in bits(made.journal).items() if held == 16}
    count = int(4 * budget)
    by_hand = {
        names: done(QuantizeValues(wide=",".join(names)), chain, *batches).model
        for names in combinations("abcd", count)
    }
    losses = {names: loss(sqnr, chain, model, batches) for names, model in by_hand.items()}
    assert max(losses, key=losses.__getitem__) == tuple(expected)
    assert chosen == set(expected)


def test_each_says_what_was_gained(chain, batches, done, sqnr):
    """In the record and on the node that rounds; the gains are those of the compiled models."""
    made = done(QuantizeValues(wide="auto", budget=0.5), chain, *batches)
    held = {one.name: one for one in made.journal.activations}
    assert [name for name, one in held.items() if one.why_wide] == ["a", "c"]
    (choice,) = made.journal.decided
    assert (choice.by, choice.what) == ("quantize-values", "2 of 4 activations in 16 bits")
    both = loss(sqnr, chain, made.model, batches)
    none = loss(sqnr, chain, done(QuantizeValues(), chain, *batches).model, batches)
    assert choice.reason == f"outputs of {both:.1f} dB, and of {none:.1f} dB with all in 8 bits"
    alone = loss(sqnr, chain, done(QuantizeValues(wide="b,c,d"), chain, *batches).model, batches)
    without = loss(sqnr, chain, done(QuantizeValues(wide="c"), chain, *batches).model, batches)
    assert held["a"].why_wide == (
        f"with it alone in 8 bits outputs are of {alone:.1f} dB; 16 gain {both - without:.1f} dB"
    )
    notes = [
        {prop.key: prop.value for prop in node.metadata_props}
        for node in made.model.graph.node
        if node.op_type == "QuantizeLinear"
    ]
    assert [n.get("sardonyx.activation_wide", "") for n in notes] == [
        held[n["sardonyx.activation"]].why_wide for n in notes
    ]


@pytest.mark.parametrize(("goal", "expected"), [(0.05, 0), (1.0, 1), (20.0, 2)])
def test_no_more_than_the_goal_needs(chain, batches, done, goal, expected):
    made = done(QuantizeValues(wide="auto", budget=1.0, goal_db=goal), chain, *batches)
    assert sum(held == 16 for held in bits(made.journal).values()) == expected


def test_without_a_budget_all_are_of_8_bits(chain, batches, done):
    made = done(QuantizeValues(wide="auto", budget=0.0), chain, *batches)
    assert set(bits(made.journal).values()) == {8}
    assert made.model == done(QuantizeValues(), chain, *batches).model


def test_the_same_again(chain, batches, done):
    a_pass = QuantizeValues(wide="auto", budget=0.5)
    assert done(a_pass, chain, *batches).model == done(a_pass, chain, *batches).model


def test_outputs_that_are_no_floats(chain, batches, done):
    whole = onnx.ModelProto.FromString(chain.SerializeToString())
    whole.graph.node.append(onnx.helper.make_node("ArgMax", ["Y"], ["Z"], axis=-1))
    whole.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("Z", onnx.TensorProto.INT64, [1, "T", 1])
    )
    with pytest.raises(InputError, match="no output of floats by which to choose"):
        done(QuantizeValues(wide="auto"), whole, *batches)


@pytest.mark.parametrize(
    "arguments", [{"budget": 1.5}, {"budget": -0.1}, {"goal_db": 0.0}, {"goal_db": float("nan")}]
)
def test_arguments_out_of_range(arguments):
    with pytest.raises(ValidationError):
        TypeAdapter(QuantizeValues).validate_python(arguments)
