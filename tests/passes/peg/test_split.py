"""split: the nodes that each tensor's groups become; what is noted; who else reads what was cut."""

import re

import numpy as np
import pytest

from sardonyx.passes.metadata import PREFIX
from sardonyx.passes.peg.peg import Peg

D, N = 4, 6

FLOATS = {
    "up": (D, N),
    "gate": (D, N),
    "down": (N, D),
    "b_up": (N,),
    "b_down": (D,),
    "one": (1,),
    "row": (1, 1, D),
    "scale": (D,),
}

SIZES = {"rows": np.array([-1, D]), "tokens": np.array([2, -1, D]), "last": np.array([D])}

IN = "x = LayerNormalization (X, scale) [up] p = MatMul (x, up) a = Add (p, b_up) g = Relu (a)"
OUT = "[down] q = MatMul (g, down) [bias] h = Add (q, b_down)"
POST = f"{IN} {OUT} [total] y = Add (h, x)"
PRE = f"{IN} {OUT} [total] y = Add (X, h)"
END = "Y = LayerNormalization (y, scale)"


@pytest.fixture
def split(measure, text_model, normal, run_ort):
    """A network from text after the pass, sizes and order of groups as they are; outputs as
    before. ``tensors``: those to split; ``k``: in how many groups."""

    def run(text, tensors, k=2, outputs="", end=END, **given):
        words = set(re.findall(r"\w+", f"{text} {end}"))
        made = {name: normal(*shape, seed=i) for i, (name, shape) in enumerate(FLOATS.items())}
        held = {n: v for n, v in (made | SIZES | given).items() if n in words}
        text = f"g (float[2,T,{D}] X) => (float[I,J,{D}] Y{outputs}) {{ {text} {end} }}"
        model, feeds = text_model(text, 17, **held), {"X": normal(2, 3, D, seed=9)}
        after = measure(Peg(tensors, k, "equal", "none"), model, [feeds])
        for want, have in zip(run_ort(model, feeds), run_ort(after.model, feeds), strict=True):
            # float32 sums in another order, behind a norm
            np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)
        return after

    return run


def noted(after, *keys):
    """Some notes, by what the node that bears them makes first."""
    found = {}
    for node in after.model.graph.node:
        notes = {p.key.removeprefix(PREFIX): p.value for p in node.metadata_props}
        if keys[0] in notes:
            found[node.output[0]] = " ".join(notes.get(key, "-") for key in keys)
    return found


def test_x(split):
    after = split(POST, "x")
    assert after.rewrites == 1
    assert after.wiring == [
        "x = LayerNormalization (X, scale)",
        "x/group0, x/group1 = Split (x, x/groups)",
        "x/Concat:0 = Concat (x/group0, x/group1)",
        "up/group0:0 = MatMul (x/group0, up/group0)",
        "up/group1:0 = MatMul (x/group1, up/group1)",
        "p = Add (up/group0:0, up/group1:0)",
        "a = Add (p, b_up)",
        "g = Relu (a)",
        "q = MatMul (g, down)",
        "h = Add (q, b_down)",
        "y = Add (h, x/Concat:0)",
        "Y = LayerNormalization (y, scale)",
    ]
    assert noted(after, "site", "layer") == {"x/group0": "x 0", "g": "g 0", "h": "h 0", "y": "y 0"}
    assert noted(after, "slice_of", "slice", "role", "layer", "partial") == {
        "up/group0:0": "up rows 0:2 ffn_in 0 True",
        "up/group1:0": "up rows 2:4 ffn_in 0 True",
    }
    assert noted(after, "partial").keys() == {"up/group0:0", "up/group1:0"}


def test_x_that_the_residual_sum_does_not_read(split):
    after = split(PRE, "x", k=3)
    assert after.wiring[1:8] == [
        "x/group0, x/group1, x/group2 = Split (x, x/groups)",
        "up/group0:0 = MatMul (x/group0, up/group0)",
        "up/group1:0 = MatMul (x/group1, up/group1)",
        "up/sum1:0 = Add (up/group0:0, up/group1:0)",
        "up/group2:0 = MatMul (x/group2, up/group2)",
        "p = Add (up/sum1:0, up/group2:0)",
        "a = Add (p, b_up)",
    ]
    assert after.constants["x/groups"].tolist() == [2, 1, 1]
    partial = {"up/group0:0", "up/group1:0", "up/sum1:0", "up/group2:0"}
    assert noted(after, "partial").keys() == partial
    assert "y = Add (X, h)" in after.wiring


def test_g(split):
    after = split(POST, "g")
    assert after.wiring[4:9] == [
        "g/group0, g/group1 = Split (g, g/groups)",
        "down/group0:0 = MatMul (g/group0, down/group0)",
        "down/group1:0 = MatMul (g/group1, down/group1)",
        "q = Add (down/group0:0, down/group1:0)",
        "h = Add (q, b_down)",
    ]
    assert noted(after, "site", "layer") == {"x": "x 0", "g/group0": "g 0", "h": "h 0", "y": "y 0"}


def test_h(split):
    after = split(POST, "h")
    assert after.wiring[4:] == [
        "down/group0:0 = MatMul (g, down/group0)",
        "bias/group0:0 = Add (down/group0:0, b_down/group0)",
        "down/group1:0 = MatMul (g, down/group1)",
        "bias/group1:0 = Add (down/group1:0, b_down/group1)",
        "h/Concat:0 = Concat (bias/group0:0, bias/group1:0)",
        "y = Add (h/Concat:0, x)",
        "Y = LayerNormalization (y, scale)",
    ]
    assert noted(after, "site", "layer", "group") == {
        "x": "x 0 -",
        "g": "g 0 -",
        "bias/group0:0": "h 0 0",
        "bias/group1:0": "h 0 1",
        "y": "y 0 -",
    }
    assert noted(after, "slice_of", "slice", "role", "layer", "partial") == {
        "down/group0:0": "down columns 0:2 ffn_out 0 -",
        "down/group1:0": "down columns 2:4 ffn_out 0 -",
    }


def test_h_of_a_split_g_is_a_sum_that_is_cut(split):
    after = split(POST, "g,h")
    assert after.wiring[8:] == [
        "h = Add (q, b_down)",
        "h/group0, h/group1 = Split (h, h/groups)",
        "h/Concat:0 = Concat (h/group0, h/group1)",
        "y = Add (h/Concat:0, x)",
        "Y = LayerNormalization (y, scale)",
    ]
    sites = noted(after, "site")
    assert sites == {"x": "x", "g/group0": "g", "h/group0": "h", "y": "y"}


def test_y(split):
    after = split(PRE, "y")
    assert [line for line in after.wiring if "group" in line] == [
        "X/group0, X/group1 = Split (X, X/groups)",
        "h/group0, h/group1 = Split (h, h/groups)",
        "total/group0:0 = Add (X/group0, h/group0)",
        "total/group1:0 = Add (X/group1, h/group1)",
        "y = Concat (total/group0:0, total/group1:0)",
    ]
    assert noted(after, "site", "group") == {
        "x": "x -",
        "g": "g -",
        "h": "h -",
        "total/group0:0": "y 0",
        "total/group1:0": "y 1",
    }


def test_y_behind_x_that_stays_whole(split):
    """What is read of x is cut; the site is all of it."""
    after = split(POST, "y")
    assert after.wiring[:2] == [
        "x = LayerNormalization (X, scale)",
        "x/group0, x/group1 = Split (x, x/groups)",
    ]
    assert "p = MatMul (x, up)" in after.wiring
    assert noted(after, "site")["x"] == "x"
    assert "x/group0" not in noted(after, "site")


def test_x_h_and_y(split):
    """The slices of x are added too; nothing reads it whole."""
    after = split(POST, "x,h,y")
    assert after.wiring == [
        "x = LayerNormalization (X, scale)",
        "x/group0, x/group1 = Split (x, x/groups)",
        "up/group0:0 = MatMul (x/group0, up/group0)",
        "up/group1:0 = MatMul (x/group1, up/group1)",
        "p = Add (up/group0:0, up/group1:0)",
        "a = Add (p, b_up)",
        "g = Relu (a)",
        "down/group0:0 = MatMul (g, down/group0)",
        "bias/group0:0 = Add (down/group0:0, b_down/group0)",
        "down/group1:0 = MatMul (g, down/group1)",
        "bias/group1:0 = Add (down/group1:0, b_down/group1)",
        "total/group0:0 = Add (bias/group0:0, x/group0)",
        "total/group1:0 = Add (bias/group1:0, x/group1)",
        "y = Concat (total/group0:0, total/group1:0)",
        "Y = LayerNormalization (y, scale)",
    ]


def test_all_four(split):
    after = split(PRE, "x,h,y,g", k=3)
    assert after.ops.count("MatMul") == 6
    assert after.ops.count("Split") == 4  # x, g, h and the residual
    assert after.ops.count("Concat") == 1
    assert noted(after, "site").keys() == {"x/group0", "g/group0", "h/group0"} | {
        f"total/group{n}:0" for n in range(3)
    }


def test_a_gated_network_without_biases(split):
    text = """x = LayerNormalization (X, scale)
        [up] p = MatMul (x, up) r = Relu (p)
        [gate] s = MatMul (x, gate)
        g = Mul (r, s)
        [down] h = MatMul (g, down)
        [total] y = Add (X, h)"""
    after = split(text, "x,h,y")
    assert after.ops.count("MatMul") == 6
    assert noted(after, "slice_of", "slice")["gate/group1:0"] == "gate rows 2:4"
    assert noted(after, "site", "group")["down/group1:0"] == "h 1"
    whole = split(text, "g")
    assert noted(whole, "site")["h"] == "h"


@pytest.mark.parametrize(
    "path",
    [
        "h = Add (b_down, q)",
        "h = Add (q, one)",
        "h = Add (row, q)",
        "d = Dropout (q) h = Add (d, b_down)",
        "i = Identity (q) j = Add (i, b_down) h = Dropout (j)",
        "r = Reshape (q, tokens) h = Add (r, b_down)",
        "c = Identity (b_down) h = Add (q, c)",
    ],
)
@pytest.mark.parametrize("tensors", ["h", "x,h,y", "h,g"])
def test_what_stands_between_product_and_sum(split, path, tensors):
    text = POST.replace("[bias] h = Add (q, b_down)", path)
    after = split(text, tensors)
    assert after.rewrites == 1
    assert sum(site == "h" for site in noted(after, "site").values()) == (
        1 if "g" in tensors else 2
    )


ROWS = """normed = LayerNormalization (X, scale)
    x = Reshape (normed, rows)
    [up] p = MatMul (x, up) a = Add (p, b_up) g = Relu (a)
    [down] q = MatMul (g, down) j = Add (q, b_down)
    [back] h = Reshape (j, {shape})
    [total] y = Add (X, h)"""


@pytest.mark.parametrize("tensors", ["x,h,y", "x,h,y,g", "h", "y"])
def test_rows_that_are_put_in_shape_again(split, tensors):
    after = split(ROWS.format(shape="tokens"), tensors)
    assert after.rewrites == 1
    if "g" not in tensors and "h" in tensors:
        assert after.constants["back/shape0"].tolist() == [2, -1, 2]
        assert noted(after, "site", "group")["j/group1:0"] == "h 1"


def test_a_shape_that_is_computed(split):
    sizes = "s = Shape <start = 0, end = 2> (X) t = Concat <axis = 0> (s, last)"
    after = split(f"{sizes} {ROWS.format(shape='t')}", "h")
    assert [line for line in after.wiring if line.startswith("back")] == [
        "back/head0:0 = Slice (t, back/from0, back/to0)",
        "back/shape0:0 = Concat (back/head0:0, back/columns0)",
        "back/group0:0 = Reshape (j/group0:0, back/shape0:0)",
        "back/head1:0 = Slice (t, back/from1, back/to1)",
        "back/shape1:0 = Concat (back/head1:0, back/columns1)",
        "back/group1:0 = Reshape (j/group1:0, back/shape1:0)",
    ]


def test_who_else_reads_what_was_cut(split):
    """Readers of values have the slices, joined once; readers of sizes and the caller have all."""
    text = f"{POST} s = Shape (x) r = Relu (x) e = Relu (g) f = Tanh (g)"
    outputs = (
        f", int64[3] s, float[2,T,{D}] r, float[2,T,{D}] x, float[2,T,{N}] e, float[2,T,{N}] f"
    )
    after = split(text, "x,g", outputs=outputs)
    assert {"s = Shape (x)", "r = Relu (x/Concat:0)"} <= set(after.wiring)
    assert {"e = Relu (g/Concat:0)", "f = Tanh (g/Concat:0)"} <= set(after.wiring)
    assert after.ops.count("Concat") == 2


def test_a_reader_inside(split):
    text = f"""{POST} c = ReduceSum <keepdims = 0> (X) m = Relu (c) b = Cast <to = 9> (m)
        Z = If (b) <
          then_branch = t () => (float[2,T,{D}] T) {{ T = Relu (x) }},
          else_branch = e () => (float[2,T,{D}] E) {{ E = Neg (x) }}>"""
    after = split(text, "x", outputs=f", float[2,T,{D}] Z")
    (chosen,) = (node for node in after.model.graph.node if node.op_type == "If")
    read = [branch.g.node[0].input[0] for branch in chosen.attribute]
    assert read == ["x/Concat:0", "x/Concat:0"]


def test_one_input_of_the_graph(split):
    text = POST.replace("x = LayerNormalization (X, scale)", "").replace("x", "X")
    assert "LayerNormalization" not in text
    after = split(text, "x,h,y,g")
    assert after.wiring[0] == "X/group0, X/group1 = Split (X, X/groups)"
