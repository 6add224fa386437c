"""A trial says what onnxruntime makes of the model with these roundings written into it by hand."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest

from sardonyx.compiler import InputError, Recipe, VerificationError, compile
from sardonyx.passes.base import Pass
from sardonyx.passes.trial import Rounding
from sardonyx.runtime_ops.uniform import Grid, grid, sqnr_db

MODEL = """g (float[N,4] X) => (float[N,3] Y, float[N,4] Z) {
  A = MatMul (X, W)
  B = Relu (A)
  Y = Add (B, A)
  Z = MatMul (B, V)
}"""

COARSE = grid(-4, 4)


@dataclass(frozen=True)
class Try(Pass):
    """Asks a trial, and writes its answers down."""

    name: ClassVar[str] = "try"
    roundings: tuple[Rounding, ...] = ()
    asked: tuple[tuple[int, ...], ...] = ()
    answers: list[float] = field(default_factory=list)

    def run(self, graph, journal):
        trial = journal.trial(self.roundings)
        self.answers.extend(trial(on) for on in self.asked)
        return 0


def asked(model, roundings, questions, data, **options: Any):
    """The answers, and the compile around them."""
    a_pass = Try(tuple(roundings), tuple(questions))
    compiled = compile(model, Recipe("trying", "", (a_pass,)), data, **options)
    return a_pass.answers, compiled


@pytest.fixture
def small(text_model, normal):
    return text_model(MODEL, W=normal(4, 3), V=normal(3, 4))


@pytest.fixture
def values():
    return np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)


def by_hand(model, tensor, grid):
    """The model in which readers of a tensor read it rounded."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    place = next(i for i, node in enumerate(copy.graph.node) if tensor in node.output)
    for node in copy.graph.node:
        node.input[:] = ["R" if name == tensor else name for name in node.input]
    nodes = list(copy.graph.node)
    nodes[place + 1 : place + 1] = [
        onnx.helper.make_node("QuantizeLinear", [tensor, "s", "z"], ["Q"]),
        onnx.helper.make_node("DequantizeLinear", ["Q", "s", "z"], ["R"]),
    ]
    copy.graph.ClearField("node")
    copy.graph.node.extend(nodes)
    zero_point = np.array(grid.zero_point, np.int8 if grid.signed else np.uint8)
    copy.graph.initializer.append(onnx.numpy_helper.from_array(np.array(grid.scale), "s"))
    copy.graph.initializer.append(onnx.numpy_helper.from_array(zero_point, "z"))
    return copy


def loss(run_ort, model, other, values):
    """SQNR of all outputs together."""
    plain, rounded = run_ort(model, {"X": values}), run_ort(other, {"X": values})
    flat = [np.concatenate([each.ravel() for each in both]) for both in (plain, rounded)]
    return sqnr_db(flat[0].astype(np.float64), flat[1].astype(np.float64))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("tensor", ["A", "B"])
def test_as_written_by_hand(small, values, run_ort, tensor, signed):
    coarse = grid(-2, 3, signed=signed)
    (told,), _ = asked(small, [Rounding.of(tensor, coarse)], [(0,)], [{"X": values}])
    expected = loss(run_ort, small, by_hand(small, tensor, coarse), values)
    assert 10 < expected < 60
    assert told == pytest.approx(expected, rel=1e-12)  # sums in another order


def test_one_of_several(small, values, run_ort):
    """Those that are not asked for change nothing; none leaves the outputs equal, bit for bit."""
    two = [Rounding.of("A", COARSE), Rounding.of("B", grid(0, 9))]
    (none, first, second, both), _ = asked(small, two, [(), (0,), (1,), (1, 0)], [{"X": values}])
    assert none == math.inf
    alone = [asked(small, [one], [(0,)], [{"X": values}])[0] for one in two]
    assert [[first], [second]] == alone
    ab = by_hand(renamed(by_hand(small, "A", COARSE)), "B", grid(0, 9))
    assert both == pytest.approx(loss(run_ort, small, ab, values), rel=1e-12)


def renamed(model):
    """With other names for what the first rounding made, so that a second fits."""
    text = {"R": "R0", "Q": "Q0", "s": "s0", "z": "z0"}
    for node in model.graph.node:
        node.input[:] = [text.get(name, name) for name in node.input]
        node.output[:] = [text.get(name, name) for name in node.output]
    for tensor in model.graph.initializer:
        tensor.name = text.get(tensor.name, tensor.name)
    return model


def test_alternatives_for_one_tensor(small, values):
    """Two roundings of a tensor, asked for one at a time."""
    fine = Grid(np.float32(1 / 256), 128, False)
    questions = [(0,), (1,), ()]
    pair = [Rounding.of("B", COARSE), Rounding.of("B", fine)]
    answers, _ = asked(small, pair, questions, [{"X": values}])
    alone = [asked(small, [one], [(0,)], [{"X": values}])[0][0] for one in pair]
    assert answers == [*alone, math.inf]


def test_groups_of_channels(small, values, run_ort):
    """Channels 0 and 2 on one grid, 1 on another: as two tensors put together."""
    grids = [grid(-3, 3), grid(-1, 2)]
    rounding = Rounding.grouped("A", grids, np.array([0, 1, 0]))
    assert rounding.scale.tolist() == [grids[0].scale, grids[1].scale, grids[0].scale]
    (told,), _ = asked(small, [rounding], [(0,)], [{"X": values}])
    a = values @ onnx.numpy_helper.to_array(small.graph.initializer[0])
    rounded = np.stack([grids[g].rounded(a[:, c]) for c, g in enumerate([0, 1, 0])], axis=1)
    v = onnx.numpy_helper.to_array(small.graph.initializer[1])

    def outputs(x):
        return np.concatenate([(np.maximum(x, 0) + x).ravel(), (np.maximum(x, 0) @ v).ravel()])

    assert told == pytest.approx(sqnr_db(outputs(a), outputs(rounded)), abs=1e-3)  # float32 sums


def test_what_the_graph_returns_is_not_rounded(small, values):
    assert asked(small, [Rounding.of("Y", COARSE)], [(0,)], [{"X": values}])[0] == [math.inf]


def test_the_graph_is_left_as_it_is(small, values):
    rounding = Rounding.of("A", COARSE)
    _, compiled = asked(small, [rounding], [(0,)], [{"X": values}])
    plain = compile(small, Recipe("nothing", "", ()))
    assert compiled.model.SerializeToString() == plain.model.SerializeToString()


def test_the_same_answer_again(bert, tokens_of):
    tensors = [node.output[0] for node in bert.graph.node if node.op_type == "Softmax"]
    roundings = [Rounding.of(name, grid(0, 1)) for name in tensors]
    questions = [(0,), (1,), (0, 1)] * 2
    first, _ = asked(bert, roundings, questions, tokens_of(12))
    second, _ = asked(bert, roundings, questions, tokens_of(12))
    assert first == second
    assert first[:3] == first[3:]
    assert first[2] < min(first[:2])


@pytest.fixture
def tokens_of():
    """Samples for the small BERT, each of another length."""

    def made(count):
        rng = np.random.default_rng(3)
        ids = [rng.integers(5, 900, (1, 4 + 7 * at % 13)) for at in range(count)]
        return [
            {"input_ids": one, "attention_mask": one // one, "token_type_ids": one * 0}
            for one in ids
        ]

    return made


def test_the_shortest_samples(bert, tokens_of):
    """Of twelve, eight are run; what the others hold does not count."""
    batches = tokens_of(12)
    shortest = sorted(batches, key=lambda one: one["input_ids"].size)[:8]
    tensor = next(node.output[0] for node in bert.graph.node if node.op_type == "Softmax")
    rounding = Rounding.of(tensor, grid(0, 1))
    told = asked(bert, [rounding], [(0,)], batches)[0]
    assert told == asked(bert, [rounding], [(0,)], shortest)[0]
    assert told != asked(bert, [rounding], [(0,)], batches[:8])[0]


def test_names_that_are_taken(text_model, values):
    """A model that has been in a trial itself, by its names."""
    text = "g (float[N,4] X) => (float[N,4] Y) {\n  trial = Relu (X)\n  Y = Neg (trial)\n}"
    model = text_model(text.replace("trial", '"trial/0/on"'))
    told, _ = asked(model, [Rounding.of("trial/0/on", COARSE)], [(0,), ()], [{"X": values}])
    assert 10 < told[0] < told[1] == math.inf


def test_readers_inside_a_body_read_it_rounded(text_model, values):
    text = """g (float[N,4] X, bool C) => (float[N,4] Y) {
      A = Relu (X)
      Y = If (C) <then_branch = t () => (float[N,4] T) { T = Neg (A) },
                  else_branch = e () => (float[N,4] E) { E = Abs (A) }>
    }"""
    model = text_model(text)
    data = [{"X": values, "C": np.array(True)}]
    (told,), _ = asked(model, [Rounding.of("A", COARSE)], [(0,)], data)
    a = np.maximum(values, 0)
    assert told == pytest.approx(sqnr_db(a, COARSE.rounded(a)), rel=1e-6)  # float32 energies


def test_a_rounding_that_overflows(text_model, values):
    """0 divided by 0: the outputs are worth nothing."""
    text = """g (float[N,4] X) => (float[N,4] Y) {
      A = Abs (X)
      Y = Div (X, A)
    }"""
    grids = [Rounding.of("A", Grid(np.float32(100), 0, False))]
    told, _ = asked(text_model(text), grids, [(0,)], [{"X": values}])
    assert told == [-math.inf]


def test_without_data(small):
    with pytest.raises(InputError, match="to choose by the model's outputs needs --calib"):
        asked(small, [Rounding.of("A", COARSE)], [(0,)], None)


def test_made_up_data_will_do(small):
    options = {"random_calibration": 4}
    (told,), _ = asked(small, [Rounding.of("A", COARSE)], [(0,)], None, **options)
    assert 10 < told < 60


def test_without_an_output_of_floats(text_model, values):
    text = "g (float[N,4] X) => (int64[N,1] Y) {\n  A = Relu (X)\n  Y = ArgMax <axis = 1> (A)\n}"
    with pytest.raises(InputError, match="no output of floats by which to choose"):
        asked(text_model(text), [Rounding.of("A", COARSE)], [(0,)], [{"X": values}])


def test_outputs_that_are_nan(text_model, values):
    text = "g (float[N,4] X) => (float[N,4] Y) {\n  A = Relu (X)\n  Y = Log (X)\n}"
    with pytest.raises(InputError, match="the model's output 'Y' is NaN on "):
        asked(text_model(text), [Rounding.of("A", COARSE)], [(0,)], [{"X": values}])


@pytest.mark.parametrize("name", ["nobody", "X"])
def test_a_tensor_that_no_node_makes(small, values, name):
    text = f"a pass rounds '{name}', which no node of the graph makes"
    with pytest.raises(VerificationError, match=text):
        asked(small, [Rounding.of(name, COARSE)], [(0,)], [{"X": values}])


def test_infinite_outputs_do_not_count(text_model, values):
    """Where the plain model gives an infinity, there is no value to lose."""
    text = """g (float[N,4] X) => (float[N,4] Y) {
      A = Relu (X)
      Y = Where (M, I, A)
    }"""
    mask = np.array([True, False, False, False])
    model = text_model(text, M=mask, I=np.array(-np.inf, np.float32))
    (told,), _ = asked(model, [Rounding.of("A", COARSE)], [(0,)], [{"X": values}])
    a = np.maximum(values, 0)[:, 1:]
    assert told == pytest.approx(sqnr_db(a, COARSE.rounded(a)), rel=1e-6)  # float32 energies


def test_an_interrupt_leaves_nothing(small, values, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    @dataclass(frozen=True)
    class Interrupted(Try):
        def run(self, graph, journal):
            trial = journal.trial(self.roundings)
            assert trial((0,)) < math.inf
            raise KeyboardInterrupt

    a_pass = Interrupted((Rounding.of("A", COARSE),))
    with pytest.raises(KeyboardInterrupt):
        compile(small, Recipe("trying", "", (a_pass,)), [{"X": values}])
    assert list(tmp_path.iterdir()) == []


def test_what_fails_is_named(small, values, monkeypatch):
    """A disk that is full is no fault of the model."""

    def full(*_: object) -> None:
        raise InputError("cannot write 'trial.onnx': No space left on device")

    monkeypatch.setattr("sardonyx.compiler.trial.write_model", full)
    with pytest.raises(InputError, match=r"^cannot write 'trial.onnx': No space left"):
        asked(small, [Rounding.of("A", COARSE)], [(0,)], [{"X": values}])


def test_a_model_that_does_not_load(small, values):
    wide = Rounding("A", np.float32(0.1), np.array(0, np.uint16))  # needs opset 21
    with pytest.raises(InputError, match="onnxruntime cannot load the model to try roundings in"):
        asked(small, [wide], [(0,)], [{"X": values}])
