"""A graph on the chip: GOBO's ops by its dataflow, all others by their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.runtime_ops.accelerator import session
from sardonyx.runtime_ops.accelerator.session import accelerator_session
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.ops import gobo_gather, gobo_linear, gobo_matmul


@pytest.fixture
def transcoded(monkeypatch):
    """The tensors that are transcoded from now on."""
    found = []
    transcode = session.transcode
    monkeypatch.setattr(session, "transcode", lambda t: found.append(t) or transcode(t))
    return found


@pytest.mark.parametrize("attributes", [{}, {"compute": "int8"}])
def test_matmul(encoded, op_model, scalar_product, normal, transcoded, attributes):
    """Also where the op may round activations; the weight is transcoded once."""
    tensor, a = encoded(70, 9, 3, 0.05), normal(5, 70)
    chip = accelerator_session(op_model(gobo_matmul(3), tensor, a, 17, **attributes))
    for _ in range(2):
        (y,) = chip.run(None, {"x": a})
        np.testing.assert_array_equal(y, scalar_product(a, tensor), strict=True)
    assert len(transcoded) == 1


def test_linear(encoded, op_model, scalar_product, normal):
    """The bias is added to the product."""
    tensor, a, bias = encoded(40, 9, 4, 0.05, groups=2), normal(2, 40), normal(9, seed=1)
    (y,) = accelerator_session(op_model(gobo_linear(4), tensor, a, 17, bias)).run(None, {"x": a})
    np.testing.assert_array_equal(y, scalar_product(a, tensor) + bias, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_gather(encoded, op_model, dtype):
    tensor, ids = encoded(24, 30, 4, 0.1, dtype=dtype), np.array([[3, -1, 3]])
    (rows,) = accelerator_session(op_model(gobo_gather(4), tensor, ids, 17)).run(None, {"x": ids})
    np.testing.assert_array_equal(rows, tensor.decode().T[ids], strict=True)


def test_double_precision(encoded, op_model, normal):
    tensor, a = encoded(24, 30, 4, 0.1, dtype=np.float64), normal(2, 24, dtype=np.float64)
    with pytest.raises(InputError, match="float32, not in float64"):
        accelerator_session(op_model(gobo_matmul(4), tensor, a, 17)).run(None, {"x": a})


def test_within_the_bound_of_onnxruntime(encoded, op_model, run_ort, normal):
    """Both are within K + 2^bits half steps of the exact products of up to 600 terms."""
    tensor, a = encoded(600, 33, 3, None), normal(4, 600)
    model = op_model(gobo_matmul(3), tensor, a, 17)
    (found,), (plain,) = accelerator_session(model).run(None, {"x": a}), run_ort(model, {"x": a})
    bound = 2 * (600 + 8) * 2.0**-24 * (np.abs(a) @ np.abs(tensor.decode()))
    assert np.all(np.abs(found - plain) <= bound)
