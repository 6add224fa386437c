"""The rule on distributions whose class is known, and on a real model."""

import numpy as np
import onnx
import pytest
from scipy.special import erf, softmax

from sardonyx.models import minilm_l3_onnx, minilm_tokenizer
from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.observers.tensor_class import tensor_class

RNG = np.random.default_rng(3)
NORMAL = RNG.normal(size=(400, 1000))
CAUSAL = np.where(np.tri(32, dtype=bool), NORMAL[:32, :32], -np.inf)


def gelu(x):
    return x * (1 + erf(x / 2**0.5)) / 2


def with_outlier_channel(x):
    return x * np.where(np.arange(x.shape[1]) == 5, 60, 1)


CLASSES = {
    "gaussian": {
        "normal": NORMAL,
        "Laplace": RNG.laplace(size=NORMAL.shape),
        "uniform": RNG.uniform(-1, 1, NORMAL.shape),
        "GELU": gelu(NORMAL),
        "GELU of wide values": gelu(3 * NORMAL),
        "attention probabilities": softmax(3 * NORMAL[:, :64], axis=1),
    },
    "sparse": {
        "ReLU": np.maximum(NORMAL, 0),
        "ReLU with a bias": np.maximum(NORMAL + 0.5, 0),
        "causal attention probabilities": softmax(CAUSAL, axis=1),
        "zeros": np.zeros(7),
    },
    "narrow": {
        "an outlier channel": with_outlier_channel(NORMAL),
        "GELU of an outlier channel": gelu(with_outlier_channel(NORMAL)),
        "probabilities over a thousand": softmax(2 * NORMAL, axis=1),
    },
}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        pytest.param(name, values, id=key)
        for name, examples in CLASSES.items()
        for key, values in examples.items()
    ],
)
def test_the_class_of_known_distributions(histogram_of, name, values):
    assert tensor_class(histogram_of(values)).name == name


@pytest.mark.parametrize(("zeros", "name"), [(24, "gaussian"), (25, "sparse")])
def test_a_quarter_of_zeros_is_sparse(histogram_of, zeros, name):
    found = tensor_class(histogram_of([0.0] * zeros + [1.0] * (100 - zeros)))
    assert found.name == name


@pytest.mark.parametrize(("small", "name"), [(98, "gaussian"), (99, "narrow")])
def test_99_percent_within_an_eighth_is_narrow(histogram_of, small, name):
    found = tensor_class(histogram_of([0.999] * small + [8.0] * (100 - small)))
    assert found.name == name
    assert found.reason == f"{small}.0% of its values lie within an eighth of the largest magnitude"


def test_the_sentence_for_zeros_names_their_share(histogram_of):
    assert tensor_class(histogram_of([0, 0, 1])).reason == "66.7% of its values are exactly zero"


def test_no_values():
    assert tensor_class(Histogram()).name == "gaussian"


def test_a_scale_changes_no_class(histogram_of):
    values = np.concatenate([NORMAL[0], [40.0]])
    small, large = (tensor_class(histogram_of(values * s)) for s in (2.0**-40, 2.0**40))
    assert small == large


@pytest.fixture(scope="module")
def minilm_classes(run_ort):
    """The classes of all tensors that MatMuls of a real model multiply, by the op they are of."""
    model = onnx.load(minilm_l3_onnx())
    constants = {tensor.name for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    names = sorted({name for node in products for name in node.input} - constants)
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    histograms = dict.fromkeys(names, Histogram())
    for sentence in ("A lively, funny film.", "It is too long, and its jokes fall flat."):
        tokens = minilm_tokenizer().encode(sentence)
        ids = np.array([tokens.ids])
        outputs = run_ort(model, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        for name, values in zip(names, outputs, strict=True):
            histograms[name] = histograms[name].add(values)
    producers = {name: node.op_type for node in model.graph.node for name in node.output}
    return [(producers[name], tensor_class(histograms[name])) for name in names]


def test_no_tensor_of_a_model_with_gelu_is_sparse(minilm_classes):
    assert len(minilm_classes) > 20
    assert {found.name for _, found in minilm_classes} == {"narrow", "gaussian"}


def test_outputs_of_gelu_are_narrow_in_a_real_model(minilm_classes):
    assert "narrow" in {found.name for op, found in minilm_classes if op == "Mul"}
