"""gobo: compute=int8 on products, and where it is left out."""

import numpy as np
import pytest
from onnx import helper

from sardonyx.passes.gobo.encode import Gobo


def computes(node):
    return [helper.get_attribute_value(a) for a in node.attribute if a.name == "compute"]


def notes_of(node):
    return {prop.key.removeprefix("sardonyx."): prop.value for prop in node.metadata_props}


@pytest.mark.parametrize("compute", ["fp32", "int8"])
def test_compute_is_on_every_product_and_no_lookup(apply, text_model, normal, run_ort, compute):
    before = text_model(
        """g (float[M,64] X, int64[L] I) => (float[M,100] Y, float[L,64] Z, float[M,96] T) {
             Z = Gather (W, I)
             V = Transpose (W)
             Y = MatMul (X, V)
             T = Gemm (X, G, b)
           }""",
        W=normal(100, 64),
        G=normal(64, 96),
        b=normal(96),
    )
    after = apply(Gobo(compute=compute), before)
    ops = {n.op_type: (computes(n), n) for n in after.model.graph.node if n.domain}
    found = {name: given for name, (given, _) in ops.items()}
    wanted = [] if compute == "fp32" else [b"int8"]
    assert found == {"GoboGather4": [], "GoboMatMul4": wanted, "GoboMatMul3": wanted}
    assert [entry.compute for entry in after.journal.encoded] == [compute] * 2
    assert notes_of(ops["GoboMatMul3"][1]).get("compute", "fp32") == compute
    # onnxruntime runs the bodies, in floating point whatever the attribute says
    x = normal(5, 64, seed=1) * np.float32(25)
    feeds = {"X": x, "I": np.array([0, 99, 7, -1])}
    for have, want in zip(run_ort(after.model, feeds), run_ort(after.decoded, feeds), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=1e-5)  # a Gemm is taken apart


@pytest.mark.parametrize(
    ("dtype", "shape", "reason"),
    [
        (np.float16, (64, 96), "fp32, as activations are float16: int8 takes float32"),
        (np.float64, (64, 96), "fp32, as activations are float64: int8 takes float32"),
        (
            np.float32,
            (131073, 16),
            "fp32, as columns have 131073 weights: int8 sums at most 131072",
        ),
        (np.float32, (131072, 16), "int8"),
    ],
)
def test_where_int8_is_left_out(apply, text_model, normal, dtype, shape, reason):
    kind = {np.float16: "float16", np.float32: "float", np.float64: "double"}[dtype]
    k, n = shape
    text = f"g ({kind}[M,{k}] X) => ({kind}[M,{n}] Y) {{ Y = MatMul (X, W) }}"
    after = apply(Gobo(compute="int8"), text_model(text, W=normal(*shape, dtype=dtype)))
    (node,), (entry,) = after.model.graph.node, after.journal.encoded
    assert computes(node) == ([b"int8"] if reason == "int8" else [])
    assert notes_of(node)["compute"] == entry.compute == reason
