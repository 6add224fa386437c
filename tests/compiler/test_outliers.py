"""Outliers of a BERT with a planted channel, against numpy on tapped tensors; what is refused."""

import copy

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sardonyx.compiler import compile
from sardonyx.compiler.outliers import find_outliers
from sardonyx.models import TINY_BERT
from sardonyx.runtime_ops.errors import InputError

CHANNEL, LAYER = 5, 1

TENSORS = {
    "x": "/encoder/layer.1/attention/output/LayerNorm/LayerNormalization_output_0",
    "g": "/encoder/layer.1/intermediate/intermediate_act_fn/Mul_1_output_0",
    "h": "/encoder/layer.1/output/dense/Add_output_0",
    "y": "/encoder/layer.1/output/Add_output_0",
}
SOFTMAX = "/encoder/layer.1/attention/self/Softmax_output_0"

ROUNDING = 1e-5
"""Kernels that onnxruntime fuses add up in another order."""


@pytest.fixture(scope="module")
def planted(bert):
    """The model, with one channel of the last layer's FFN-out far from the others."""
    model = copy.deepcopy(bert)
    bias = next(
        t for t in model.graph.initializer if t.name == f"encoder.layer.{LAYER}.output.dense.bias"
    )
    values = numpy_helper.to_array(bias).copy()
    values[CHANNEL] = 60
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    return model


@pytest.fixture(scope="module")
def file(planted, tmp_path_factory):
    path = tmp_path_factory.mktemp("planted") / "planted.onnx"
    onnx.save(planted, path)
    return path


@pytest.fixture(scope="module")
def batches():
    """Three sentences of 9 to 17 tokens."""
    made = []
    for seed, length in enumerate((9, 12, 17)):
        ids = np.random.default_rng(seed).integers(1, TINY_BERT.vocab_size, (1, length))
        one = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids * 0}
        made.append(one)
    return made


@pytest.fixture(scope="module")
def tapped(planted, batches, run_ort):
    """The values of the tensors on each sentence, by name."""
    model = copy.deepcopy(planted)
    names = [*TENSORS.values(), SOFTMAX]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return [dict(zip(names, run_ort(model, feeds), strict=True)) for feeds in batches]


@pytest.fixture(scope="module")
def found(file, batches):
    return find_outliers(file, batches)


def test_the_planted_channel_is_found(found, batches):
    last = {one.kind: one for one in found.tensors if one.layer == LAYER}
    for kind in ("h", "y"):
        assert last[kind].shares == {CHANNEL: 1.0}
        assert last[kind].channels.beyond[CHANNEL] == sum(b["input_ids"].size for b in batches)
    assert found.samples == 3
    assert [(one.layer, one.kind) for one in found.tensors] == [
        (layer, kind) for layer in (0, 1) for kind in ("x", "g", "h", "y")
    ]


@pytest.mark.parametrize("kind", TENSORS)
def test_distances_and_ranges_are_numpys(found, tapped, kind):
    one = next(one for one in found.tensors if (one.layer, one.kind) == (LAYER, kind))
    assert one.name == TENSORS[kind]
    seen = [values[one.name].astype(np.float64) for values in tapped]
    largest = max(np.abs((v - v.mean()) / v.std()).max() for v in seen)
    np.testing.assert_allclose(one.channels.largest, largest, rtol=ROUNDING)
    rows = np.concatenate([v.reshape(-1, one.width) for v in seen])
    bound = ROUNDING * np.abs(rows).max()
    np.testing.assert_allclose(one.range.low, rows.min(axis=0), rtol=0, atol=bound)
    np.testing.assert_allclose(one.range.high, rows.max(axis=0), rtol=0, atol=bound)


def test_attention_is_numpys(found, tapped):
    probabilities = [values[SOFTMAX][0] for values in tapped]
    ends = [[p[:, :, end].mean(axis=1) for end in (0, -1)] for p in probabilities]
    np.testing.assert_allclose(
        found.attention[LAYER].shares, np.mean(ends, axis=0), rtol=0, atol=ROUNDING
    )


def test_order_of_samples_changes_nothing(found, file, batches):
    again = find_outliers(file, batches[::-1])
    for one, other in zip(found.tensors, again.tensors, strict=True):
        assert one.channels.beyond.tolist() == other.channels.beyond.tolist()
        assert one.channels.largest == other.channels.largest
    for layer, ends in found.attention.items():
        assert ends.shares.tolist() == again.attention[layer].shares.tolist()


def test_quantizers_are_counted(found):
    assert len(found.sites) == 3 + 2 * 13
    assert dict(found.kinds) == {"x": 2, "g": 2, "h": 2, "y": 2, "r": 4}


def test_a_fused_model(file, found, batches, tmp_path):
    """Ops are taken apart, but for the standard's Attention: scores and probabilities are inside
    it."""
    compile(file, "float", target="cpu").save(tmp_path / "fused.onnx")
    again = find_outliers(tmp_path / "fused.onnx", batches)
    assert len(again.sites) == len(found.sites) - 2 * 2
    assert again.attention == {}
    last = next(one for one in again.tensors if (one.layer, one.kind) == (LAYER, "y"))
    assert last.shares == {CHANNEL: 1.0}


def test_no_calibration(file):
    with pytest.raises(InputError, match=r"^--outliers measures activations, which needs --cal"):
        find_outliers(file, None)


@pytest.mark.parametrize("recipe", ["gobo", "int8-kl"])
def test_a_quantized_model(file, batches, tmp_path, recipe):
    compile(file, recipe, None if recipe == "gobo" else batches).save(tmp_path / "small.onnx")
    with pytest.raises(
        InputError, match=r"small.onnx' is no floating-point model: '.*' is already"
    ):
        find_outliers(tmp_path / "small.onnx", batches)


def test_no_network(text_model, normal, tmp_path):
    path = tmp_path / "plain.onnx"
    text = "g (float[N,4] X) => (float[N,4] Y) { Y = MatMul (X, W) }"
    onnx.save(text_model(text, W=normal(4, 4)), path)
    with pytest.raises(InputError, match=r"has no feed-forward network: looked for a product by"):
        find_outliers(path, [{"X": normal(2, 4)}])


def test_networks_in_bodies(text_model, normal, tmp_path):
    body = "P = MatMul (X, W)\n G = Relu (P)\n H = MatMul (G, W)\n T = Add (H, X)"
    text = f"""g (bool c, float[1,4] X) => (float[1,4] Y) {{
        Y = If (c) <then_branch = a () => (float[1,4] T) {{ {body} }},
                    else_branch = b () => (float[1,4] E) {{ E = Identity (X) }}>
    }}"""
    path = tmp_path / "if.onnx"
    onnx.save(text_model(text, W=normal(4, 4)), path)
    with pytest.raises(InputError, match=r"'H': it is in the body of an If, Loop or Scan$"):
        find_outliers(path, [{"X": normal(1, 4), "c": np.array(True)}])
