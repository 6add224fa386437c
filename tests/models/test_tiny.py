"""The tiny directories: the same every time, large enough to compress, complete."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.models.export.directory import find_task, load_model
from sardonyx.models.quiet import quiet
from sardonyx.models.tiny import ARCHITECTURES, tiny_directory

pytestmark = pytest.mark.heavy
pytest.importorskip("transformers")

TASKS = {
    "bert": "feature-extraction",
    "roberta": "text-classification",
    "distilbert": "token-classification",
    "albert": "fill-mask",
    "electra": "text-classification",
    "mpnet": "feature-extraction",
    "deberta-v2": "text-classification",
    "spanbert": "question-answering",
    "gpt2": "text-generation-with-past",
    "t5": "text2text-generation-with-past",
    "marian": "text2text-generation-with-past",
    "whisper": "automatic-speech-recognition-with-past",
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_directory(name, tmp_path):
    first, again, other = (
        tiny_directory(name, tmp_path / str(at), seed) / "model.safetensors"
        for at, seed in enumerate((0, 0, 1))
    )
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    assert find_task(first.parent) == TASKS[name]
    with quiet():
        model = load_model(first.parent, TASKS[name], None)
    weights = {n: p.detach().numpy() for n, p in model.named_parameters() if p.dim() == 2}
    large = {n: w for n, w in weights.items() if w.size >= 4096}
    assert sum(w.size for w in large.values()) >= 0.98 * sum(w.size for w in weights.values())
    assert all(np.unique(w).size > w.size // 2 for n, w in large.items() if "embed_pos" not in n)
