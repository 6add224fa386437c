"""Recipes int8-kl and int8-dynamic on a small BERT: what is checked, said and computed."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.compiler import compile
from sardonyx.compiler.load import load
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.journal import Journal
from sardonyx.passes.quantize.insert_qdq import InsertQdq
from sardonyx.runtime_ops.errors import InputError, VerificationError
from sardonyx.runtime_ops.reference import reference_session

RECIPES = ("int8-kl", "int8-dynamic")
SMALL = ("insert-qdq.min_weights=1",)


@pytest.fixture(scope="module")
def data(bert):
    """Eight samples of 9 tokens for the small BERT."""
    ids = np.random.default_rng(0).integers(1, 1000, (8, 9))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": 0 * ids}
    return [{value.name: feeds[value.name] for value in bert.graph.input}]


@pytest.fixture(scope="module")
def made(bert, data):
    """Each recipe's result on each target, fully checked."""
    return {
        (recipe, target): compile(bert, recipe, data, target, verify="full", overrides=SMALL)
        for recipe in RECIPES
        for target in ("portable", "cpu")
    }


@pytest.mark.parametrize("target", ["portable", "cpu"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_full_check(made, recipe, target):
    checked = made[recipe, target].report.verification
    assert checked.level == "full"
    assert checked.unchecked == []
    assert checked.model_difference <= 1e-5  # up to where activations are rounded
    assert checked.tensors_decoded == len(made[recipe, target].report.tensors)
    assert all(output.cosine > 0.98 for output in checked.outputs)


def test_the_full_check_still_judges_what_comes_before(bert, data, monkeypatch):
    monkeypatch.setattr("sardonyx.compiler.verify_model.BOUND", -1.0)
    with pytest.raises(VerificationError, match="the rewritten model differs at output"):
        compile(bert, "int8-kl", data, verify="full", overrides=SMALL)


@pytest.mark.parametrize("target", ["portable", "cpu"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_outputs_are_near_and_finite(bert, data, made, run_ort, recipe, target):
    want, have = (run_ort(m, data[0])[0] for m in (bert, made[recipe, target].model))
    assert np.isfinite(have).all()
    cosine = np.sum(want * have) / np.linalg.norm(want) / np.linalg.norm(have)
    assert cosine > 0.995


@pytest.mark.parametrize("recipe", RECIPES)
def test_targets_compute_the_same(data, made, run_ort, recipe):
    """Integer products sum what dequantized ones do; a code on a tie may fall to either side, and
    moves what follows by a step."""
    a, b = (run_ort(made[recipe, target].model, data[0])[0] for target in ("portable", "cpu"))
    assert np.linalg.norm(a - b) < 0.01 * np.linalg.norm(a)


@pytest.mark.parametrize("recipe", RECIPES)
def test_portable_is_standard(made, recipe):
    model = made[recipe, "portable"].model
    assert {node.domain for node in model.graph.node} == {""}
    assert [opset.domain for opset in model.opset_import] == [""]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_bytes_every_time(bert, data, made, recipe):
    again = compile(bert, recipe, data, overrides=SMALL)
    assert again.model == made[recipe, "portable"].model


def test_the_reference_executor_agrees(data, made, run_ort):
    for recipe in RECIPES:
        model = made[recipe, "portable"].model
        have = reference_session(model).run(None, data[0])[0]
        (want, *_) = run_ort(model, data[0])
        # equal sums in another order; a code on a tie may flip
        assert np.linalg.norm(want - have) < 1e-3 * np.linalg.norm(want)


def test_the_report(made):
    report = made["int8-kl", "portable"].report
    assert (report.calibration.source, report.calibration.samples) == ("arrays", 8)
    assert {entry.format for entry in report.tensors} == {"uniform7/channel", "uniform8/tensor"}
    assert {entry.compute for entry in report.tensors if entry.op == "Gather"} == {"fp32"}
    for one in report.activations:
        assert one.format == "uint8/tensor"
        assert one.range[0] <= 0 <= one.range[1]
        assert one.class_ in ("gaussian", "narrow")
        assert one.class_reason
        assert one.product_sqnr_db > 8
        assert one.curve or one.method == "kl-naive"
    dynamic = made["int8-dynamic", "portable"].report
    assert dynamic.calibration is None
    assert {(one.range, one.method) for one in dynamic.activations} == {(None, "dynamic")}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_compiled_model_is_refused(made, data, recipe):
    with pytest.raises(InputError, match=r"is already quantized: int8 .*; compile the floating-"):
        compile(made[recipe, "portable"].model, recipe, data, overrides=SMALL)


def test_nothing_to_quantize_needs_no_more_than_a_sentence(text_model):
    model = text_model("g (float[3,4] X) => (float[3,4] Y) { Y = Relu (X) }")
    with pytest.raises(
        InputError, match=r"no weight that recipe 'int8-kl' can quantize: no MatMul"
    ):
        compile(model, "int8-kl")


@pytest.mark.parametrize("target", ["portable", "cpu"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_gemm_with_a_bias(text_model, normal, run_ort, recipe, target):
    """Two passes each put a node beside it that they would call by one name."""
    text = """g (float[M,64] X) => (float[M,96] Y) {
      [first] H = Gemm <transB = 1> (X, V, c)
      R = Relu (H)
      [second] Y = Gemm (R, W, b) }"""
    held = {"V": normal(64, 64), "c": normal(64), "W": normal(64, 96), "b": normal(96)}
    before = text_model(text, **held)
    x = normal(32, 64)
    made = compile(before, recipe, [{"X": x}], target, overrides=SMALL, verify="full")
    assert made.report.verification.unchecked == []
    want, have = (run_ort(model, {"X": x})[0] for model in (before, made.model))
    assert np.linalg.norm(want - have) < 0.03 * np.linalg.norm(want)  # 8 bits, 7 of weights
    nodes = {node.name for node in made.model.graph.node}
    assert {entry.node for entry in made.report.fused} <= nodes


@pytest.mark.parametrize("last", ["B,S", "B,S,64"])
def test_samples_and_outputs_of_any_length(text_model, normal, last):
    """As the logits of a model that finds answers in sentences: one for each token."""
    text = f"""g (float[B,S,64] X) => (float[{last}] Y) {{
      P = MatMul (X, W)
      {"Y = Identity (P)" if last == "B,S,64" else "Y = ReduceSum <keepdims = 0> (P, axis)"} }}"""
    before = text_model(text, W=normal(64, 64), axis=np.array([2]))
    data = [{"X": normal(1, length, 64, seed=length)} for length in (5, 9, 7)]
    (output,) = compile(before, "int8-kl", data, overrides=SMALL).report.verification.outputs
    assert output.sqnr_db > 30
    assert output.cosine > 0.999


def test_what_cannot_be_served_is_not_measured(text_model, normal):
    text = "g (float16[M,64] X) => (float16[M,96] Y) { Y = MatMul (X, W) }"
    _, graph = load(text_model(text, W=normal(64, 96, dtype=np.float16)))
    LiftConstants().run(graph, Journal())
    assert InsertQdq().watches(graph) == {}
