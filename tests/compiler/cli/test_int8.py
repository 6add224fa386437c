"""int8-kl from the command line: the real MiniLM-L3, sixteen sentences and the tokenizer."""

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from sardonyx.models import minilm_l3_onnx
from sardonyx.models.real_models import minilm_l6_directory
from sardonyx.runtime_ops.reference import reference_session

SENTENCES = """\
The committee will meet again on Thursday to discuss the budget.
How do I change the battery of this watch?
A gripping story, told with wit and no small amount of charm.
Rain is expected in the north, with strong winds near the coast.
She left the keys on the kitchen table before going to work.
The new engine is lighter, quieter and uses a third less fuel.
What is the capital of Mongolia?
He never answered the letter, although he had read it twice.
Add the flour slowly and stir until the dough is smooth.
The court ruled that the contract was void from the start.
An overlong and tiresome film that wastes a good cast.
Our train was delayed by two hours because of a broken signal.
The patient reported mild headaches and some dizziness.
Please send me the invoice for March by the end of the week.
Birds migrate south in autumn, guided by the stars and the sun.
They won the final by three goals to one in front of 60,000 people.
"""


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A folder with the sentences; the model; the tokenizer."""
    folder = tmp_path_factory.mktemp("int8")
    (folder / "s.txt").write_text(SENTENCES)
    return folder, minilm_l3_onnx(), minilm_l6_directory() / "tokenizer.json"


@pytest.fixture(scope="module")
def made(cli, ready):
    """What the command wrote for a target: its output, the model and the report."""
    folder, model, tokenizer = ready
    results = {}
    for target in ("portable", "cpu"):
        out, report = folder / f"{target}.onnx", folder / f"{target}.json"
        data = ("--calibration", folder / "s.txt", "--tokenizer", tokenizer)
        where = () if target == "portable" else ("--target", target)
        ran = cli(
            *("compile", model, "--recipe", "int8-kl", "-o", out, "--report", report, *data, *where)
        )
        assert ran.code == 0, ran.err
        results[target] = ran.out, out, json.loads(report.read_text())
    return results


@pytest.fixture(scope="module")
def tokens():
    """Three rows of tokens that are no sentences: what calibration has not seen."""
    ids = np.random.default_rng(0).integers(1000, 20000, (3, 12))
    mask = np.ones_like(ids)
    mask[1, 7:] = mask[2, 9:] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.mark.parametrize("target", ["portable", "cpu"])
def test_cosine_to_fp32(ready, made, tokens, target):
    for name in ("onnx::Shape_422", "461"):
        want, have = (
            ort.InferenceSession(path).run([name], tokens)[0]
            for path in (ready[1], made[target][1])
        )
        assert np.isfinite(have).all()
        lengths = np.linalg.norm(want, axis=-1) * np.linalg.norm(have, axis=-1)
        assert np.mean(np.sum(want * have, axis=-1) / lengths) > 0.98  # 0.99 or more


@pytest.mark.parametrize("target", ["portable", "cpu"])
def test_report(made, target):
    said, path, report = made[target]
    assert (report["recipe"], report["target"]) == ("int8-kl", target)
    assert report["calibration"]["samples"] == 16
    assert report["calibration"]["source"].endswith("s.txt")
    assert len(report["tensors"]) == 3 * 6 + 2
    assert len(report["activations"]) == 3 * 4
    assert all(one["class"] and one["range"] for one in report["activations"])
    assert report["totals"]["ratio"] > 3.8
    assert abs(report["totals"]["bytes_after"] - path.stat().st_size) < 1000
    assert not [skip for skip in report["skipped"] if skip["eligible"]]
    assert [output["cosine"] > 0.99 for output in report["verification"]["outputs"]] == [True] * 2
    text = " ".join(said.split())
    assert "Rounded 12 activations to uint8/tensor: " in text
    assert "Measured activations on 16 samples of " in text
    assert "Output '461' beside the source's: SQNR " in text


def test_the_reference_executor_agrees(made, tokens):
    """Sums in another order round activations alike but on ties: of some 100,000 codes a few may
    flip, each a step where rounding itself costs up to half a step of every value (20 dB)."""
    model = onnx.load(made["portable"][1])
    want = ort.InferenceSession(made["portable"][1]).run(["461"], tokens)[0]
    (have,) = reference_session(model).run(["461"], tokens)
    noise = np.sum(np.square(want - have, dtype=float))
    assert noise < 1e-5 * np.sum(np.square(want, dtype=float))


@pytest.mark.parametrize("target", ["portable", "cpu"])
def test_diff_and_explain(cli, ready, made, target):
    path = made[target][1]
    compared = cli("diff", ready[1], path)
    assert (compared.code, compared.err) == (0, "")
    assert "int8" in compared.out
    told = cli("explain", path)
    assert (told.code, told.err) == (0, "")
    assert "was compiled with recipe int8-kl" in " ".join(told.out.split())
    node = "/model/model.0/auto_model/encoder/layer.0/intermediate/dense/MatMul"
    about = cli("explain", path, node)
    assert (about.code, about.err) == (0, "")


def test_the_full_check(cli, ready, tmp_path):
    folder, model, tokenizer = ready
    ran = cli(
        *("compile", model, "--recipe", "int8-kl", "--calibration", folder / "s.txt"),
        *("--tokenizer", tokenizer, "-o", tmp_path / "x.onnx", "--verify", "full"),
    )
    assert (ran.code, ran.err) == (0, "")
    said = " ".join(ran.out.split())
    assert "Up to the rounding of activations, whole models differ by " in said


def test_without_data(refused, ready):
    text = refused("compile", ready[1], "--recipe", "int8-kl", "-o", "out.onnx")
    assert text.startswith("pass smooth-quant measures activations, which needs ")
    for form in ("--calibration inputs.npz", "--calibration FOLDER", "--calibration sentences.txt"):
        assert form in text


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("int8-kl", ["smooth-quant", "insert-qdq", "--set insert-qdq.weight_bits=", "kl"]),
        ("int8-dynamic", ["insert-qdq", "activations", "dynamic"]),
    ],
)
def test_recipes_show(cli, name, lines):
    ran = cli("recipes", "show", name)
    assert (ran.code, ran.err) == (0, "")
    assert all(line in ran.out for line in lines)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("insert-qdq.weight_bits=9", "less than or equal to 8"),
        ("insert-qdq.method=entropy", "Input should be "),
        ("insert-qdq.colour=1", "colour"),
    ],
)
def test_bad_arguments(refused, ready, setting, text):
    command = ("compile", ready[1], "--recipe", "int8-dynamic", "-o", "out.onnx")
    assert text in refused(*command, "--set", setting)


def test_arguments_that_exclude_each_other(refused, ready):
    command = ("compile", ready[1], "--recipe", "int8-dynamic", "-o", "out.onnx")
    assert "act_act needs static" in refused(*command, "--set", "insert-qdq.act_act=true")
