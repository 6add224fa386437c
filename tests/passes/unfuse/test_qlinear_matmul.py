"""unfuse-qlinear-matmul: a product rounded to codes for floats alone shows where it is rounded."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from sardonyx.compiler import compile, load_recipe
from sardonyx.compiler.recipe import Recipe
from sardonyx.passes.unfuse.qlinear_matmul import UnfuseQLinearMatMul

PASS = UnfuseQLinearMatMul()
DQ, Q = "DequantizeLinear", "QuantizeLinear"
TEXT = """g (uint8[N,8] A) => (float[N,6] Y) {
            q = QLinearMatMul (A, s, z, W, u, v, t, y)
            f = DequantizeLinear (q, t, y)
            Y = Neg (f)
          }"""
GRIDS = {
    "scalars": {},
    "vectors of one": {"s": np.float32([0.02]), "z": np.uint8([120]), "t": np.float32([0.05])},
    "columns": {
        "u": np.linspace(0.005, 0.02, 6, dtype=np.float32),
        "v": np.arange(6, dtype=np.int8),
    },
    "scales alone": {"u": np.linspace(0.005, 0.02, 6, dtype=np.float32)},
}


@pytest.fixture
def product(text_model):
    """A model of one QLinearMatMul; keywords are other initializers, None for none."""

    def make(text: str = TEXT, opset: int = 17, **others) -> onnx.ModelProto:
        held = {
            "s": np.float32(0.02),
            "z": np.uint8(120),
            "W": np.random.default_rng(0).integers(-127, 128, (8, 6)).astype(np.int8),
            "u": np.float32(0.01),
            "v": np.int8(0),
            "t": np.float32(0.05),
            "y": np.uint8(128),
        }
        given = {name: value for name, value in (held | others).items() if value is not None}
        return text_model(text, opset, **given)

    return make


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
@pytest.mark.parametrize("opset", [13, 21])
def test_before_after(apply, product, run_ort, grid, opset):
    model = product(opset=opset, **grid)
    after = apply(PASS, model)
    assert (after.rewrites, after.again) == (1, 0)
    assert after.ops == [DQ, DQ, "MatMul", Q, DQ, "Neg"]
    codes = np.random.default_rng(1).integers(0, 256, (500, 8)).astype(np.uint8)
    (want,), (have,) = (run_ort(m, {"A": codes}) for m in (model, after.model))
    steps = np.abs(want - have) / np.float32(0.05)
    assert steps.max() < 1.01  # one code
    assert np.mean(steps > 0.5) < 0.01  # where the sums lie halfway, by the floats' own rounding


def test_codes_saturate_alike(product):
    """The driver allows one code of difference, and no more, also beyond the range."""
    compile(product(t=np.float32(1e-4)), Recipe("r", "", (PASS,), alone=True))


def test_a_batch_of_activations(apply, product, run_ort):
    text = TEXT.replace("A) =>", "A, int8[2,8,6] W) =>").replace("float[N,6]", "float[2,N,6]")
    model = product(text, W=None)
    after = apply(PASS, model)
    assert (after.rewrites, after.again) == (1, 0)
    generator = np.random.default_rng(1)
    feeds = {"A": generator.integers(0, 256, (5, 8)).astype(np.uint8)}
    feeds["W"] = generator.integers(-128, 128, (2, 8, 6)).astype(np.int8)
    (want,), (have,) = (run_ort(m, feeds) for m in (model, after.model))
    assert np.abs(want - have).max() < 0.0505  # one code


def test_with_dequantize_sums_nothing_is_rounded(product, tmp_path):
    """onnxruntime makes one op of the product, whose result is no longer codes."""
    made = compile(product(), load_recipe("cleanup-inexact")).model
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ops = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert ops == {"MatMulIntegerToFloat": 1, "Neg": 1}


@pytest.mark.parametrize(
    ("text", "others"),
    [
        (
            TEXT.replace("Neg (f)", "QuantizeLinear (f, u, y)").replace("float[N,6]", "uint8[N,6]"),
            {},
        ),
        (TEXT.replace("=> (", "=> (uint8[N,6] q, "), {}),
        (TEXT.replace("Y = Neg (f)", "r = Identity (q)\n Y = DequantizeLinear (r, t, y)"), {}),
        (TEXT.replace("A) =>", "A, float s) =>"), {"s": None}),
        (TEXT.replace("A) =>", "A, uint8 y) =>"), {"y": None}),
        (TEXT.replace("A) =>", "A, int8[8,6] W) =>"), GRIDS["columns"] | {"W": None}),
    ],
)
def test_near_misses(apply, product, text, others):
    assert apply(PASS, product(text, **others)).rewrites == 0
