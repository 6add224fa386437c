"""Streams: who belongs to one, what binds several together, what each may have of its own."""

import numpy as np
import pytest

from sardonyx.compiler.load import load
from sardonyx.passes.fuse.unfit import Unfit
from sardonyx.passes.peg.channels import stream_of
from sardonyx.passes.scopes import all_nodes
from sardonyx.passes.sizes import Sizes

K, N = 8, 6
X = f"float[B,{K}] X"
Y = f"float[B,{N}] Y"


@pytest.fixture
def model(text_model, normal):
    """A model from text that may name some constants."""

    def make(body, inputs=X, outputs=Y):
        held = {
            "W": normal(K, K),
            "V": normal(K, N, seed=1),
            "U": normal(K, N, seed=2),
            "table": normal(5, K, seed=3),
            "b": normal(K, seed=4),
            "zero": np.array(0),
        }
        words = body.replace(",", " ").replace("(", " ").replace(")", " ").split()
        given = {name: values for name, values in held.items() if name in words}
        return text_model(f"g ({inputs}) => ({outputs}) {{ {body} }}", **given)

    return make


@pytest.fixture
def x(normal):
    return normal(3, K, seed=7)


def found(model, name):
    """The tensors of a model, and the stream of one."""
    _, graph = load(model)
    tensors = {t.name: t for node in all_nodes(graph) for t in (*node.inputs, *node.outputs)}
    return tensors, stream_of(graph, tensors[name], Sizes(graph))


def names(stream):
    return sorted(tensor.name for tensor in stream.tensors)


TWO_LAYERS = """
    h = MatMul (X, W) i = Relu (h) p = MatMul (i, V)
    q = Neg (X) r = MatMul (q, W) j = Relu (r) s = MatMul (j, U) Y = Add (p, s)
"""


def test_the_stream_of_any_of_its_tensors(model):
    for name in ("h", "i", "r", "j"):
        tensors, stream = found(model(TWO_LAYERS), name)
        assert names(stream) == ["h", "i", "j", "r"]  # bound by W, which makes both
        assert stream.width == K
        assert stream.exits == ()
        assert stream.holds(tensors["h"])
        assert not stream.holds(tensors["X"])


def test_a_matrix_that_several_nodes_read_is_stored_once(model, shuffled, x):
    after = shuffled(model(TWO_LAYERS), {"X": x}, "h")
    assert after.gathers == []
    assert sorted(after.constants) == ["U/ordered", "V/ordered", "W/ordered"]


def test_of_a_vector_each_stream_has_its_own(model, shuffled, x):
    body = """
        h = MatMul (X, W) i = Add (h, b) p = MatMul (i, V)
        k = Add (X, b) s = MatMul (k, U) Y = Add (p, s)
    """
    after = shuffled(model(body), {"X": x}, "h")
    assert after.gathers == []
    assert sorted(after.constants) == ["U", "V/ordered", "W/ordered", "b", "b/ordered"]


@pytest.mark.parametrize("other", ["c = CumSum (V, zero)", 'c = Einsum <equation = "ij->ij"> (V)'])
def test_a_matrix_that_is_needed_as_it_is(model, shuffled, x, other):
    body = f"""
        h = MatMul (X, W) i = Relu (h) p = MatMul (i, V) q = MatMul (i, U) s = Add (p, q)
        {other} r = MatMul (X, c) Y = Add (s, r)
    """
    after = shuffled(model(body), {"X": x}, "h")
    assert [list(node.output) for node in after.gathers] == [["i"]]
    assert "p = MatMul (i, V)" in after.wiring
    assert "q = MatMul (i/ordered, U/ordered)" in after.wiring
    op = other.split()[2]
    assert after.why == [f"'V' is also read by {op} ''"]


def test_a_matrix_that_is_an_output(model, shuffled, x):
    body = "h = MatMul (X, W) i = Relu (h) Y = MatMul (i, V)"
    after = shuffled(model(body, outputs=f"{Y}, float[{K},{N}] V"), {"X": x}, "h")
    assert [list(node.output) for node in after.gathers] == [["i"]]
    assert after.why == ["'V' is also read by the graph's caller"]


def test_inputs_and_outputs_keep_names_and_values(model, shuffled, x):
    body = "h = Add (X, b) Z = Relu (h) Y = MatMul (Z, V)"
    after = shuffled(model(body, outputs=f"{Y}, float[B,{K}] Z"), {"X": x}, "h")
    assert after.wiring == [
        "X/ordered = Gather (X, X/ordered/Order/places)",
        "h/ordered = Add (X/ordered, b/ordered)",
        "Z/ordered = Relu (h/ordered)",
        "Z = Gather (Z/ordered, Z/Order/places)",
        "Y = MatMul (Z/ordered, V/ordered)",
    ]
    assert [each.name for each in after.model.graph.output] == ["Y", "Z"]


def test_names_that_are_taken(model, shuffled, x):
    body = """
        h = MatMul (X, W) i = Relu (h) "h/ordered" = Neg (X) p = MatMul ("h/ordered", U)
        q = MatMul (i, V) Y = Add (p, q)
    """.replace('"', "").replace("h/ordered", "taken")
    plain = model(body)
    for node in plain.graph.node:
        for held in (node.input, node.output):
            for slot, name in enumerate(held):
                held[slot] = "h/ordered" if name == "taken" else name
    after = shuffled(plain, {"X": x}, "h")
    assert "h/ordered_ = MatMul (X, W/ordered)" in after.wiring


def bodies(after):
    """The ops of each body."""
    held = [a.g for node in after.model.graph.node for a in node.attribute if a.HasField("g")]
    return [[node.op_type for node in body.node] for body in held]


BRANCHES = f"""
    h = MatMul (X, W) i = Relu (h)
    Y = If (which) <
        then_branch = left () => (float[B,{N}] l) {{ a = Add (i, b) l = MatMul (a, V) }},
        else_branch = right () => (float[B,{N}] r) {{ c = Neg (i) r = MatMul (c, V) }}
    >
"""


def test_a_body_reads_what_is_around_it_as_it_was(model, shuffled, x):
    plain = model(BRANCHES, f"{X}, bool which")
    for which in (True, False):
        after = shuffled(plain, {"X": x, "which": np.array(which)}, "h")
        assert [list(node.output) for node in after.gathers] == [["i"]]
        assert after.why == ["'i' is made around the body that reads it"] * 2
        assert bodies(after) == [["Add", "MatMul"], ["Neg", "MatMul"]]
        assert "V" in after.constants


def test_a_stream_of_a_body_binds_that_of_another(model, shuffled, x):
    """Both read V, so that they have one order."""
    plain = model(BRANCHES, f"{X}, bool which")
    assert names(found(plain, "a")[1]) == ["a", "c"]
    for which in (True, False):
        after = shuffled(plain, {"X": x, "which": np.array(which)}, "a")
        assert sorted(map(sorted, bodies(after))) == [
            ["Add", "Gather", "MatMul"],
            ["Gather", "MatMul", "Neg"],
        ]
        assert sorted(after.constants) == [
            "V/ordered",
            "W",
            "a/ordered/Order/places",
            "b",
            "c/ordered/Order/places",
        ]


def test_what_a_body_returns_is_as_it_was(model, shuffled, x):
    body = f"""
        h = MatMul (X, W)
        j = If (which) <
            then_branch = left () => (float[B,{K}] l) {{ m = MatMul (X, W) l = Add (m, b) }},
            else_branch = right () => (float[B,{K}] r) {{ r = Neg (h) }}
        >
        Y = MatMul (j, V)
    """
    plain = model(body, f"{X}, bool which")
    for which in (True, False):
        after = shuffled(plain, {"X": x, "which": np.array(which)}, "m")
        assert "Y = MatMul (j, V)" in after.wiring
        assert sorted(bodies(after)) == [["MatMul", "Add", "Gather"], ["Neg"]]


def test_what_a_loop_carries_is_put_in_order_inside(text_model, shuffled, normal, x):
    model = text_model(
        f"""g ({X}, int64 times) => ({Y}) {{
            z = Loop (times, , X) <body = step (int64 i, bool go, float[B,{K}] s)
                => (bool on, float[B,{K}] t) {{
                on = Identity (go) m = Mul (s, b) n = MatMul (m, W) t = Add (n, s)
            }}>
            Y = MatMul (z, V)
        }}""",
        b=normal(K),
        W=normal(K, K),
        V=normal(K, N),
    )
    after = shuffled(model, {"X": x, "times": np.array(3)}, "m")
    assert after.gathers == []
    assert bodies(after) == [["Gather", "Identity", "Mul", "MatMul", "Add", "Gather"]]


def test_a_tensor_of_a_width_that_is_not_known(text_model):
    _, graph = load(text_model("g (float[B,D] X) => (float[B,D] Y) { h = Relu (X) Y = Neg (h) }"))
    with pytest.raises(Unfit, match="not known how many channels 'h' has"):
        stream_of(graph, graph.nodes[0].outputs[0], Sizes(graph))


def test_a_weight_that_is_turned_belongs_to_two_streams(text_model, shuffled, normal, x):
    model = text_model(
        f"g ({X}) => (float[B,{N}] Y) {{ h = MatMul (X, W) t = Transpose (Vt) g = MatMul (h, t)"
        " u = Relu (g) Y = MatMul (u, U) }",
        W=normal(K, K),
        Vt=normal(12, K),
        U=normal(12, N),
    )
    after = shuffled(model, {"X": x}, "h g")
    assert after.gathers == []
    assert sorted(after.constants) == ["U/ordered", "Vt/ordered", "W/ordered"]
