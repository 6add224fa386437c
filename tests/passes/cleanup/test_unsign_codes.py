"""unsign-codes: activations that are moved as signed codes are moved as unsigned ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from sardonyx.passes.cleanup.unsign_codes import UnsignCodes

GRID = {"s": np.float32(0.001), "z": np.int8(-3)}


def kinds(model):
    """Types of tensors that nodes make, by name."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    return {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}


def test_before_and_after(apply, text_model, same_bits, normal):
    """Two that a Concat joins, one of which is padded; readers with scales of their own."""
    before = text_model(
        """g (float[B,3] x, float[3,B] w) => (float[C,5] Y, float[5,C] Z) {
             a = QuantizeLinear (x, s, z)
             p = QuantizeLinear (w, s, z)
             b = Transpose (p)
             c = Concat <axis = 0> (a, b)
             d = Pad (c, by, z)
             Y = DequantizeLinear (d, s, z)
             t = Transpose (d)
             Z = DequantizeLinear (t, r, y)
           }""",
        by=np.int64([0, 2, 0, 0]),
        r=np.float32(3),
        y=np.int8(5),
        **GRID,
    )
    before = onnx.shape_inference.infer_shapes(before)  # what it says of the types is to go
    after = apply(UnsignCodes(), before)
    assert (after.rewrites, after.again) == (1, 0)
    assert after.ops == [n.op_type for n in before.graph.node]
    assert [n.output[0] for n in after.model.graph.node][:3] == [
        "a/Unsigned",
        "p/Unsigned",
        "b/Unsigned",
    ]
    assert set(kinds(after.model).values()) == {TensorProto.UINT8}
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in after.model.graph.initializer}
    assert (constants["z/Unsigned"], constants["y/Unsigned"]) == (125, 133)
    assert constants["z/Unsigned"].dtype == np.uint8
    same_bits(before, after.model, {"x": 9 * normal(2, 3), "w": normal(3, 2, seed=1)})


def test_a_scale_for_each_place_of_an_axis(apply, text_model, same_bits, normal):
    before = text_model(
        """g (float[2,3] x) => (float[3,2] Y) {
             a = QuantizeLinear <axis = 0> (x, s, z)
             b = Transpose (a)
             Y = DequantizeLinear <axis = 1> (b, s, z)
           }""",
        s=np.float32([0.001, 0.002]),
        z=np.int8([-128, 127]),
    )
    after = apply(UnsignCodes(), before)
    assert (after.rewrites, after.again) == (1, 0)
    same_bits(before, after.model, {"x": normal(2, 3)})


def test_onnxruntime_multiplies_integers(apply, text_model, normal, tmp_path):
    """Without the pass the product stays in floats, on a processor that has no signed one."""
    text = """g (float[2,8,4] x) => (uint8[2,4,8] Y) {
      a = QuantizeLinear (x, s, z)
      b = Transpose <perm = [0, 2, 1]> (a)
      c = DequantizeLinear (b, s, z)
      w = DequantizeLinear (W, s, z0)
      y = MatMul (c, w)
      Y = QuantizeLinear (y, s, zu)
    }"""
    codes = (normal(8, 8) * 1000).astype(np.int8)
    before = text_model(text, W=codes, z0=np.int8(0), zu=np.uint8(120), **GRID)
    after = apply(UnsignCodes(), before)
    assert (after.rewrites, after.again) == (1, 0)
    assert "QLinearMatMul" in optimized(after.model, tmp_path / "after.onnx")


def optimized(model: onnx.ModelProto, path: Path) -> list[str]:
    """The ops that onnxruntime makes of a model."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(path).graph.node]


def test_bodies_by_themselves(apply, text_model, same_bits, normal):
    body = "a = QuantizeLinear (x, s, z) b = Transpose (a) r{0} = DequantizeLinear (b, s, z)"
    before = text_model(
        f"""g (bool c, float[2,3] x) => (float[3,2] Y) {{
             Y = If (c) <
               then_branch = t () => (float[3,2] r1) {{ {body.format(1)} }},
               else_branch = e () => (float[3,2] r2) {{ {body.format(2)} }}
             >
           }}""",
        **GRID,
    )
    after = apply(UnsignCodes(), before)
    assert (after.rewrites, after.again) == (2, 0)
    for c in (True, False):
        same_bits(before, after.model, {"c": np.array(c), "x": normal(2, 3)})


MADE = "a = QuantizeLinear (x, s, z)"
MOVED = f"{MADE} b = Transpose (a)"


@pytest.mark.parametrize(
    ("text", "held", "reason"),
    [
        pytest.param(f"{MADE} Y = DequantizeLinear (a, s, z)", {}, None, id="1-not-moved"),
        pytest.param(
            "a = QuantizeLinear (x, s, u) b = Transpose (a) Y = DequantizeLinear (b, s, u)",
            {"u": np.uint8(1)},
            None,
            id="1-unsigned",
        ),
        pytest.param(
            f"{MADE} C = Transpose (a) Y = DequantizeLinear (C, s, z)",
            {},
            "'C' comes from outside, or goes there",
            id="2-output",
        ),
        pytest.param(
            f"{MOVED} p = MatMulInteger (b, W) Y = Cast <to = 1> (p)",
            {"W": np.ones((2, 2), np.int8)},
            "MatMulInteger '' makes or needs signed codes",
            id="2-read",
        ),
        pytest.param(
            f"{MADE} b = Concat <axis = 0> (a, W) Y = DequantizeLinear (b, s, z)",
            {"W": np.ones((2, 3), np.int8)},
            "'W' comes from outside, or goes there",
            id="2-joined",
        ),
        pytest.param(
            f"{MOVED} Y = DequantizeLinear (b, s)",
            {},
            "a zero point is left out or computed",
            id="3-left-out",
        ),
        pytest.param(
            f"{MADE} b = Pad (a, by) Y = DequantizeLinear (b, s, z)",
            {"by": np.int64([0, 0, 0, 1])},
            "a zero point is left out or computed",
            id="3-padding-left-out",
        ),
    ],
)
def test_near_misses(apply, text_model, run_ort, normal, text, held, reason):
    outputs = "int8[a,b] C, float[c,d] Y" if "C =" in text else "float[c,d] Y"
    before = text_model(f"g (float[2,3] x) => ({outputs}) {{ {text} }}", **(GRID | held))
    run_ort(before, {"x": normal(2, 3)})
    after = apply(UnsignCodes(), before)
    assert after.rewrites == 0
    assert [miss.reason for miss in after.journal.missed] == ([reason] if reason else [])
