from __future__ import annotations

from functools import partial

import numpy as np
import onnxruntime as ort
import pytest

from sardonyx.models import embed, mean_pool, minilm_l3_onnx, minilm_l6, minilm_tokenizer

SENTENCES = [
    "A man is playing a guitar.",
    "The stock market fell sharply today, and traders blamed rising interest rates.",
    "Someone is strumming a guitar.",
    "Shares dropped steeply on Wall Street as borrowing costs climbed.",
]


@pytest.fixture(scope="module")
def session():
    return ort.InferenceSession(minilm_l6().SerializeToString())


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_paraphrases_are_close_and_batches_do_not_matter(session, batch_size):
    names = [value.name for value in session.get_inputs()]
    run, tokenizer = partial(session.run, None), minilm_tokenizer()
    embeddings = embed(run, tokenizer, SENTENCES, inputs=names, batch_size=batch_size)
    similarity = embeddings @ embeddings.T
    np.testing.assert_allclose(np.diag(similarity), 1, rtol=0, atol=1e-6)  # FP32 norm of 384 terms
    unrelated = max(similarity[0, 1], similarity[0, 3], similarity[2, 1], similarity[2, 3])
    assert min(similarity[0, 2], similarity[1, 3]) > unrelated + 0.3
    single = embed(run, tokenizer, SENTENCES[1:2], inputs=names)
    # Another batch shape sums FP32 in another order.
    np.testing.assert_allclose(embeddings[1:2], single, rtol=0, atol=1e-6)


def test_pooling_inside_the_model_equals_pooling_here():
    session, tokenizer = ort.InferenceSession(str(minilm_l3_onnx())), minilm_tokenizer()
    outside = embed(partial(session.run, None), tokenizer, SENTENCES, normalize=False)
    inside = embed(partial(session.run, ["461"]), tokenizer, SENTENCES, normalize=False)
    assert outside.shape == (4, 384)
    # The two add up to 15 FP32 vectors in another order.
    np.testing.assert_allclose(outside, inside, rtol=0, atol=1e-6)


def test_mean_leaves_padding_out():
    hidden = np.array([[[1, 2], [3, 4], [100, 100]]], np.float32)
    assert mean_pool(hidden, np.array([[1, 1, 0]])).tolist() == [[2, 3]]
