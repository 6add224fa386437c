"""Whole models with quantized products, lowered for a CPU."""

from collections import Counter

import numpy as np
import onnx
import pytest

from sardonyx.compiler import InputError, compile
from sardonyx.compiler.verify import relative_difference
from sardonyx.models import TINY_BERT, exported_models, minilm_l6, seeded_bert
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.lower.integer_linear import LowerIntegerLinear

STATIC = {"form": "static", "integer_bias": True}
FORMS = [STATIC, STATIC | {"integer_bias": False}, STATIC | {"signed": True}, {"form": "dynamic"}]


def feeds_of(model):
    ids = np.random.default_rng(0).integers(0, 1000, (2, 12))
    held = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids % 2}
    return {value.name: held[value.name] for value in model.graph.input}


@pytest.fixture(scope="module")
def bert(apply):
    return apply(LiftConstants(), seeded_bert(TINY_BERT, 0)).model


@pytest.mark.parametrize("given", FORMS)
def test_a_small_model(bert, quantize, run_ort, census, given):
    """All 12 products by weights, those of queries, keys and values as one."""
    feeds = feeds_of(bert)
    model = quantize(bert, feeds, **given)
    done = compile(model, "float", target="cpu", verify="full")
    checked = done.report.verification
    assert (checked.regions, checked.unchecked) == (checked.regions_run, [])
    dynamic = given["form"] == "dynamic"
    linear = "DynamicQuantizeMatMul" if dynamic else "MatMulIntegerToFloat"
    assert done.model.opset_import[0].version == 23
    counted = census(done.model)
    assert [counted[op] for op in (linear, "Split", "Attention", "MatMul")] == [8, 2, 2, 0]
    assert counted["QuantizeLinear"] == (0 if dynamic else 8)
    assert not {"DequantizeLinear", "MatMulInteger", "DynamicQuantizeLinear"} & counted.keys()
    reasons = Counter((entry.by, entry.reason.partition(":")[0]) for entry in done.report.fused)
    kind = "dynamic range" if dynamic else "static range"
    assert reasons["lower-integer-linear", kind] == 12
    assert reasons["merge-projections", "3 products of one activation"] == 2
    assert reasons["lower-dynamic-linear", "dynamic range of one product"] == (8 if dynamic else 0)
    (want, *_), (have, *_) = (run_ort(m, feeds) for m in (bert, done.model))
    assert 1e-4 < relative_difference(want, have) < 0.1  # as much as 8 bits lose


@pytest.mark.parametrize("target", ["cpu", "cpu-avx2"])
@pytest.mark.parametrize("recipe", ["int8-dynamic", "int8-kl"])
def test_8_bits_where_they_saturate(bert, recipe, target):
    """Refused at once: ahead of calibration, for which there is no data here."""
    message = r"insert-qdq.weight_bits=8: sums .* saturate .*; set it to 7 or less, or compile for"
    with pytest.raises(InputError, match=message):
        compile(bert, recipe, target=target, overrides=["insert-qdq.weight_bits=8"])


@pytest.mark.parametrize("optimize", [False, True])
def test_avx2_is_free_of_saturation(bert, quantize, apply, run_ort, optimize):
    """Sums of integers are those of floats: where there is no VNNI, they would not be if they
    saturated."""
    feeds = feeds_of(bert)
    model = quantize(bert, feeds)
    lowered = apply(LowerIntegerLinear(), model).model
    (want, *_), (have, *_) = (
        run_ort(m, feeds, optimize=on) for m, on in ((model, True), (lowered, optimize))
    )
    assert relative_difference(want, have) <= 1e-5  # normalizations are fused otherwise


def test_what_a_source_brought_is_left(bert, quantize):
    """8 bits are refused only where this compile's recipe made them."""
    model = quantize(bert, feeds_of(bert), bits=8)
    done = compile(model, "float", target="cpu")
    assert {n.op_type for n in done.model.graph.node} & {"MatMulIntegerToFloat"} == set()
    reasons = {entry.reason for entry in done.report.not_fused if "lower" in entry.by}
    assert len(reasons) == 12
    assert all("saturate" in reason for reason in reasons)


@pytest.mark.slow
@pytest.mark.parametrize("given", FORMS)
def test_a_real_model(quantize, run_ort, apply, given):
    """What onnxruntime, optimizing, makes of the portable form of MiniLM-L6, where it multiplies
    integers itself; it does not in all products of signed activations."""
    model = apply(LiftConstants(), minilm_l6()).model
    ids = np.random.default_rng(0).integers(1000, 20_000, (2, 12))
    held = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids * 0}
    feeds = {value.name: held[value.name] for value in model.graph.input}
    quantized = quantize(model, feeds, **given)
    after = apply(LowerIntegerLinear(), quantized)
    assert (after.rewrites, after.again, after.journal.missed) == (36, 0, [])
    (want, *_), (have, *_) = (run_ort(m, feeds, optimize=True) for m in (quantized, after.model))
    bound = 0.2 if given.get("signed") else 1e-6  # a rounding that falls otherwise goes on growing
    assert relative_difference(want, have) <= bound


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "cpu-vnni"])
def test_a_model_that_others_quantized(target, census):
    """Signed activations, weights of 8 bits: lowered where these are exact, and else left."""
    path = exported_models()["DistilBERT tagger, INT8 QDQ"]
    done = compile(path, "float", target=target)
    assert done.report.verification.unchecked == []
    counted = census(done.model)
    assert counted["MatMulIntegerToFloat"] == (25 if target == "cpu-vnni" else 0)
    assert counted["MatMul"] == census(onnx.load(path))["MatMul"] - (
        37 if target == "cpu-vnni" else 0
    )
    reasons = [entry.reason for entry in done.report.not_fused if "lower" in entry.by]
    assert len(reasons) == (12 if target == "cpu-vnni" else 49)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_models_that_onnxruntime_quantized(part, census):
    path = exported_models()[f"flan-t5-small {part}, dynamic INT8"]
    done = compile(path, "float", target="cpu-vnni")
    checked = done.report.verification
    assert checked.unchecked == []
    assert checked.largest_difference < 1e-6
    assert census(done.model)["MatMulInteger"] == 0
