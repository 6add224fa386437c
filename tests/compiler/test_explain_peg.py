"""explain: what was cut in groups, or put in another order, is found by its old name."""

import pytest

from sardonyx.compiler import compile
from sardonyx.compiler.explain import explainer

WEIGHT = "encoder.layer.1.intermediate.dense.weight"


@pytest.fixture(scope="module")
def answers(bert, tmp_path_factory):
    path = tmp_path_factory.mktemp("explained") / "m.onnx"
    compile(bert, "peg", random_calibration=2, overrides=["peg.k=3"]).save(path)
    return explainer(path)


@pytest.mark.parametrize("name", [WEIGHT, f"{WEIGHT}/ordered"])
def test_a_weight_in_slices(answers, name):
    answer = answers.about(name)
    assert answer.verdict == "cut in 3 slices: each is a weight of its own"
    parts = dict(answer.facts)["parts"].split("\n")
    assert parts[0].startswith(f"{WEIGHT}/ordered/group0: rows 0:")
    assert parts[2].endswith(":64")


def test_a_constant_in_another_order(answers):
    answer = answers.about("embeddings.LayerNorm.weight")
    assert answer.verdict.startswith("left alone: a vector")
