"""Orders given to streams: cut apart, led from one to another, counted; what is refused."""

import numpy as np
import pytest

from sardonyx.compiler.emit import emit
from sardonyx.compiler.load import load
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.metadata import PROPS
from sardonyx.passes.peg.channels import stream_of
from sardonyx.passes.peg.reorder import Reorder, cut, orderings
from sardonyx.passes.sizes import Sizes

K, N = 8, 6

TEXT = f"""g (float[B,{K}] X) => (float[B,{N}] Y) {{
    h = MatMul (X, W) i = Relu (h) j = Add (i, b) k = Mul (j, b) Y = MatMul (k, V)
}}"""

FORTH, BACK = np.roll(np.arange(K), 3), np.arange(K)[::-1]


@pytest.fixture
def model(text_model, normal):
    return text_model(TEXT, W=normal(K, K), V=normal(K, N, seed=1), b=normal(K, seed=2))


@pytest.fixture
def x(normal):
    return normal(3, K, seed=7)


@pytest.fixture
def ordered(model, run_ort, x):
    """The model with streams in given orders, by name of a tensor, cut behind some; as before."""

    def run(cuts="", of=model, **orders):
        source, graph = load(of)
        cut(graph, [tensor_of(graph, name) for name in cuts.split()], Sizes(graph), "test")
        reorder, sizes = Reorder(graph, "test"), Sizes(graph)
        for name, order in orders.items():
            reorder.permute(stream_of(graph, tensor_of(graph, name), sizes), order)
        count = reorder.apply()
        assert count == orderings(graph)
        made = emit(source, graph)
        (want,), (have,) = run_ort(of, {"X": x}), run_ort(made, {"X": x})
        # a sum of float32 in another order
        np.testing.assert_allclose(have, want, rtol=0, atol=1e-6 * np.abs(want).max())
        return made, count, graph

    return run


def tensor_of(graph, name):
    return next(t for node in graph.nodes for t in (*node.inputs, *node.outputs) if t.name == name)


def ops(model):
    return [node.op_type for node in model.graph.node]


PLAIN = ["MatMul", "Relu", "Add", "Mul", "MatMul"]


def test_constants_in_order(ordered, normal):
    made, count, graph = ordered(j=FORTH)
    assert (ops(made), count) == (PLAIN, 0)
    values = {t.name: t.values for node in graph.nodes for t in node.inputs if hasattr(t, "values")}
    np.testing.assert_array_equal(values["W/ordered"], normal(K, K)[:, FORTH])
    np.testing.assert_array_equal(values["V/ordered"], normal(K, N, seed=1)[FORTH])
    np.testing.assert_array_equal(values["b/ordered"], normal(K, seed=2)[FORTH])


def test_a_cut_leads_from_one_order_to_another(ordered):
    made, count, graph = ordered("i", h=FORTH, k=BACK)
    assert count == 1
    assert ops(made) == ["MatMul", "Relu", "Gather", "Add", "Mul", "MatMul"]
    (gather,) = [node for node in graph.nodes if node.op == "Gather"]
    assert gather.inputs[0].name == "i/ordered"
    assert gather.outputs[0].name == "i/cut/ordered"
    places = gather.inputs[1].values
    np.testing.assert_array_equal(FORTH[places], BACK)
    assert gather.attrs[PROPS] == {"sardonyx.pass": "test", "sardonyx.channels": str(K)}


@pytest.mark.parametrize("name", ["h", "k"])
def test_a_cut_where_one_side_keeps_its_order(ordered, name):
    made, count, _ = ordered("i", **{name: FORTH})
    assert count == 1
    assert ops(made) == ["MatMul", "Relu", "Gather", "Add", "Mul", "MatMul"]


@pytest.mark.parametrize("orders", [{}, {"h": FORTH, "k": FORTH}, {"h": np.arange(K)}])
def test_a_cut_between_equal_orders_is_gone(ordered, orders):
    made, count, _ = ordered("i", **orders)
    assert (ops(made), count) == (PLAIN, 0)


def test_two_cuts(ordered):
    _, count, _ = ordered("i j", h=FORTH, j=BACK, k=FORTH)
    assert count == 2
    _, count, _ = ordered("i j i", h=FORTH, j=FORTH, k=BACK)
    assert count == 1


def test_a_cut_behind_an_input(ordered):
    made, count, _ = ordered("X", h=FORTH)
    assert (ops(made), count) == (PLAIN, 0)
    made, count, _ = ordered("X", **{"X/cut": FORTH})
    assert (ops(made), count) == (["Gather", *PLAIN], 1)


def test_nothing_is_cut_behind_what_nobody_reads(model):
    _, graph = load(model)
    cut(graph, graph.outputs, Sizes(graph), "test")
    assert orderings(graph) == 0


def test_gathers_take_up_another_order(ordered):
    """They are counted in a file, and led on or away."""
    once, _, _ = ordered("i", h=FORTH)
    assert orderings(load(once)[1]) == 1
    _, count, _ = ordered(of=once, **{"i/cut": BACK})
    assert count == 1
    made, count, _ = ordered(of=once, **{"i/ordered": np.argsort(FORTH)})
    assert (ops(made), count) == (PLAIN, 0)


def test_an_order_of_a_stream_may_be_told_twice(model):
    _, graph = load(model)
    stream = stream_of(graph, tensor_of(graph, "j"), Sizes(graph))
    reorder = Reorder(graph, "test")
    reorder.permute(stream, FORTH)
    reorder.permute(stream, FORTH.copy())
    with pytest.raises(ValueError, match="a second order for"):
        reorder.permute(stream, BACK)


@pytest.mark.parametrize("order", [np.zeros(K, int), np.arange(K - 1), np.arange(1, K + 1)])
def test_what_is_no_order(model, order):
    _, graph = load(model)
    stream = stream_of(graph, tensor_of(graph, "j"), Sizes(graph))
    with pytest.raises(ValueError, match=f"no order of {K} channels"):
        Reorder(graph, "test").permute(stream, order)


def test_no_cut_where_the_width_is_not_known(text_model):
    _, graph = load(text_model("g (float[B,D] X) => (float[B,D] Y) { h = Abs (X) Y = Neg (h) }"))
    with pytest.raises(Unfit, match="not known how many channels 'h' has"):
        cut(graph, [graph.nodes[0].outputs[0]], Sizes(graph), "test")


def test_the_same_graph_twice_makes_the_same_bytes(ordered):
    one, _, _ = ordered("i", h=FORTH, k=BACK)
    other, _, _ = ordered("i", h=FORTH, k=BACK)
    assert one.SerializeToString() == other.SerializeToString()
