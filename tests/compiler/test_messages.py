"""What is read off messages without writing them."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sardonyx.compiler.messages import message_bytes


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 16_383, 16_384, 100_000, 3_000_000])
def test_message_bytes_of_tensors(text_model, size):
    model = text_model("g (float[N] X) => (float[N] Y) { Y = Identity (X) }")
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(size, np.uint8), "w" * 9))
    assert message_bytes(model) == model.ByteSize() == len(model.SerializeToString())


def test_message_bytes_of_whole_models(bert, text_model):
    text = "g (float[N] X) => (float[N] Y) <int64[2] a = {1, 2}, float[1] b> { Y = Identity (X) }"
    for model in (bert, text_model(text), onnx.ModelProto(graph={})):
        assert message_bytes(model) == model.ByteSize()
