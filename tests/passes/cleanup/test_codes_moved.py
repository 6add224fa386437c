"""sink-dequantize and hoist-quantize together: they come to an end, and codes are what moves."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from sardonyx.compiler import compile
from sardonyx.compiler.recipe import Recipe
from sardonyx.passes.cleanup.hoist_quantize import HoistQuantize
from sardonyx.passes.cleanup.movements import MOVEMENTS
from sardonyx.passes.cleanup.sink_dequantize import SinkDequantize
from sardonyx.passes.cleanup.unsign_codes import UnsignCodes

BOTH = Recipe("both", "", (SinkDequantize(), HoistQuantize()), alone=True)
ALL = Recipe("all", "", (*BOTH.passes, UnsignCodes()), alone=True)
CODES = {TensorProto.INT8, TensorProto.UINT8}


def moved_kinds(model):
    """The types of what movements move, and how many they are."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    graph = inferred.graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input)}
    kinds |= {v.name: v.type.tensor_type.elem_type for v in graph.output}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return [kinds[n.input[0]] for n in graph.node if n.op_type in MOVEMENTS]


STEP = """g (float[B,2,P,4] past_k, float[B,2,P,4] past_v, int64[N] beams, float[N,2,1,4] k,
           float[N,2,1,4] v, float[N,2,1,4] q) => (float[N,2,1,4] context) {
  ordered_k = Gather (past_k, beams)
  all_k = Concat <axis = 2> (ordered_k, k)
  k_codes = QuantizeLinear (all_k, s, z)
  k_values = DequantizeLinear (k_codes, s, z)
  turned = Transpose <perm = [0, 1, 3, 2]> (k_values)
  q_codes = QuantizeLinear (q, s, z)
  q_values = DequantizeLinear (q_codes, s, z)
  scores = MatMul (q_values, turned)
  p = Softmax <axis = -1> (scores)
  p_codes = QuantizeLinear (p, one, none)
  p_values = DequantizeLinear (p_codes, one, none)
  places = Unsqueeze (beams, last)
  ordered_v = GatherND (past_v, places)
  all_v = Concat <axis = 2> (ordered_v, v)
  v_codes = QuantizeLinear (all_v, s, z)
  v_values = DequantizeLinear (v_codes, s, z)
  context = MatMul (p_values, v_values)
}"""
"""A decoder's step: the cache in the order of the beams, what is new behind it, integer products.
"""


@pytest.fixture
def step(text_model):
    """The step's graph, with codes of a type."""

    def make(zero):
        grid = {"s": np.float32(0.001), "z": zero, "last": np.int64([-1])}
        return text_model(STEP, **grid, one=np.float32(1 / 255), none=np.uint8(0))

    return make


@pytest.fixture
def feeds(normal):
    """Three beams with five tokens in the cache, two of which go on with one."""
    held = {name: normal(3, 2, 5, 4, seed=n) for n, name in enumerate(["past_k", "past_v"])}
    held |= {name: normal(3, 2, 1, 4, seed=n) for n, name in enumerate("kvq")}
    return held | {"beams": np.int64([1, 1, 0])}


@pytest.mark.parametrize("zero", [np.uint8(128), np.int8(0)], ids=["uint8", "int8"])
def test_a_cache_is_ordered_in_codes(step, feeds, same_bits, zero):
    before = step(zero)
    after = compile(before, BOTH)
    kind = TensorProto.UINT8 if zero.dtype == np.uint8 else TensorProto.INT8
    assert set(moved_kinds(before)) == {TensorProto.FLOAT, TensorProto.INT64}
    assert sorted(moved_kinds(after.model)) == sorted([kind] * 5 + [TensorProto.INT64])
    assert after.report.verification.unchecked == []
    same_bits(before, after.model, feeds)


def test_a_cache_of_codes_stays_codes(text_model, same_bits, normal):
    """What comes in as codes and goes out as codes is never a float on its way."""
    before = text_model(
        """g (uint8[B,2,P,4] past, int64[N] beams, float[N,2,1,4] k)
             => (uint8[N,2,T,4] present, float[N,2,4,T] turned) {
             values = DequantizeLinear (past, s, z)
             ordered = Gather (values, beams)
             new_codes = QuantizeLinear (k, s, z)
             new = DequantizeLinear (new_codes, s, z)
             all = Concat <axis = 2> (ordered, new)
             present = QuantizeLinear (all, s, z)
             again = DequantizeLinear (present, s, z)
             turned = Transpose <perm = [0, 1, 3, 2]> (again)
           }""",
        s=np.float32(0.001),
        z=np.uint8(128),
    )
    after = compile(before, BOTH)
    assert set(moved_kinds(after.model)) <= CODES | {TensorProto.FLOAT}
    past = np.arange(3 * 2 * 5 * 4).reshape(3, 2, 5, 4).astype(np.uint8)
    feeds = {"past": past, "beams": np.int64([2, 0]), "k": normal(2, 2, 1, 4)}
    same_bits(before, after.model, feeds)


STEPS = {
    "Transpose": "y{0} = Transpose (y{1})",
    "Reshape": "y{0} = Reshape (y{1}, flat)",
    "Unsqueeze": "y{0} = Unsqueeze (y{1}, first)",
    "Squeeze": "y{0} = Squeeze (y{1})",
    "Concat": "y{0} = Concat <axis = 0> (y{1}, y{2})",
    "Split": "y{0}, y{0}b = Split <axis = 0> (y{1}, parts)",
    "Gather": "y{0} = Gather (y{1}, first)",
    "Tile": "y{0} = Tile (y{1}, two)",
    "QDQ": "c{0} = QuantizeLinear (y{1}, s, z)\ny{0} = DequantizeLinear (c{0}, s, z)",
    "QDQ2": "c{0} = QuantizeLinear (y{1}, r, z)\ny{0} = DequantizeLinear (c{0}, r, z)",
    "Neg": "y{0} = Neg (y{1})",
}


@st.composite
def graphs(draw):
    """Vectors [2n] moved, rounded and computed with; each step reads an earlier one or two."""
    lines, shapes = [], [(4,)]
    for number in range(1, draw(st.integers(1, 12)) + 1):
        kind = draw(st.sampled_from(sorted(STEPS)))
        a, b = (draw(st.integers(max(0, number - 3), number - 1)) for _ in "ab")
        shape = shapes[a]
        fits = {
            "Concat": len(shape) == len(shapes[b]) == 1,
            "Squeeze": max(shape) > 1,
            "Split": len(shape) == 1 and shape[0] == 4,
            "Tile": len(shape) == 1,
            "Unsqueeze": len(shape) < 3,
        }
        if not fits.get(kind, True):
            kind = "Neg"
        lines.append(STEPS[kind].format(number, a, b))
        shapes.append(_after(kind, shape, shapes[b]))
    outputs = draw(st.sets(st.integers(1, len(lines)), min_size=1, max_size=3))
    return lines, {f"y{number}": shapes[number] for number in sorted(outputs)}


def _after(kind, shape, other):
    size = int(np.prod(shape))
    return {
        "Transpose": shape[::-1],
        "Reshape": (size,),
        "Unsqueeze": (1, *shape),
        "Squeeze": tuple(dim for dim in shape if dim != 1),
        "Concat": (shape[0] + other[0],) if shape and other else (),
        "Split": (2,),
        "Gather": (1, *shape[1:]),
        "Tile": (2 * size,),
    }.get(kind, shape)


@settings(max_examples=150)
@given(graph=graphs(), int8=st.booleans())
def test_random_graphs(text_model, same_bits, graph, int8):
    """The driver sees them come to rest, each changed part gives the same bits, and so does all."""
    lines, outputs = graph
    declared = ", ".join(f"float{list(shape)} {name}" for name, shape in outputs.items())
    before = text_model(
        f"g (float[4] y0) => ({declared}) {{ {chr(10).join(lines)} }}",
        s=np.float32(0.01),
        r=np.float32(0.03),
        z=np.int8(-3) if int8 else np.uint8(120),
        flat=np.int64([-1]),
        first=np.int64([0]),
        two=np.int64([2]),
        parts=np.int64([2, 2]),
    )
    after = compile(before, ALL)
    assert after.report.verification.unchecked == []
    same_bits(before, after.model, {"y0": np.float32([0.5, -0.2, 0.011, 0.3])})
    assert moved_kinds(after.model).count(TensorProto.FLOAT) <= moved_kinds(before).count(
        TensorProto.FLOAT
    )
    assert compile(after.model, ALL).model.graph.node == after.model.graph.node
