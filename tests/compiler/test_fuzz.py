"""Random damage to a file: refused in one sentence, or harmless; never a traceback or a hang."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

STRUCTURE = 0.9
"""Share of the damage that hits nodes and names; weights are most of the file and rarely matter."""


def damaged(model: onnx.ModelProto, seed: int) -> bytes:
    """The model's bytes with one to three of them, or of their bits, changed."""
    generator = np.random.default_rng(seed)
    data = bytearray(model.SerializeToString())
    nodes = sum(node.ByteSize() + 3 for node in model.graph.node)
    for _ in range(generator.integers(1, 4)):
        limit = nodes if generator.random() < STRUCTURE else len(data)
        place = generator.integers(limit)
        flip, other = 1 << generator.integers(8), generator.integers(256)
        data[place] = data[place] ^ flip if generator.random() < 0.5 else other
    return bytes(data)


def fuzz(model: onnx.ModelProto, judge, folder: Path, seeds: range) -> set[int]:
    paths = [folder / str(seed) / "m.onnx" for seed in seeds]
    for path, seed in zip(paths, seeds, strict=True):
        path.parent.mkdir()
        path.write_bytes(damaged(model, seed))
    return set(judge(paths))


def test_damaged_files(bert, judge, tmp_path):
    assert fuzz(bert, judge, tmp_path, range(200)) == {0, 1}


def test_damaged_files_of_a_real_model(minilm, judge, tmp_path):
    assert 1 in fuzz(onnx.load(minilm), judge, tmp_path, range(6))


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 6000, 500))
def test_many_damaged_files(bert, judge, tmp_path, start):
    assert fuzz(bert, judge, tmp_path, range(start, start + 500)) == {0, 1}
