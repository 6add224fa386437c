"""The target cpu from end to end: what is fused, in which opset, and what becomes of the result."""

import os
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from sardonyx.compiler import compile, load_recipe
from sardonyx.compiler.report import FusionEntry, MissEntry
from sardonyx.models import TINY_BERT, seeded_bert
from sardonyx.runtime_ops.errors import InputError

LAYERS = 2
CONTRIB = {"BiasGelu"}


@pytest.fixture(scope="module")
def feeds():
    ids = np.random.default_rng(0).integers(0, 1000, (2, 7))
    mask = np.ones_like(ids)
    mask[1, :3] = 0  # ahead of the sentence: the first queries see keys that follow
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids % 2}


@pytest.fixture(scope="module")
def fused(bert):
    return compile(bert, "float", target="cpu", verify="full")


def opset_of(model):
    return next(o.version for o in model.opset_import if o.domain == "")


def contrib_ops(model):
    return {node.op_type for node in model.graph.node if node.domain == "com.microsoft"}


def assert_close(want, have):
    """Within what sums in another order make of float32."""
    for one, other in zip(want, have, strict=True):
        assert np.abs(one - other).max() <= 1e-5 * np.abs(one).max()


def test_what_is_fused(fused, bert, feeds, run_ort, census):
    assert opset_of(fused.model) == 23
    assert fused.model.ir_version == bert.ir_version
    counted = census(fused.model)
    assert contrib_ops(fused.model) == CONTRIB
    assert (counted["Attention"], counted["BiasGelu"]) == (LAYERS, LAYERS)
    assert not {"Softmax", "Erf", "Transpose", "Identity"} & counted.keys()
    checked = fused.report.verification
    assert (checked.regions_run, checked.unchecked) == (checked.regions, [])
    onnx.checker.check_model(fused.model, full_check=True)
    for optimize in (False, True):
        assert_close(run_ort(bert, feeds, optimize), run_ort(fused.model, feeds, optimize))


def test_the_report(fused):
    ops = Counter(entry.op for entry in fused.report.fused)
    assert ops["Attention"] == LAYERS
    nodes = {node.name: node.op_type for node in fused.model.graph.node}
    for entry in fused.report.fused:
        assert nodes[entry.node] == entry.op
    attentions = [entry for entry in fused.report.fused if entry.by == "fuse-attention"]
    assert all(type(entry) is FusionEntry and entry.replaced > 10 for entry in attentions)
    assert fused.report.not_fused == []


def test_twice_is_once(fused):
    again = compile(fused.model, "float", target="cpu")
    changed = [run.name for run in again.report.passes if run.rewrites]
    assert changed == ["unfuse-gelu", "fuse-gelu", "remove-no-ops", "keep-layer-norm"]
    ops = [[node.op_type for node in model.graph.node] for model in (fused.model, again.model)]
    assert ops[0] == ops[1]


def test_portable_again(fused, bert, feeds, run_ort, census):
    """Attention of opset 23 is standard: it stays."""
    done = compile(fused.model, "float", verify="full")
    assert contrib_ops(done.model) == set()
    assert done.report.kept_ops == []
    assert census(done.model)["Attention"] == LAYERS
    assert_close(run_ort(bert, feeds), run_ort(done.model, feeds))


def test_of_a_portable_one(bert, fused, feeds, run_ort, census):
    done = compile(compile(bert, "float").model, "float", target="cpu")
    assert census(done.model) == census(fused.model)
    assert_close(run_ort(bert, feeds), run_ort(done.model, feeds))


def optimized(model, path):
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("opset", [13, 17, 20, 23, 25])
def test_gobo(opset, feeds, run_ort, tmp_path):
    """The bodies of the ops follow the opset, and onnxruntime still folds them away."""
    model = seeded_bert(TINY_BERT, 0, opset=opset)
    plain = compile(model, "gobo", verify="full")
    done = compile(model, "gobo", target="cpu", verify="full")
    assert opset_of(done.model) == max(opset, 23)
    for function in done.model.functions:
        assert {o.version for o in function.opset_import if not o.domain} == {max(opset, 23)}
    assert done.report.verification.model_difference < 1e-4
    assert done.report.totals.weights_quantized == plain.report.totals.weights_quantized
    assert_close(*(run_ort(each.model, feeds, True) for each in (plain, done)))
    counted = optimized(done.model, tmp_path / "optimized.onnx")
    folded = optimized(plain.model, tmp_path / "plain.onnx")
    assert not {op for op in counted if op.startswith("GoboMatMul")}
    assert counted["MatMul"] + counted["FusedMatMul"] > 4 * LAYERS
    bits = {"BitShift", "BitwiseAnd", "Mod", "ScatterElements", "ScatterND"}
    assert {op: counted[op] for op in bits} == {op: folded[op] for op in bits}
    assert not {"SkipLayerNormalization", "Softmax"} & counted.keys()


@pytest.mark.parametrize("overrides", [[], ["raise-opset.to=0"]])
def test_gobo_leaves_no_bias_by_itself(bert, feeds, census, run_ort, overrides):
    """Those of queries, keys and values go where MultiHeadAttention takes them, if it is there."""
    done = compile(bert, "gobo", target="cpu", overrides=overrides, verify="full")
    counted = census(done.model)
    assert counted["Attention"] + counted["MultiHeadAttention"] == 2
    of_attention = 2 * 3 if overrides else 0
    assert counted["GoboLinear3"] == 2 * 5 - of_attention
    assert counted["GoboMatMul3"] == 2 * 1 + of_attention  # one more adds it in BiasGelu
    plain = compile(bert, "gobo", target="cpu", overrides=overrides, until="fuse-layer-norm")
    for optimize in (False, True):
        outputs = [run_ort(each.model, feeds, optimize)[0] for each in (plain, done)]
        if not optimize:
            np.testing.assert_array_equal(*outputs)
        # what follows the pass keeps SkipLayerNormalization away, which sums in another order
        np.testing.assert_allclose(*outputs, rtol=0, atol=1e-5)


def test_gobo_of_a_fused_model_and_fused_after_gobo(fused, bert, feeds, run_ort):
    one = compile(fused.model, "gobo", target="cpu")
    other = compile(compile(bert, "gobo").model, "float", target="cpu")
    assert_close(*(run_ort(each.model, feeds) for each in (one, other)))


def test_until_a_pass(bert):
    done = compile(bert, "float", target="cpu", until="fuse-attention")
    assert done.report.passes[-1].name == "fuse-attention"
    ops = {node.op_type for node in done.model.graph.node}
    assert "Attention" in ops
    assert "BiasGelu" not in ops


NEAR_MISS = """g (float[B,S,8] X) => (float[B,S,8] Y) {
  D = Div (X, root)
  E = Erf (D)
  A = Add (E, two)
  M = Mul (X, A)
  Y = Mul (M, half)
}"""


def test_a_near_miss_is_in_the_report(text_model):
    numbers = {"root": np.float32(2**0.5), "two": np.float32(2), "half": np.float32(0.5)}
    done = compile(text_model(NEAR_MISS, **numbers), "float", target="cpu")
    assert done.report.fused == []
    reason = "Add 'A' has the constant 2, not 1"
    assert done.report.not_fused == [MissEntry(by="fuse-gelu", node="E", reason=reason)]


@pytest.mark.parametrize(
    ("overrides", "opset", "op"),
    [
        ([], 23, "Attention"),
        (["raise-opset.to=0"], 17, "MultiHeadAttention"),
        (["raise-opset.to=20"], 20, "MultiHeadAttention"),
        (["fuse-attention.standard=false"], 23, "MultiHeadAttention"),
        (["raise-opset.to=0", "raise-opset.to=23"], 23, "Attention"),
    ],
)
def test_set_reaches_the_passes_of_the_target(bert, feeds, run_ort, census, overrides, opset, op):
    done = compile(bert, "float", target="cpu", overrides=overrides)
    assert opset_of(done.model) == opset
    assert census(done.model)[op] == LAYERS
    assert_close(run_ort(bert, feeds), run_ort(done.model, feeds))


def test_set_reaches_both(bert):
    overrides = ["gobo.bits=5", "raise-opset.to=0"]
    done = compile(bert, "gobo", target="cpu", overrides=overrides)
    same = compile(bert, load_recipe("gobo", overrides[:1]), target="cpu", overrides=overrides[1:])
    assert done.model == same.model
    assert {entry.bits for entry in done.report.tensors} == {4, 5}
    assert opset_of(done.model) == 17


REFUSED = {
    "raise-opsets.to=0": "recipe 'float' on target 'cpu' has no pass 'raise-opsets': did you mean "
    "'raise-opset'?",
    "gobo.bits=3": "recipe 'float' on target 'cpu' has no pass 'gobo': there is fold-constants",
    "raise-opset.too=0": "pass raise-opset has no argument 'too': did you mean 'to'?",
    "fuse-gelu.to=0": "pass fuse-gelu has no argument 'to': it takes none",
    "raise-opset.to=24": "raise-opset.to: Input should be less than or equal to 23 (got 24)",
    "raise-opset.to=old": "raise-opset.to: Input should be a valid integer, unable to parse",
    "fuse-attention.standard=maybe": "fuse-attention.standard: Input should be a valid boolean",
    "lift-constants.to=0": "recipe 'float' on target 'cpu' has no pass 'lift-constants'",
    "raise-opset": "'raise-opset' is not of the form PASS.ARG=VALUE, as in gobo.bits=4",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_cannot_be_set(bert, override):
    with pytest.raises(InputError) as caught:
        compile(bert, "float", target="cpu", overrides=[override])
    assert str(caught.value).startswith(REFUSED[override])


def test_of_another_target(bert):
    with pytest.raises(InputError, match="on target 'portable' has no pass 'raise-opset'"):
        compile(bert, "float", overrides=["raise-opset.to=0"])


def test_same_bytes_in_other_processes(bert_file, tmp_path):
    program = (
        "import sys; from sardonyx.compiler import compile; "
        "compile(sys.argv[1], 'gobo', target='cpu').save(sys.argv[2])"
    )
    outputs = [tmp_path / f"{seed}.onnx" for seed in (0, 1, 12345)]
    for path in outputs:
        command = [sys.executable, "-c", program, str(bert_file), str(path)]
        subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": path.stem}, check=True)
    first, *others = (path.read_bytes() for path in outputs)
    assert all(other == first for other in others)
