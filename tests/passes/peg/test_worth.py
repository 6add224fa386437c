"""Which tensors get groups: by made-up answers, and on a network of which only some suffer."""

import numpy as np
import pytest

from sardonyx.passes.journal import Journal
from sardonyx.passes.peg.peg import Peg
from sardonyx.passes.peg.worth import kinds_worth
from sardonyx.runtime_ops.uniform import grid


def ranges(*sizes):
    """Channels of these ranges, each from minus its size to its size."""
    high = np.array(sizes, np.float32)
    return -high, high


NETWORK = {
    "x": ("x0", ranges(1, 9, 1, 9)),
    "h": ("h0", ranges(2, 90, 1, 95)),
    "y": ("y0", ranges(1, 80, 2, 70)),
    "g": ("g0", ranges(5, 1, 5, 1, 50, 50)),
}


def decided(gains, networks=(NETWORK,), k=2):
    """What is worth it, if groups of each kind gain these dB; the roundings; the decision."""
    tried = []

    def trials(roundings):
        tried.extend(roundings)

        def trial(on):
            whole = {roundings[place].tensor[0] for place in on if not roundings[place].scale.ndim}
            assert len(on) == len(roundings) / 2  # each tensor in one of two ways
            return 30.0 - sum(gains[kind] for kind in whole)

        return trial

    journal = Journal(trial=trials)
    kinds = kinds_worth(networks, k, "optimal", True, "peg", journal)
    return kinds, tried, journal.decided[0]


def test_what_gains_enough_is_in_groups():
    kinds, _, decision = decided({"x": 1.0, "h": 0.9, "y": 8.0, "g": 12.0})
    assert kinds == ["x", "g", "y"]
    assert (decision.by, decision.what) == ("peg", "x, g, y in groups")
    assert decision.reason == (
        "outputs of 8.1 dB without groups, of 30.0 dB with all in groups; x gains 1.0 dB; "
        "g gains 12.0 dB; h would gain 0.9 dB; y gains 8.0 dB"
    )


def test_other_sums_are_a_kind_of_their_own():
    """In groups of their own, of as many channels as they have."""
    sums = [{"r": (name, ranges(*sizes))} for name, *sizes in (("r0", 7, 1, 1), ("r1", 1, 1, 8, 9))]
    gains = dict.fromkeys("xghy", 0.0) | {"r": 4.0}
    kinds, tried, decision = decided(gains, (NETWORK, *sums))
    assert kinds == ["r"]
    assert decision.reason.endswith("r gains 4.0 dB")
    grouped = {one.tensor: one.scale for one in tried if one.scale.ndim}
    wide, narrow = grid(-7, 7).scale, grid(-1, 1).scale
    assert grouped["r0"].tolist() == [wide, narrow, narrow]
    assert grouped["r1"].tolist() == [narrow, narrow, *[grid(-9, 9).scale] * 2]


def test_nothing_gains_enough():
    kinds, _, decision = decided(dict.fromkeys("xhyg", 0.1))
    assert kinds == []
    assert decision.what == "no tensor in groups"


def test_each_tensor_whole_and_in_groups():
    _, tried, _ = decided(dict.fromkeys("xhyg", 1.0))
    assert sorted(one.tensor for one in tried) == sorted(["x0", "h0", "y0", "g0"] * 2)
    whole, grouped = (one for one in tried if one.tensor == "h0")
    assert whole.scale == grid(-95, 95).scale
    small, large = grid(-2, 2), grid(-95, 95)
    assert grouped.scale.tolist() == [small.scale, large.scale, small.scale, large.scale]
    assert grouped.zero_point.tolist() == [one.zero_point for one in (small, large) * 2]
    assert grouped.scale.dtype == np.float32


def test_a_tensor_of_two_networks_is_rounded_once():
    """As x of experts, which all read one."""
    other = NETWORK | {"h": ("h1", NETWORK["h"][1]), "g": ("g1", NETWORK["g"][1])}
    _, tried, _ = decided(dict.fromkeys("xhyg", 1.0), (NETWORK, other))
    names = [one.tensor for one in tried]
    assert sorted(names) == sorted(["x0", "h0", "y0", "g0", "h1", "g1"] * 2)


def test_progress_ends():
    calls = []
    journal = Journal(trial=lambda roundings: len, progress=lambda *call: calls.append(call))
    kinds_worth([NETWORK], 2, "equal", True, "peg", journal)
    assert [done for _, done, _ in calls] == sorted({done for _, done, _ in calls})
    assert [done == total for _, done, total in calls].count(True) == 1


MODEL = """g (float[1,T,8] X) => (float[1,T,8] Y) {
  x = LayerNormalization (X, s1)
  p = MatMul (x, up)
  a = Add (p, b_up)
  g = Relu (a)
  q = MatMul (g, down)
  h = Add (q, b_down)
  y = Add (h, x)
  n = LayerNormalization (y, s2)
  Y = MatMul (n, head)
}"""


@pytest.fixture(scope="module")
def model_of(text_model):
    """A network whose channels are all alike, but that some of g are ``loud`` times larger, and
    what reads them as much smaller."""

    def make(loud):
        rng = np.random.default_rng(4)
        weights = {
            "up": rng.choice((-0.3, 0.3), (8, 24)),
            "down": rng.choice((-0.03, 0.03), (24, 8)),
            "head": rng.standard_normal((8, 8)),
            "b_up": np.zeros(24),
            **dict.fromkeys(("b_down", "s1", "s2"), np.ones(8)),
        }
        weights["up"][:, ::6] *= loud
        weights["down"][::6] /= loud
        floats = {name: values.astype(np.float32) for name, values in weights.items()}
        return text_model(MODEL, **floats)

    return make


@pytest.fixture(scope="module")
def network(model_of):
    """One of which g alone ruins the outputs."""
    return model_of(loud=400.0)


@pytest.fixture(scope="module")
def batches():
    rng = np.random.default_rng(8)
    return [{"X": rng.standard_normal((1, 200, 8)).astype(np.float32)} for _ in range(3)]


def test_the_pass_splits_what_it_chose(network, batches, done):
    made = done(Peg(tensors="auto", k=2), network, *batches)
    decision = made.journal.decided[0]
    assert decision.what == "g in groups"
    assert made.rewrites == 1
    assert made.model == done(Peg(tensors="g", k=2), network, *batches).model


SUM = """g (float[1,T,8] X) => (float[1,T,8] Y) {
  o = Relu (X)
  w = Add (X, o)
  x = LayerNormalization (w, s1)
  p = MatMul (x, up)
  g = Relu (p)
  h = MatMul (g, down)
  y = Add (h, x)
  Y = LayerNormalization (y, s2)
}"""


def test_the_pass_splits_a_sum_ahead(text_model, done, normal):
    """Channels of a sum ahead that are far larger than others, which its normalization evens."""
    loud = np.array([300, 300, 1, 1, 1, 1, 1, 1], np.float32)
    rng = np.random.default_rng(8)
    batches = [{"X": rng.standard_normal((1, 200, 8)).astype(np.float32) * loud} for _ in range(3)]
    ones = np.ones(8, np.float32)
    model = text_model(SUM, s1=300 / loud, s2=ones, up=normal(8, 12), down=normal(12, 8))
    made = done(Peg(tensors="auto", k=2), model, *batches)
    assert made.journal.decided[0].what == "r in groups"
    assert "r gains" in made.journal.decided[0].reason
    assert made.model == done(Peg(tensors="r", k=2), model, *batches).model
    assert "w/Split" in [node.name for node in made.model.graph.node]


def test_the_pass_leaves_a_network_that_needs_no_groups(model_of, batches, done):
    made = done(Peg(tensors="auto", k=2), model_of(loud=1.0), *batches)
    (decision,) = made.journal.decided
    assert (decision.what, made.rewrites) == ("no tensor in groups", 0)


def test_no_trial_without_groups(network, batches, done):
    made = done(Peg(tensors="auto", k=1), network, *batches)
    assert (made.rewrites, made.journal.decided) == (0, [])
