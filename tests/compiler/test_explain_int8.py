"""The answers on integer weights, on what was rounded with them, and on names that are gone."""

import re

import numpy as np
import pytest

from sardonyx.compiler import compile
from sardonyx.compiler.explain import explainer
from sardonyx.runtime_ops.errors import InputError

KEY = "encoder.layer.0.attention.self.key.weight"
NODE = "/encoder/layer.0/attention/self/key/MatMul"
MERGED = "/encoder/layer.0/attention/self/query/MatMul/Merged"


@pytest.fixture(scope="module")
def explained(bert, tmp_path_factory):
    """Explainers of the small BERT by recipe and target, each made once."""
    made = {}

    def form(recipe="int8-kl", target="portable"):
        if (recipe, target) not in made:
            path = tmp_path_factory.mktemp("explained") / "m.onnx"
            compile(bert, recipe, target=target, random_calibration=4).save(path)
            made[recipe, target] = explainer(path)
        return made[recipe, target]

    return form


def facts_on(answers, name):
    return dict(answers.about(name).facts)


def test_a_weight_in_standard_ops(explained):
    answer = explained().about(KEY)
    facts = dict(answer.facts)
    assert answer.verdict == "quantized by pass insert-qdq of recipe int8-kl"
    assert facts["is"] == "uniform7/channel: 7-bit codes, a scale for each of 64 columns"
    assert facts["was"] == "float32 [64, 64], read by MatMul"
    assert (facts["role"], facts["products"]) == ("key, layer 0", "int8")
    assert facts["bytes"] == "16,384 -> 4,352, 3.8 times smaller"
    assert facts["read by"] == f"MatMul '{NODE}'"
    assert facts["stored as"].split("\n") == [
        f"{KEY}.codes: int8 [64, 64], 4,096 bytes",
        f"{KEY}.scale: float32 [64], 256 bytes",
    ]
    assert facts["SQNR"].endswith(" dB")
    assert "outliers" not in facts


def test_a_weight_whose_product_was_merged(explained):
    answers = explained(target="cpu")
    facts = facts_on(answers, KEY)
    assert facts["read by"] == f"com.microsoft.MatMulIntegerToFloat '{MERGED}'"
    assert facts["stored as"].split("\n") == [
        f"{MERGED}/Codes: int8 [64, 192], 12,288 bytes",
        f"{MERGED}/Scale: float32 [192], 768 bytes",
        "of these, columns 64 to 127",
    ]
    others = {"read by": "", "stored as": ""}
    assert facts | others == facts_on(explained(), KEY) | others


def test_what_was_merged(explained):
    answers = explained(target="cpu")
    answer = answers.about(NODE)
    became = f"MatMul became part of com.microsoft.MatMulIntegerToFloat '{MERGED}'"
    assert (answer.verdict, answer.facts) == (became, answers.about(KEY).facts)
    answer = answers.about(MERGED)
    assert answer.verdict.endswith("MatMulIntegerToFloat, the products by 3 weights, merged")
    weights = dict(answer.facts)["weights"].split("\n")
    assert KEY in weights
    assert len(weights) == 3
    verdict = answers.about(f"{MERGED}/Codes").verdict
    assert verdict.startswith("the codes of the weights '")
    assert all(f"'{weight}'" in verdict for weight in weights)


def test_a_table(explained):
    name = "embeddings.word_embeddings.weight"
    facts = facts_on(explained(), name)
    assert facts["is"] == "uniform8/tensor: 8-bit codes, one scale"
    assert "products" not in facts
    verdict = explained().about("/embeddings/word_embeddings/Gather").verdict
    assert verdict == "Gather became Gather '/embeddings/word_embeddings/Gather/Codes'"
    assert explained().about(f"{name}.codes").verdict == f"the codes of weight '{name}'"


def test_one_scale(bert, tmp_path):
    overrides = ["insert-qdq.per=tensor"]
    compile(bert, "int8-dynamic", overrides=overrides).save(tmp_path / "m.onnx")
    facts = facts_on(explainer(tmp_path / "m.onnx"), KEY)
    assert facts["is"] == "uniform7/tensor: 7-bit codes, one scale"


@pytest.mark.parametrize("target", ["portable", "cpu"])
def test_an_activation(explained, target):
    answers = explained(target=target)
    entry = answers.activations[0]
    answer, facts = answers.about(entry.name), facts_on(answers, entry.name)
    low, high = entry.range
    assert answer.verdict == f"rounded to uint8 by {entry.method}: {low:.4g} to {high:.4g}"
    assert facts["class"] == f"{entry.class_}: {entry.class_reason}"
    assert facts["products"] == f"come out with {entry.product_sqnr_db:.1f} dB"
    assert facts["made by"].startswith("LayerNormalization ")
    assert "QuantizeLinear " in facts["read by"]


@pytest.mark.parametrize("target", ["portable", "cpu"])
def test_an_activation_of_no_fixed_range(explained, target):
    answers = explained("int8-dynamic", target)
    answer = answers.about(answers.activations[0].name)
    assert answer.verdict == "rounded to uint8, over the range that it has in each run"
    assert [label for label, _ in answer.facts] == ["made by", "read by"]


@pytest.mark.parametrize("target", ["portable", "cpu"])
def test_what_was_smoothed_goes_by_its_own_name(explained, target):
    answers = explained(target=target)
    smoothed = [w.notes for w in answers.held.quantized.values() if w.notes.smooth_alpha]
    assert smoothed
    for notes in smoothed:
        old = notes.weight.removesuffix("/smoothed")
        assert answers.about(old) == answers.about(notes.weight)
        says = facts_on(answers, old)["smoothed"]
        assert f"alpha {notes.smooth_alpha}: products of {notes.smooth_db} dB" in says


@pytest.mark.parametrize("target", ["portable", "cpu"])
def test_a_bias(explained, target):
    answers = explained(target=target)
    name = KEY.replace("weight", "bias")
    answer = answers.about(name)
    assert answer.verdict == "rounded to int32 steps of its product, by pass insert-qdq"
    assert dict(answer.facts)["weight"] == KEY
    assert name not in answers.reasons


def test_a_bias_that_stays(explained):
    verdict = explained("int8-dynamic").about(KEY.replace("weight", "bias")).verdict
    assert verdict.startswith("left alone: a vector")


def test_what_passes_made_is_not_said_to_be_untouched(explained):
    answers = explained()
    scale = f"{answers.activations[0].name}/Scale"
    verdict = answers.about(scale).verdict
    assert verdict == "read by what pass insert-qdq of recipe int8-kl made"
    assert scale in [tensor.name for tensor in answers.made]
    assert scale not in [tensor.name for tensor in answers.others]


def test_a_weight_left_in_float_because_its_activation_is_sparse(text_model, normal, tmp_path):
    model = text_model(
        """g (float[N,64] X) => (float[N,96] Y) {
          Z = MatMul (X, V)
          R = Relu (Z)
          Y = MatMul (R, W)
        }""",
        V=normal(64, 64),
        W=normal(64, 96),
    )
    samples = [{"X": np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32)}]
    overrides = ["insert-qdq.min_weights=1"]
    compile(model, "int8-kl", samples, overrides=overrides).save(tmp_path / "m.onnx")
    answers = explainer(tmp_path / "m.onnx")
    assert answers.about("W").verdict.startswith("left alone: its activation 'R")
    assert "is sparse: " in answers.about("W").verdict
    assert [entry.name for entry in answers.quantized] == ["V"]


def test_names_that_never_were(explained):
    with pytest.raises(InputError, match=re.escape(f"did you mean '{NODE}'")):
        explained(target="cpu").about(NODE.removesuffix("l"))
