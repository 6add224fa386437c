"""Targets: what portable takes apart and lists, what cpu keeps; the recipe that only does that."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnxruntime.transformers.optimizer import optimize_model

from sardonyx.compiler import InputError, Recipe, compile, load_recipe
from sardonyx.compiler.cli.compile_command import Target as Offered
from sardonyx.compiler.report import KeptEntry
from sardonyx.compiler.targets import TARGETS
from sardonyx.models import exported_models
from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.unfuse.attention import UnfuseAttention
from sardonyx.passes.unfuse.gelu import UnfuseGelu

CPU = [name for name in TARGETS if name != "portable"]


@pytest.fixture
def fused(bert_file, tmp_path):
    """The small BERT as onnxruntime's optimizer fuses it."""
    made = optimize_model(str(bert_file), "bert", num_heads=4, hidden_size=64, opt_level=0)
    made.save_model_to_file(str(tmp_path / "fused.onnx"))
    return onnx.load(tmp_path / "fused.onnx")


def feeds_of(model):
    ids = np.random.default_rng(0).integers(0, 1000, (2, 7))
    mask = np.ones_like(ids)
    mask[1, 4:] = 0  # behind the end, as these fused ops want it
    held = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids % 2}
    kinds = {v.name: v.type.tensor_type.elem_type for v in model.graph.input}
    return {n: held[n].astype(onnx.helper.tensor_dtype_to_np_dtype(k)) for n, k in kinds.items()}


def contrib_ops(model):
    return {node.op_type for node in model.graph.node if node.domain not in ("", "sardonyx")}


def test_the_command_line_offers_all():
    assert [target.value for target in Offered] == list(TARGETS)


def test_an_unknown_target(bert):
    message = "there is no target 'phone': there is portable, cpu, cpu-avx2, cpu-vnni"
    with pytest.raises(InputError, match=message):
        compile(bert, "float", target="phone")


def test_portable_holds_standard_ops_only(fused, run_ort):
    assert len(contrib_ops(fused)) == 4
    done = compile(fused, "float", verify="full")
    assert contrib_ops(done.model) == set()
    assert done.report.kept_ops == []
    assert done.report.target == "portable"
    checked = done.report.verification
    assert (checked.regions, checked.unchecked) == (checked.regions_run, [])
    assert checked.model_difference < 1e-5  # float32 sums in another order
    onnx.checker.check_model(done.model, full_check=True)
    feeds = feeds_of(fused)
    (want,), (have,) = (run_ort(model, feeds) for model in (fused, done.model))
    assert np.abs(want - have).max() < 1e-5 * np.abs(want).max()


def test_portable_and_a_recipe_that_quantizes(fused):
    done = compile(fused, "gobo", verify="full")
    assert contrib_ops(done.model) == set()
    assert {node.domain for node in done.model.graph.node} == {"", "sardonyx"}


@pytest.mark.parametrize("target", CPU)
def test_cpu_fuses_in_its_own_way_what_others_fused(fused, census, target):
    done = compile(fused, "float", target=target, verify="full")
    assert contrib_ops(done.model) == {"BiasGelu"}
    counted = census(done.model)
    assert [counted[op] for op in ("Attention", "LayerNormalization", "Softmax")] == [2, 5, 0]
    assert (done.report.target, done.report.kept_ops) == (target, [])


def test_cpu_and_an_op_that_nobody_takes_apart(contrib):
    text = "g (float[B,16] X) => (float[B,16] Y) { Y = com.microsoft.Mystery (X) }"
    done = compile(contrib(text), "float", target="cpu")
    assert (contrib_ops(done.model), done.report.kept_ops) == ({"Mystery"}, [])


def test_what_stays_is_in_the_report(contrib, normal):
    model = contrib(
        """g (float[B,16] X) => (float[B,16] Y) {
             G = com.microsoft.Gelu (X)
             [odd] Y = com.microsoft.Mystery (G)
           }"""
    )
    done = compile(model, "float")
    reason = "nothing is known of its parts"
    assert done.report.kept_ops == [KeptEntry(node="odd", op="Mystery", reason=reason)]
    assert contrib_ops(done.model) == {"Mystery"}


def test_the_same_for_all_cpus(bert):
    models = [compile(bert, "gobo4", target=target).model for target in CPU]
    assert all(model == models[0] for model in models)


def test_float_of_a_standard_graph_is_cleanup(bert):
    done, alone = compile(bert, "float"), compile(bert, "cleanup")
    assert done.model.graph == alone.model.graph
    assert (done.report.tensors, done.report.skipped) == ([], [])


def test_half_precision_is_checked_within_its_own_rounding(contrib, normal):
    text = """g (float16[B,S,16] X) => (float16[B,S,16] Y) {
      A = com.microsoft.MultiHeadAttention <num_heads = 2> (X, X, X)
      Y = com.microsoft.SkipLayerNormalization (A, X, gamma)
    }"""
    model = contrib(text, gamma=1 + normal(16, dtype=np.float16))
    done = compile(model, "float", until="unfuse-gelu")
    checked = done.report.verification
    assert (checked.regions, checked.regions_run, checked.unchecked) == (2, 2, [])
    assert 1e-4 < checked.largest_difference < 8 * 2**-10  # float32 would be below


def test_passes_of_the_target_run_once(bert):
    passes = (UnfuseAttention(), UnfuseGelu(), RemoveUnused(), UnfuseAttention())
    runs = compile(bert, Recipe("mine", "", passes)).report.passes
    names = [run.name for run in runs]
    assert names[1:7] == [a_pass.name for a_pass in TARGETS["portable"].prepare]
    assert names[7:] == ["remove-unused", "unfuse-attention"]


def test_until_a_pass_of_the_target(fused):
    done = compile(fused, "gobo", until="unfuse-multi-head-attention")
    assert done.report.passes[-1].name == "unfuse-multi-head-attention"
    assert contrib_ops(done.model) == {"SkipLayerNormalization", "BiasGelu"}
    assert {entry.op for entry in done.report.kept_ops} == contrib_ops(done.model)
    with pytest.raises(InputError, match="there is no stage 'fuse-gelu'"):
        compile(fused, load_recipe("float"), until="fuse-gelu")


@pytest.mark.parametrize("target", CPU)
def test_cpu_rounds_what_products_read_alone(bert, target):
    done = compile(bert, "peg", target=target, random_calibration=2)
    assert "quantize-values" not in [run.name for run in done.report.passes]
    assert {one.role for one in done.report.activations} == {""}
    assert done.report.totals.activations == 0
    (peg,) = (run for run in done.report.passes if run.name == "peg")
    assert peg.rewrites == 2
    everywhere = compile(bert, "peg", random_calibration=2).report
    assert everywhere.totals.activations > 26
    kinds = {one.kind for one in everywhere.activations if one.group is not None}
    assert kinds == {"x", "h", "y", "g", "r"}


@pytest.mark.parametrize("target", CPU)
def test_cpu_has_no_products_of_16_bits(bert, target):
    message = (
        f"quantize-values.wide=x,h,y,g: target '{target}' has no integer products of 16 bits: "
        "compile for the target portable, or with a recipe of 8 bits, as peg or int8-kl"
    )
    with pytest.raises(InputError, match=f"^{message}$"):
        compile(bert, "mixed-precision", target=target, random_calibration=2)
    with pytest.raises(InputError, match=r"'peg' on target '.*' has no pass 'quantize-values'"):
        compile(bert, "peg", target=target, overrides=["quantize-values.wide=x"])


@pytest.mark.slow
def test_a_fused_file_that_others_exported(tmp_path):
    path = exported_models()["MiniLM-L6, fused"]
    done = compile(path, "float")
    assert contrib_ops(done.model) == set()
    assert done.report.verification.unchecked == []
    done.save(tmp_path / "m.onnx")
    words = np.random.default_rng(0).integers(1000, 20_000, (2, 9))
    mask = np.ones_like(words)
    mask[1, 5:] = 0
    feeds = {"input_ids": words, "attention_mask": mask, "token_type_ids": words * 0}
    (want, *_), (have, *_) = (
        ort.InferenceSession(file).run(None, feeds) for file in (path, tmp_path / "m.onnx")
    )
    assert np.abs(want - have).max() < 1e-5 * np.abs(want).max()


def test_an_attention_with_a_past(contrib, normal, run_ort):
    """Taken apart twice: the second pass knows how wide the parts are that the first made."""
    text = """g (float[B,S,16] X, float[2,B,2,P,8] H)
           => (float[B,S,16] Y, float[2,B,2,K,8] N) {
      Y, N = com.microsoft.Attention <num_heads = 2, unidirectional = 1> (X, W, b, , H)
    }"""
    model = contrib(text, W=10 * normal(16, 48), b=normal(48))
    done = compile(model, "float", until="unfuse-gelu")
    checked = done.report.verification
    assert contrib_ops(done.model) == set()
    assert (checked.regions, checked.regions_run, checked.unchecked) == (2, 2, [])
    scale = np.float32(25)
    feeds = {"X": scale * normal(2, 3, 16), "H": scale * normal(2, 2, 2, 4, 8, seed=1)}
    for want, have in zip(*(run_ort(m, feeds) for m in (model, done.model)), strict=True):
        assert np.abs(want - have).max() < 1e-5 * np.abs(want).max()
