"""mixed-precision, compiled whole: what is in 16 bits, how it is told, and what it computes."""

import numpy as np
import pytest

from sardonyx.compiler import compile
from sardonyx.compiler.explain import explainer
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.reference import reference_session

SITES = 3 + 2 * 13
"""Of a BERT of two layers without a head; the last is an output that nothing else reads."""


@pytest.fixture(scope="module")
def compiled(bert, bert_feeds):
    """The small BERT with x, g, h and y in 16 bits, or in 8 as all the rest."""
    made = {}

    def form(wide="x,h,y,g"):
        if wide not in made:
            overrides = [f'quantize-values.wide="{wide}"']
            made[wide] = compile(bert, "mixed-precision", [bert_feeds], overrides=overrides)
        return made[wide]

    return form


def test_which_are_in_16_bits(compiled):
    done = compiled()
    assert [o.version for o in done.model.opset_import if not o.domain] == [21]
    entries = done.report.activations
    assert len(entries) == SITES - 1
    for one in entries:
        wide = one.kind in ("x", "g", "h", "y")
        assert one.bits == (16 if wide else 8)
        assert one.format == f"uint{one.bits}/tensor"
        assert one.why_wide == ("asked for" if wide else "")
    assert sum(one.bits == 16 for one in entries) == 8
    totals = done.report.totals
    assert (totals.activations, totals.activations_xhy) == (SITES - 1, 6)
    wide = {e.name: e.compute for e in done.report.tensors if e.role in ("ffn_in", "ffn_out")}
    assert set(wide.values()) == {"int16"}


def test_it_is_told_from_the_file_as_in_the_report(compiled, tmp_path):
    done = compiled()
    done.save(tmp_path / "m.onnx")
    told = explainer(tmp_path / "m.onnx")
    held = {one.name: one for one in told.activations}
    for entry in done.report.activations:
        one = held.pop(entry.name)
        for key in ("format", "bits", "role", "kind", "layer", "group", "why_wide", "method"):
            assert getattr(one, key) == getattr(entry, key)
    assert held == {}
    (y,) = (e.name for e in done.report.activations if (e.kind, e.layer) == ("y", 1))
    answer = told.about(y)
    assert answer.verdict.startswith("rounded to uint16 by ")
    assert dict(answer.facts)["place"] == "sum, y, layer 1"
    assert dict(answer.facts)["wide"] == "asked for"


def test_16_bits_lose_less(compiled, bert, run_ort, bert_feeds):
    (real, *_) = run_ort(bert, bert_feeds)
    noise = {
        w: np.square(run_ort(compiled(w).model, bert_feeds)[0] - real).sum()
        for w in ("", "y,x,h,g")
    }
    assert 0 < noise["y,x,h,g"] < noise[""]


def test_the_reference_executor_agrees(compiled, run_ort, bert_feeds):
    model = compiled().model
    (have, *_) = run_ort(model, bert_feeds)
    (want, *_) = reference_session(model).run(None, bert_feeds)
    # sums in another order may fall on the other side of a tie, where an activation moves a step
    apart = np.abs(want - have)
    assert np.median(apart) < 1e-3
    assert apart.max() < 0.2


def test_an_opset_that_is_too_old_and_stays(contrib, normal):
    model = contrib(
        """g (float[B,64] X) => (float[B,64] Y) {
             A = MatMul (X, W)
             R = Resize (A, , scales)
             Y = Add (R, A)
           }""",
        opset=17,
        W=normal(64, 64),
        scales=np.ones(2, np.float32),
    )
    message = "16 bits need opset 21, and the model has 17 .Resize changed between opset 17 and 21."
    with pytest.raises(InputError, match=message):
        compile(model, "mixed-precision", random_calibration=1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [],
            "wide=x,h,y,g: what quantize-values.sites=all rounds holds none of these .*looked for",
        ),
        (["quantize-values.sites=r", "quantize-values.wide=g"], "wide=g: what .*sites=r rounds"),
        (["quantize-values.wide=scores"], "wide=scores: what .*sites=all rounds holds none"),
    ],
)
def test_nothing_of_what_is_asked_for_in_16_bits(text_model, normal, overrides, message):
    model = text_model(
        """g (float[B,64] X) => (float[B,64] Y) {
             A = MatMul (X, W)
             S = Add (A, X)
             Y = MatMul (S, W)
           }""",
        W=normal(64, 64),
    )
    with pytest.raises(InputError, match=message):
        compile(model, "mixed-precision", random_calibration=1, overrides=overrides)


def test_an_output_without_values_is_not_called_exact(text_model, normal):
    model = text_model(
        """g (float[B,64] X) => (float[B,64] Y, float[?,64] Z) {
             Y = MatMul (X, W)
             Z = Slice (Y, end, end)
           }""",
        W=normal(64, 64),
        end=np.array([99]),
    )
    overrides = ["quantize-values.wide="]
    done = compile(model, "mixed-precision", random_calibration=1, overrides=overrides)
    assert [output.name for output in done.report.verification.outputs] == ["Y"]


def test_activations_in_bodies_are_none(text_model, normal):
    model = text_model(
        """g (float[B,64] X, bool flag) => (float[B,64] Y) {
             Y = If (flag) <
               then_branch = t () => (float[B,64] A) { A = MatMul (X, W) },
               else_branch = e () => (float[B,64] N) { N = Neg (X) }
             >
           }""",
        W=normal(64, 64),
    )
    message = "'mixed-precision' has nothing to do: outside bodies of If, Loop and Scan no op makes"
    with pytest.raises(InputError, match=message):
        compile(model, "mixed-precision", random_calibration=1)
