"""compile(): stages in their order, the same bytes every time, the Python interface."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnxruntime.transformers.optimizer import optimize_model

from sardonyx.compiler import Compiled, InputError, Recipe, compile, load_recipe
from sardonyx.compiler.dump import Dump
from sardonyx.models import EncoderConfig, seeded_bert
from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.runtime_ops.reference import reference_session

STAGES = [
    "lift-constants",
    "unfuse-attention",
    "unfuse-embed-layer-norm",
    "unfuse-multi-head-attention",
    "unfuse-matmul",
    "unfuse-skip-layer-norm",
    "unfuse-gelu",
    "gobo",
    *(a_pass.name for a_pass in load_recipe("cleanup").passes),
]


def digest(model):
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def test_same_bytes_twice(bert, bert_file):
    assert digest(compile(bert, "gobo").model) == digest(compile(bert, "gobo").model)
    assert digest(compile(bert_file, "gobo").model) == digest(compile(bert, "gobo").model)


def test_same_bytes_whatever_the_checks_and_cores(bert, monkeypatch):
    want = digest(compile(bert, "gobo").model)
    assert digest(compile(bert, "gobo", verify="off").model) == want
    assert digest(compile(bert, "gobo", verify="full").model) == want
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert digest(compile(bert, "gobo").model) == want


def test_same_bytes_in_other_processes(bert_file, tmp_path):
    script = (
        "import sys\nfrom sardonyx.compiler import compile\n"
        "compile(sys.argv[1], 'gobo4').save(sys.argv[2])"
    )
    written = []
    for seed in ("0", "1"):
        path = tmp_path / f"{seed}.onnx"
        command = [sys.executable, "-c", script, str(bert_file), str(path)]
        subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, check=True)
        written.append(path.read_bytes())
    assert written[0] == written[1]


def test_a_path_a_string_and_a_model(bert, bert_file, tmp_path):
    for model in (bert, bert_file, str(bert_file)):
        done = compile(model, "gobo4")
        assert isinstance(done, Compiled)
        assert done.report.recipe == "gobo4"
    done.save(str(tmp_path / "out.onnx"))
    assert onnx.load(tmp_path / "out.onnx") == done.model


def test_the_result_runs(bert, run_ort):
    ids = np.random.default_rng(0).integers(0, 1000, (2, 7))
    feeds = {v.name: ids if v.name == "input_ids" else ids % 2 for v in bert.graph.input}
    want, have = run_ort(bert, feeds)[0], run_ort(compile(bert, "gobo4").model, feeds, True)[0]
    cosine = (want * have).sum() / np.sqrt((want**2).sum() * (have**2).sum())
    assert cosine > 0.95


@pytest.mark.parametrize("target", ["portable", "cpu"])
def test_products_by_integers(bert, run_ort, target):
    """onnxruntime runs the bodies and computes what gobo does; the reference executor rounds."""
    ids = np.random.default_rng(0).integers(0, 1000, (2, 7))
    feeds = {v.name: ids if v.name == "input_ids" else ids % 2 for v in bert.graph.input}
    plain = compile(bert, "gobo", target=target)
    done = compile(bert, "gobo-int8", target=target, verify="full")
    want, have = (run_ort(each.model, feeds)[0] for each in (plain, done))
    np.testing.assert_array_equal(have, want)
    rounded = reference_session(done.model).run(None, feeds)[0]
    cosine = (want * rounded).sum() / np.sqrt((want**2).sum() * (rounded**2).sum())
    assert 0.99 < cosine < 1 - 1e-6  # 8 and 7 bits; it is not what floats make


@pytest.mark.parametrize("target", ["portable", "cpu"])
def test_tables_of_groups(bert, run_ort, target):
    overrides = ["gobo.groups=8", "gobo.embedding_groups=2"]
    done = compile(bert, "gobo", target=target, overrides=overrides, verify="full")
    assert {entry.groups for entry in done.report.tensors} == {2, 8}
    assert done.report.verification.unchecked == []
    again = compile(done.model, "float", target=target)
    feeds = {v.name: np.arange(14).reshape(2, 7) % 2 for v in bert.graph.input}
    np.testing.assert_array_equal(*(run_ort(each.model, feeds)[0] for each in (done, again)))


def test_a_model_that_onnxruntime_fused(bert_file, tmp_path, census):
    """Its optimizer hides most weights in Attention and EmbedLayerNormalization."""
    fused = optimize_model(str(bert_file), "bert", num_heads=4, hidden_size=64, opt_level=0)
    fused.save_model_to_file(str(tmp_path / "fused.onnx"))
    ops = census(onnx.load(tmp_path / "fused.onnx"))
    assert (ops["Attention"], ops["EmbedLayerNormalization"]) == (2, 1)
    want = compile(bert_file, "gobo").report
    have = compile(tmp_path / "fused.onnx", "gobo", verify="full").report
    assert have.totals.weights_quantized == want.totals.weights_quantized
    kinds = [[(t.role, t.layer, t.bits) for t in report.tensors] for report in (want, have)]
    assert sorted(kinds[0], key=str) == sorted(kinds[1], key=str)
    assert [skip.name for skip in have.skipped if skip.eligible] == []
    assert have.verification.regions == have.verification.regions_run
    assert have.verification.model_difference < 1e-5  # sums in another order


def test_the_roberta_recipe_on_12_layers():
    config = EncoderConfig(200, 64, 12, 4, 64, 32, type_vocab=0, position_offset=2)
    model = seeded_bert(config, 0)
    tensors = compile(model, "gobo-roberta", verify="off").report.tensors
    assert len(tensors) == 12 * 6 + 1  # the position table is small
    more = {(t.role, t.layer) for t in tensors if t.bits == 4 and t.layer is not None}
    assert more == {(role, layer) for role in ("value", "ffn_in") for layer in range(6)}
    assert {t.bits for t in tensors if t.layer is not None} == {3, 4}


def test_stages_are_observed_in_order(bert):
    seen = []
    compile(bert, "gobo", observe=lambda stage, driver: seen.append((stage, len(driver.ran))))
    expected = [(name, ran) for ran, name in enumerate(["load", *STAGES])]
    assert seen[: len(expected)] == expected
    assert {stage for stage, _ in seen[len(expected) :]} <= set(STAGES[STAGES.index("gobo") + 1 :])


def test_progress_goes_from_nothing_to_all(bert):
    seen = []
    compile(bert, "gobo", progress=lambda *what: seen.append(what))
    assert {what for what, _, _ in seen} == {"Encoding weights"}
    done = [count for _, count, _ in seen]
    assert done == sorted(done)
    assert done[-1] == seen[0][2] == compile(bert, "gobo").report.totals.weights_quantized


@pytest.mark.parametrize(
    ("until", "passes"),
    [
        ("lift-constants", ["lift-constants"]),
        ("gobo", STAGES[: STAGES.index("gobo") + 1]),
        ("remove-unused", STAGES),
    ],
)
def test_until(bert, until, passes):
    done = compile(bert, "gobo", until=until)
    assert list(dict.fromkeys(run.name for run in done.report.passes)) == passes
    onnx.checker.check_model(done.model)
    assert bool(done.report.tensors) == ("gobo" in passes)


def test_until_a_stage_that_does_not_exist(bert):
    message = "there is no stage 'nowhere' to stop after: there is " + ", ".join(STAGES)
    with pytest.raises(InputError, match=message):
        compile(bert, "gobo", until="nowhere")


def test_dump_writes_models_that_open(bert, tmp_path, run_ort):
    done = compile(bert, "gobo", observe=Dump(tmp_path / "deep" / "dump"))
    files = sorted((tmp_path / "deep" / "dump").iterdir())
    assert [path.name for path in files][: len(STAGES) + 1] == [
        "00-load.onnx",
        *(f"{number:02}-{name}.onnx" for number, name in enumerate(STAGES, 1)),
    ]
    feeds = {v.name: np.ones((1, 3), np.int64) for v in bert.graph.input}
    for path in files:
        onnx.checker.check_model(path)
        assert np.isfinite(run_ort(path, feeds)[0]).all()
    last = onnx.load(files[-1])
    assert not last.metadata_props  # what the whole compile says of itself
    last.metadata_props.extend(done.model.metadata_props)
    assert last == done.model


def test_dump_to_a_place_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot make folder"):
        Dump(tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Y = Neg (X)", ": no MatMul, Gemm or Gather reads a float matrix"),
        ("Y = MatMul (X, S)", " (small: 64 weights, fewer than 4096)"),
        ("T = MatMul (X, S)\n U = MatMul (S, T)\n Y = Add (T, U)", " (left operand of MatMul: "),
        ("Z = MatMul (X, S)\n Y = Add (Z, B)", "(small: 64 weights, fewer than 4096)"),
    ],
)
def test_no_quantizable_weight(text_model, normal, text, why):
    model = text_model(
        f"g (float[8,8] X) => (float[8,8] Y) {{ {text} }}", S=normal(8, 8), B=normal(8)
    )
    with pytest.raises(InputError) as caught:
        compile(model, "gobo")
    assert str(caught.value).startswith("the model has no weight that recipe 'gobo' can quantize")
    assert why in str(caught.value)


def test_the_reason_is_a_weights_and_no_vectors(text_model, normal):
    model = text_model(
        "g (float[B,64] X) => (float[B,64] Y) { Z = MatMul (X, W)\n Y = Add (Z, B) }",
        W=normal(64, 64),
        B=normal(64),
    )
    feeds = {"X": np.full((3, 64), -3.4e38, np.float32)}  # no values, but fills of masks
    with pytest.raises(InputError, match="its activation 'X' had no values in the calibration"):
        compile(model, "int8-kl", [feeds])


def test_a_recipe_that_does_not_quantize_may_change_nothing(text_model, normal):
    model = text_model("g (float[8,8] X) => (float[8,8] Y) { Y = Neg (X) }")
    assert compile(model, Recipe("tidy", "", (RemoveUnused(),))).model == model


def test_a_compiled_model_keeps_working_when_compiled_again(bert, run_ort):
    once = compile(bert, load_recipe("gobo", ["gobo.min_weights=20000"])).model
    twice = compile(once, "gobo4").model
    ops = [node.op_type for node in twice.graph.node if node.domain]
    assert set(ops) == {"GoboMatMul4", "GoboGather4"}
    assert {function.name for function in twice.functions} == set(ops)
    feeds = {v.name: np.ones((1, 3), np.int64) for v in bert.graph.input}
    assert np.isfinite(run_ort(twice, feeds)[0]).all()
