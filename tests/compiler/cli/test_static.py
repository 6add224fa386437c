"""Recipe static from the command line: a small BERT that onnxruntime quantized dynamically."""

import json
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from sardonyx.models import TINY_BERT, seeded_bert
from sardonyx.runtime_ops.reference import reference_session

TARGETS = ("portable", "cpu")
PRODUCTS = 12
"""By weights: 6 in each of two layers."""


def feeds_of(count, seed):
    ids = np.random.default_rng(seed).integers(0, 1000, (count, 12))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids % 2}


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A folder with the model in floating point and dynamic, and calibration data."""
    folder = tmp_path_factory.mktemp("static")
    plain, dynamic, data = (folder / name for name in ("plain.onnx", "m.onnx", "data.npz"))
    onnx.save(seeded_bert(TINY_BERT, 0), plain)
    quantize_dynamic(
        plain, dynamic, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
    )
    np.savez(data, **feeds_of(32, 1))
    return folder, plain, dynamic, data


@pytest.fixture(scope="module")
def made(cli, ready):
    """For each target what the command said, the model that it wrote, and the report."""
    folder, _, dynamic, data = ready
    results = {}
    for target in TARGETS:
        out, report = folder / f"{target}.onnx", folder / f"{target}.json"
        ran = cli(
            *("compile", dynamic, "--recipe", "static", "--target", target, "--verify", "full"),
            *("--calibration", data, "-o", out, "--report", report),
        )
        assert ran.code == 0, ran.err
        results[target] = ran.out, out, json.loads(report.read_text())
    return results


def run(path, feeds):
    session = ort.InferenceSession(path)
    wanted = {value.name for value in session.get_inputs()}
    return session.run(None, {name: array for name, array in feeds.items() if name in wanted})


def cosine(want, have):
    lengths = np.linalg.norm(want, axis=-1) * np.linalg.norm(have, axis=-1)
    return np.mean(np.sum(want * have, axis=-1) / lengths)


def test_what_is_dynamic_before(ready):
    ops = Counter(node.op_type for node in onnx.load(ready[2]).graph.node)
    assert ops["MatMulInteger"] == PRODUCTS
    assert ops["DynamicQuantizeLinear"] == 8


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_dynamic_after(made, target):
    ops = Counter(node.op_type for node in onnx.load(made[target][1]).graph.node)
    assert not any("Dynamic" in op for op in ops)
    assert "MatMulInteger" not in ops
    linear = "MatMul" if target == "portable" else "MatMulIntegerToFloat"
    assert ops[linear] >= (PRODUCTS if target == "portable" else 2)


@pytest.mark.parametrize("target", TARGETS)
def test_outputs(ready, made, target):
    feeds = feeds_of(4, 2)
    plain, dynamic, static = (run(path, feeds) for path in (*ready[1:3], made[target][1]))
    for exact, want, have in zip(plain, dynamic, static, strict=True):
        assert cosine(want, have) > 0.999
        assert cosine(exact, have) > cosine(exact, want) - 0.002
    made_by_reference = reference_session(onnx.load(made[target][1])).run(None, feeds)
    for want, have in zip(static, made_by_reference, strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=1e-4 * np.abs(want).max())


def test_what_the_command_says(made):
    text = made["portable"][0]
    assert "Rounded 8 activations to uint8/tensor" in text
    assert "Measured activations on 32 samples" in text
    assert "freeze-ranges" in text


def test_report(made):
    report = made["portable"][2]
    assert report["recipe"] == "static"
    assert report["calibration"]["samples"] == 32
    for one in report["activations"]:
        assert (one["format"], one["bits"]) == ("uint8/tensor", 8)
        assert one["range"][0] <= 0 <= one["range"][1]
        assert one["method"].startswith("kl-")
        assert one["product_sqnr_db"] > 20
    assert report["not_fused"] == []
    assert report["verification"]["unchecked"] == []
    assert report["verification"]["largest_difference"] < 1e-5
    assert min(output["cosine"] for output in report["verification"]["outputs"]) > 0.999


def test_codes_stay_as_they_are(ready, made):
    def codes(path):
        held = onnx.load(path).graph.initializer
        return {
            t.raw_data for t in held if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 2
        }

    assert codes(ready[2]) == codes(made["portable"][1])


def test_explain(cli, made):
    out = cli("explain", made["portable"][1]).out
    assert "Rounded activations" in out
    assert "kl-" in out


def test_the_same_again(cli, ready, made):
    folder, _, dynamic, data = ready
    ran = cli(
        *("compile", dynamic, "--recipe", "static", "--calibration", data),
        *("-o", folder / "again.onnx"),
    )
    assert ran.code == 0
    assert (folder / "again.onnx").read_bytes() == made["portable"][1].read_bytes()


@pytest.fixture
def refused(cli, tmp_path):
    """What is said of arguments that are wrong; nothing is written."""

    def check(*arguments):
        ran = cli("compile", *arguments, "--recipe", "static", "-o", tmp_path / "x.onnx")
        assert ran.code == 1
        assert list(tmp_path.iterdir()) == []
        return said(ran)

    return check


def said(ran):
    assert "Traceback" not in ran.err
    return " ".join(ran.err.split())


def test_without_data(refused, ready):
    text = refused(ready[2])
    assert "pass freeze-ranges measures activations, which needs --calibration" in text


@pytest.mark.parametrize("static", [False, True])
def test_nothing_to_do(refused, ready, made, static):
    """Of a model in floating point, and of one that is static already."""
    model = made["portable"][1] if static else ready[1]
    text = refused(model, "--calibration", ready[3])
    assert (
        "recipe 'static' has nothing to do: the model makes no 8-bit codes of an activation" in text
    )


def test_bad_argument(refused, ready):
    text = refused(ready[2], "--calibration", ready[3], "--set", "freeze-ranges.method=max")
    assert "freeze-ranges" in text
    assert "'max'" in text


def test_all_that_stays_dynamic_is_told(cli, ready):
    folder, _, dynamic, data = ready
    ran = cli(
        *("compile", dynamic, "--recipe", "static", "--calibration", data),
        *("--set", "freeze-ranges.least_db=200", "--set", "freeze-ranges.least_gain_db=0"),
        *("-o", folder / "kept.onnx", "--report", folder / "kept.json"),
    )
    assert ran.code == 0, ran.err
    report = json.loads((folder / "kept.json").read_text())
    dynamic = [node for node in onnx.load(folder / "kept.onnx").graph.node if "Dyn" in node.op_type]
    assert len(dynamic) == len(report["not_fused"]) > 0
    assert {miss["by"] for miss in report["not_fused"]} == {"freeze-ranges"}
    assert "freeze-ranges left 1: a static grid of" in " ".join(ran.out.split())
