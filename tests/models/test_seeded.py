from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sardonyx.models import BERT_BASE, TINY_BERT, parameter_shapes, seeded_bert, seeded_weights


def gobo_outlier_share(weights):
    """Share of weights whose log-density under the tensor's own normal is below -4 (GOBO)."""
    values = weights.astype(np.float64)
    score = (values - values.mean()) / values.std()
    return np.mean(-(score**2) / 2 - math.log(values.std() * math.sqrt(2 * math.pi)) < -4)


def test_same_seed_same_bytes():
    first, again, other = (seeded_bert(TINY_BERT, seed) for seed in (3, 3, 4))
    assert first.SerializeToString() == again.SerializeToString()
    assert first.SerializeToString() != other.SerializeToString()


@pytest.mark.parametrize("share", [0.001, 0.005])
def test_gobo_flags_the_planted_share(share):
    weights = seeded_weights(BERT_BASE, 0, share)
    for name in (
        "encoder.layer.0.attention.self.query.weight",
        "encoder.layer.11.output.dense.weight",
    ):
        assert gobo_outlier_share(weights(name)) == pytest.approx(share, rel=1e-2)


def test_norms_near_one_and_biases_near_zero():
    weights = seeded_weights(BERT_BASE, 0)
    assert np.abs(weights("embeddings.LayerNorm.weight") - 1).max() < 0.2
    assert np.abs(weights("encoder.layer.0.intermediate.dense.bias")).max() < 0.2


def test_bert_base_parameter_count():
    shapes = parameter_shapes(BERT_BASE, pooler=True)
    assert sum(math.prod(shape) for shape in shapes.values()) == 109_482_240


@pytest.mark.slow
def test_bert_base_is_written_whole():
    model = seeded_bert(BERT_BASE, 0, pooler=True)
    floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    assert sum(math.prod(tensor.dims) for tensor in floats) == 109_482_240
    matrices = [numpy_helper.to_array(tensor) for tensor in floats if len(tensor.dims) == 2]
    shares = [gobo_outlier_share(matrix) for matrix in matrices]
    assert np.mean(shares) == pytest.approx(0.001, rel=0.1)
