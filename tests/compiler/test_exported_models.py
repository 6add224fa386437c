"""Files that others exported, fused or quantized: every weight is encoded or has its reason."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from sardonyx.compiler import InputError, compile
from sardonyx.models import exported_models
from sardonyx.passes.weights import ALREADY

pytestmark = pytest.mark.slow

FUSED = "MiniLM-L6, fused"
QUANTIZED = {
    "DistilBERT tagger, INT8 QDQ": ({"int8 read by DequantizeLinear"}, 39),
    "BERT entity tagger, 4-bit": (
        {
            "uint8 read by MatMulNBits",
            "uint8 read by Gather",
            "belongs to the codes that MatMulNBits reads",
        },
        77,
    ),
    "flan-t5-small encoder, dynamic INT8": (
        {"int8 read by MatMulInteger", "uint8 read by Gather"},
        58,
    ),
    "flan-t5-small decoder, dynamic INT8": (
        {"int8 read by MatMulInteger", "uint8 read by Gather"},
        91,
    ),
}


def token_feeds(path):
    """Token ids for a text model of two sentences; floats are standard normal."""
    generator = np.random.default_rng(0)
    sizes = {"batch_size": 2, "batch": 2}
    feeds = {}
    for info in ort.InferenceSession(path).get_inputs():
        shape = [dim if isinstance(dim, int) else sizes.get(dim, 7) for dim in info.shape]
        shape[0] = 2
        if "float" in info.type:
            feeds[info.name] = generator.standard_normal(shape).astype(np.float32)
        else:
            words = (1000, 20_000) if info.name == "input_ids" else (1, 2)
            feeds[info.name] = generator.integers(*words, shape).astype(np.int64)
            if "type" in info.name:
                feeds[info.name][:] = 0
    return feeds


def test_a_fused_file_with_external_data(tmp_path):
    done = compile(exported_models()[FUSED], "gobo")
    report = done.report
    assert report.totals.weights - report.totals.weights_quantized == 768
    assert not [skip for skip in report.skipped if skip.eligible]
    assert report.verification.unchecked == []
    assert report.totals.ratio > 8.5
    roles = {(entry.role, entry.layer) for entry in report.tensors}
    assert len(roles) == 6 * 6 + 1
    done.save(tmp_path / "m.onnx")
    feeds = token_feeds(exported_models()[FUSED])
    before, after = (
        ort.InferenceSession(path).run(None, feeds)[0]
        for path in (exported_models()[FUSED], tmp_path / "m.onnx")
    )
    cosine = np.sum(before * after) / np.linalg.norm(before) / np.linalg.norm(after)
    assert cosine > 0.8  # 3 bits: about 0.88


@pytest.mark.parametrize("name", QUANTIZED)
def test_a_quantized_file_is_left_alone_with_reasons(name):
    path = exported_models()[name]
    done = compile(path, "gobo")
    reasons, count = QUANTIZED[name]
    already = [skip for skip in done.report.skipped if skip.reason.startswith(ALREADY)]
    assert {skip.reason for skip in already} == {f"{ALREADY}: {reason}" for reason in reasons}
    assert len(already) == count
    assert (done.report.totals.weights, done.report.tensors) == (0, [])
    feeds = token_feeds(path)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    before = ort.InferenceSession(path, options).run(None, feeds)
    after = ort.InferenceSession(done.model.SerializeToString(), options).run(None, feeds)
    assert all(map(np.array_equal, before, after))


@pytest.mark.parametrize("recipe", ["int8-kl", "int8-dynamic"])
@pytest.mark.parametrize("name", QUANTIZED)
def test_a_quantized_file_is_refused_by_int8(name, recipe):
    """Without calibration data: there is nothing to measure."""
    with pytest.raises(InputError, match=f"can quantize: '.*' is {ALREADY}: "):
        compile(exported_models()[name], recipe)


@pytest.mark.parametrize("name", [FUSED, *QUANTIZED])
def test_every_matrix_is_accounted_for(name):
    path = exported_models()[name]
    report = compile(path, "gobo", verify="off").report
    listed = {entry.name for entry in (*report.tensors, *report.skipped)}
    graph = onnx.load(path, load_external_data=False).graph
    matrices = {t.name for t in graph.initializer if len(t.dims) > 1}
    assert matrices <= listed
