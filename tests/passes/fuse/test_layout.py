"""Which part of which axis is where: Reshapes and Transposes as onnxruntime carries them out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.compiler.load import load
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.fuse.layout import (
    FLAT,
    ROWS,
    SPLIT,
    TURNED,
    is_layout,
    parts_of,
    shape_of,
    step_ahead,
    steps_back,
)
from sardonyx.passes.journal import Journal
from sardonyx.passes.sizes import Sizes

NAMES = ("batch", "heads", "length", "size")


@pytest.fixture(scope="module")
def steps(text_model):
    """The way back from Y, of some layout, in the graph of some nodes."""

    def find(text, layout=SPLIT, **constants):
        _, graph = load(text_model(text, **constants))
        LiftConstants().run(graph, Journal())
        sizes = Sizes(graph)
        (tensor,) = graph.outputs
        shape = sizes.shape(tensor)
        return list(steps_back(sizes, tensor, layout, parts_of(layout, shape)))

    return find


def labelled(layout, sizes):
    """An array of a layout, each element saying which batch, head, place and component it is."""
    numbers = np.arange(np.prod([sizes[name] for name in NAMES]), dtype=np.float32)
    parts = [part for axis in layout for part in axis]
    split = numbers.reshape([sizes[name] for name in NAMES])
    turned = split.transpose([NAMES.index(part) for part in parts])
    return turned.reshape([int(np.prod([sizes[p] for p in axis])) for axis in layout])


@st.composite
def chains(draw):
    """Sizes of the parts, and Reshapes and Transposes from [B, T, N D]; where they lead to."""
    sizes = {name: draw(st.integers(1, 4)) for name in NAMES}
    value = labelled(FLAT, sizes)
    nodes = []
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()) and value.ndim:
            perm = draw(st.permutations(range(value.ndim)))
            value = value.transpose(perm)
            nodes.append(("Transpose", perm))
            continue
        held = [sizes[name] for name in draw(st.permutations(NAMES))]
        ends = sorted(draw(st.sets(st.integers(1, 3))))
        groups = [held[a:b] for a, b in itertools.pairwise([0, *ends, 4])]
        shape = [int(np.prod(group)) for group in groups]
        value = value.reshape(shape)
        nodes.append(("Reshape", shape))
    return sizes, nodes, value


@given(chains(), st.sampled_from([SPLIT, TURNED]))
def test_a_layout_is_seen_only_where_it_is_one(text_model, run_ort, chain, layout):
    sizes, nodes, value = chain
    wanted = labelled(layout, sizes)
    nodes = [*nodes, ("Reshape", list(wanted.shape))]
    value = value.reshape(wanted.shape)
    lines, constants, last = [], {}, "X"
    for place, (op, numbers) in enumerate(nodes):
        if op == "Reshape":
            constants[f"k{place}"] = np.array(numbers)
            lines.append(f"t{place} = Reshape ({last}, k{place})")
        else:
            lines.append(f"t{place} = Transpose <perm = {list(numbers)}> ({last})")
        last = f"t{place}"
    flat = labelled(FLAT, sizes)
    shapes = [",".join(map(str, array.shape)) for array in (flat, value)]
    body = "\n".join(lines)
    model = text_model(
        f"g (float[{shapes[0]}] X) => (float[{shapes[1]}] Y) {{ {body}\n Y = Identity ({last}) }}",
        **constants,
    )
    assert np.array_equal(run_ort(model, {"X": flat})[0], value)
    _, graph = load(model)
    LiftConstants().run(graph, Journal())
    found = Sizes(graph)
    parts = parts_of(layout, found.shape(graph.outputs[0]))
    end = list(steps_back(found, graph.outputs[0], layout, parts))[-1]
    seen = end.tensor is graph.inputs[0] and is_layout(end.layout, FLAT, parts)
    assert not seen or np.array_equal(value, wanted)


SPLIT_TEXT = """g (float[batch,length,8] X) => (float[batch,2,length,4] Y) {
  four = Reshape (X, target)
  Y = Transpose <perm = [0, 2, 1, 3]> (four)
}"""


def test_the_way_back_of_a_split(steps):
    found = steps(SPLIT_TEXT, target=np.array([0, 0, 2, 4]))
    assert [step.tensor.name for step in found] == ["Y", "four", "X"]
    assert [step.layout for step in found] == [
        SPLIT,
        (("batch",), ("length",), ("heads",), ("size",)),
        FLAT,
    ]
    assert {step.factor for step in found} == {1.0}


@pytest.mark.parametrize("perm", [[0, 1, 2, 3], [0, 3, 1, 2], [1, 2, 0, 3]])
def test_what_is_no_split_though_its_shape_may_be(steps, perm):
    # [4, 4, 16] in 4 heads of 4: every one of these has the shape of a split
    text = SPLIT_TEXT.replace("[batch,length,8]", "[4,4,16]").replace("[0, 2, 1, 3]", str(perm))
    found = steps(text.replace("[batch,2,length,4]", "[4,4,4,4]"), target=np.array([0, 0, 4, 4]))
    parts = {"batch": 4, "heads": 4, "length": 4, "size": 4}
    assert not any(is_layout(step.layout, FLAT, parts) for step in found)


def test_products_with_numbers_on_the_way(steps):
    text = SPLIT_TEXT.replace("four = Reshape (X", "s = Mul (X, half)\n d = Div (s, quarter)\n"
                              " four = Reshape (d")  # fmt: skip
    found = steps(
        text, target=np.array([0, 0, 2, 4]), half=np.float32(0.5), quarter=np.float32(0.25)
    )
    assert [(step.tensor.name, step.factor) for step in found] == [
        ("Y", 1),
        ("four", 1),
        ("d", 1),
        ("s", 4),
        ("X", 2),
    ]


def test_a_number_that_adds_axes_ends_the_way(steps):
    text = """g (float[3,8] X) => (float[1,2,3,4] Y) {
      wide = Mul (X, half)
      four = Reshape (wide, target)
      Y = Transpose <perm = [0, 2, 1, 3]> (four)
    }"""
    found = steps(text, target=np.array([0, 0, 2, 4]), half=np.full((1, 1, 1), 0.5, np.float32))
    assert [step.tensor.name for step in found] == ["Y", "four", "wide"]


def test_a_step_ahead(text_model):
    text = """g (float[batch,2,length,4] X) => (float[?,?] Y) {
      turned = Transpose <perm = [0, 2, 1, 3]> (X)
      same = Identity (turned)
      flat = Reshape (same, merge)
      rows = Reshape (flat, last)
      Y = Relu (rows)
    }"""
    model = text_model(text, merge=np.array([0, 0, 8]), last=np.array([-1, 8]))
    _, graph = load(model)
    sizes = Sizes(graph)
    parts = parts_of(SPLIT, sizes.shape(graph.inputs[0]))
    layout, seen = SPLIT, []
    for node in graph.nodes[:-1]:
        layout = step_ahead(sizes, node, layout, parts)
        seen.append(layout)
    between = (("batch",), ("length",), ("heads",), ("size",))
    assert seen == [between, between, FLAT, ROWS]
    assert step_ahead(sizes, graph.nodes[-1], layout, parts) is None


def test_parts_of_size_1_are_in_any_axis():
    parts = {"batch": 1, "heads": 2, "length": 3, "size": 4}
    assert is_layout((("batch", "length"), ("heads",)), (("length",), ("batch", "heads")), parts)
    assert not is_layout(FLAT, ROWS, parts)
    assert shape_of(FLAT, parts) == (1, 3, 8)
