"""The worked example in example/: a pass and a recipe of one's own, given by path."""

from pathlib import Path

import numpy as np
import pytest

from sardonyx.compiler import InputError, VerificationError, compile, load_recipe
from sardonyx.compiler.load import load
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.journal import Journal

EXAMPLE = Path(__file__).parent / "example"
PASS, RECIPE = EXAMPLE / "replace_relu6.py", EXAMPLE / "mobile.toml"

TEXT = """
g (float[N,32] X) => (float[N,48] Y) {
  Z = MatMul (X, W)
  R = Relu (Z)
  six = Constant <value = float {6}> ()
  Y = Min (R, six)
}
"""


@pytest.fixture
def model(text_model, normal):
    return text_model(TEXT, W=normal(32, 48) * np.float32(100))


def test_the_pass_alone(model, census, run_ort, normal):
    compiled = compile(model, PASS)
    assert census(compiled.model) == {"MatMul": 1, "Clip": 1}
    x = normal(7, 32) * np.float32(100)
    (want,) = run_ort(model, {"X": x})
    assert want.max() == 6
    assert want.min() == 0
    assert np.array_equal(run_ort(compiled.model, {"X": x})[0], want)
    assert (compiled.report.recipe, compiled.report.passes[-1].rewrites) == ("replace_relu6", 1)
    assert compiled.report.verification.regions_run == 2


def test_the_recipe(model, census):
    compiled = compile(model, RECIPE)
    assert census(compiled.model) == {"GoboMatMul4": 1, "Clip": 1}
    names = [run.name for run in compiled.report.passes]
    assert names[-3:] == ["replace-relu6", "gobo", "remove-unused"]


def test_a_second_run_makes_no_rewrite(model):
    (a_pass,) = load_recipe(PASS).passes
    _, graph = load(model)
    LiftConstants().run(graph, Journal())
    assert (a_pass.run(graph, Journal()), a_pass.run(graph, Journal())) == (1, 0)


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("{6}", "{7}"),
        TEXT.replace("{6}", "{-1}"),
        TEXT.replace("Min (R, six)", "Min (R, Z)"),
        TEXT.replace("Relu", "Abs"),
        TEXT.replace("Y) {", "Y, float[N,48] R) {"),
        TEXT.replace("Min (R, six)", "Min (R, six)\n D = Neg (R)"),
    ],
)
def test_near_misses(text_model, normal, text):
    compiled = compile(text_model(text, W=normal(32, 48)), PASS)
    assert compiled.report.passes[-1].rewrites == 0


def test_its_argument_from_the_command_line(text_model, normal):
    model = text_model(TEXT.replace("{6}", "{20}"), W=normal(32, 48))
    recipe = load_recipe(PASS, ["replace-relu6.greatest=24"])
    assert compile(model, recipe).report.passes[-1].rewrites == 1
    with pytest.raises(InputError, match="no argument 'grea': did you mean 'greatest'"):
        load_recipe(RECIPE, ["replace-relu6.grea=24"])


def test_a_mistake_in_it_is_caught(model, tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(PASS.read_text().replace("np.zeros((), ", "np.ones((), "))
    with pytest.raises(VerificationError, match="pass replace-relu6 is wrong: Clip 'Y' changes"):
        compile(model, wrong)
