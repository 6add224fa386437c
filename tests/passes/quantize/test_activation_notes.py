"""What is noted where an activation is rounded."""

import pytest

from sardonyx.passes.journal import Activation
from sardonyx.passes.quantize.activation_notes import activation_notes
from sardonyx.passes.quantize.insert_qdq import InsertQdq

MATMUL = "g (float[M,64] X) => (float[M,96] Y) { [product] Y = MatMul (X, W) }"


def noted(model, op):
    (node,) = (node for node in model.graph.node if node.op_type == op)
    return {p.key.removeprefix("sardonyx."): p.value for p in node.metadata_props}


def test_what_was_measured(done, text_model, normal, x):
    after = done(InsertQdq(method="min-max"), text_model(MATMUL, W=normal(64, 96)), {"X": x})
    entry, notes = after.activations["X"], noted(after.model, "QuantizeLinear")
    low, high = map(float, notes.pop("activation_range").split(" to "))
    assert (low, high) == pytest.approx((x.min(), x.max()), rel=1e-5)
    assert notes == {
        "pass": "insert-qdq",
        "activation": "X",
        "activation_format": "uint8/tensor",
        "activation_method": "min-max",
        "activation_class": f"gaussian: {entry.class_reason}",
        "activation_sqnr_db": f"{entry.sqnr_db:.2f}",
        "product_sqnr_db": f"{entry.product_sqnr_db:.2f}",
    }


def test_a_range_of_each_run(done, text_model, normal, x):
    a_pass = InsertQdq(activations="dynamic")
    after = done(a_pass, text_model(MATMUL, W=normal(64, 96)), {"X": x})
    assert noted(after.model, "DynamicQuantizeLinear") == {
        "pass": "insert-qdq",
        "activation": "X",
        "activation_format": "uint8/tensor",
        "activation_method": "dynamic",
    }


def test_what_is_not_known_is_not_noted():
    entry = Activation("X", "product", "int8/tensor", (-1.0, 2e-9), "ema")
    assert activation_notes(entry).get("product_sqnr_db") is None
    assert activation_notes(entry)["activation_range"] == "-1 to 2e-09"
