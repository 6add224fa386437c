"""Models to compile, and the way to the compiler's stages."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from sardonyx.compiler import Compiled, Recipe, compile
from sardonyx.compiler.diff import diff
from sardonyx.compiler.emit import emit
from sardonyx.compiler.load import load
from sardonyx.compiler.model_diff import ModelDiff
from sardonyx.models import TINY_BERT, PackageMissing, minilm_l3_onnx, seeded_bert
from sardonyx.passes.base import Pass
from sardonyx.passes.journal import Journal, Watched
from sardonyx.passes.quantize.observers.statistic import Statistic


@pytest.fixture(scope="session", autouse=True)
def _repros_go_with_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Folders that failed checks save lie among pytest's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("repros")))
        yield


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The real paraphrase-MiniLM-L3 file."""
    try:
        return minilm_l3_onnx()
    except PackageMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def tokens() -> dict[str, np.ndarray]:
    """Inputs of the real model: three sentences of up to 12 tokens."""
    ids = np.random.default_rng(0).integers(1000, 20000, (3, 12))
    mask = np.ones_like(ids)
    mask[1, 7:] = mask[2, 9:] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.fixture(scope="session")
def bert() -> onnx.ModelProto:
    """A small seeded BERT: 2 layers of 64, 1,000 tokens."""
    return seeded_bert(TINY_BERT, 0)


@pytest.fixture(scope="session")
def bert_feeds() -> dict[str, np.ndarray]:
    """Inputs of it: two sentences of 9 tokens."""
    return {
        "input_ids": np.arange(18).reshape(2, 9) * 37 % 1000,
        "attention_mask": np.ones((2, 9), np.int64),
        "token_type_ids": np.zeros((2, 9), np.int64),
    }


@pytest.fixture
def bert_file(bert: onnx.ModelProto, tmp_path: Path) -> Path:
    """The small BERT in a file of its own folder."""
    folder = tmp_path / "source"
    folder.mkdir()
    onnx.save(bert, folder / "bert.onnx")
    return folder / "bert.onnx"


@pytest.fixture(scope="session")
def round_trip() -> Callable[[onnx.ModelProto | Path], onnx.ModelProto]:
    """load, then emit."""
    return lambda model: emit(*load(model))


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[int]]:
    """Compile, run, explain and compare files, in a process of their own with little memory; the
    exit codes of compile.

    Each must end in time, in the two documented ways: done, or refused in one sentence, with no
    traceback and no file left behind. What was compiled must run if the file itself does.
    """
    feeds = tmp_path_factory.mktemp("feeds") / "in.npz"
    ids = np.array([[1, 5, 9]])
    np.savez(feeds, input_ids=ids, attention_mask=ids // ids, token_type_ids=ids * 0)

    def run(paths: list[Path], seconds: float = 300) -> list[int]:
        before = {path: sorted(path.parent.iterdir()) for path in paths}
        child = [sys.executable, Path(__file__).with_name("child.py"), feeds, *paths]
        done = subprocess.run(
            child, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=seconds, check=False
        )
        lines = done.stdout.decode().splitlines()
        assert done.returncode == 0, lines[-1:]
        answers = [json.loads(line) for line in lines[1::2]]
        for path, answer in zip(paths, answers, strict=True):
            for command, (code, error, traceback) in answer.items():
                assert not traceback, f"{path}, {command}: {traceback}"
                assert code in (0, 1), f"{path}, {command}: {error}"
                assert error.count("\n") == code, f"{path}, {command}: {error}"
                assert error.startswith("Error: ") or not code
            if "result ran" in answer:
                assert answer["result ran"][0] == answer["ran"][0], path
            assert sorted(path.parent.iterdir()) == before[path]
        return [answer["compiled"][0] for answer in answers]

    return run


@pytest.fixture
def differ(tmp_path: Path) -> Callable[..., ModelDiff]:
    """The differences of two models, by way of files."""

    def run(a: onnx.ModelProto, b: onnx.ModelProto, **options: Any) -> ModelDiff:
        onnx.save(a, tmp_path / "a.onnx")
        onnx.save(b, tmp_path / "b.onnx", **options)
        return diff(tmp_path / "a.onnx", tmp_path / "b.onnx")

    return run


@dataclass(frozen=True, eq=False)
class Seen(Statistic):
    """All values, one sample behind the other, and the shape that each sample had."""

    values: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    shapes: np.ndarray = field(default_factory=lambda: np.empty(0, "U9"))

    def add(self, values: np.ndarray) -> Seen:
        if np.isnan(values).any():
            raise ValueError("holds NaN")
        shapes = np.append(self.shapes, "x".join(map(str, values.shape)))
        return replace(self, values=np.append(self.values, values.ravel()), shapes=shapes)


@dataclass(frozen=True)
class Watch(Pass):
    """A pass that changes nothing, and writes what it was told of tensors into a dict."""

    name: ClassVar[str] = "watch"
    names: tuple[str, ...] = ()
    statistics: tuple[Statistic, ...] = (Seen(),)
    told: Watched | None = None

    def watches(self, graph: gs.Graph) -> Watched:
        return dict.fromkeys(self.names, self.statistics)

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        assert self.told is not None
        self.told.update(journal.watched)
        return 0


@dataclass(frozen=True)
class Measured:
    """What a pass was told, by tensor, and the compile around it."""

    told: Watched
    compiled: Compiled

    def __getitem__(self, name: str) -> Any:
        return self.told[name][0]


@pytest.fixture(scope="session")
def watch() -> type[Watch]:
    """The pass, for recipes of several."""
    return Watch


@pytest.fixture(scope="session")
def measure() -> Callable[..., Measured]:
    """Compile with a pass that watches tensors, by default with a statistic that keeps all."""

    def run(
        model: onnx.ModelProto | Path,
        names: str,
        data: Any = None,
        *statistics: Statistic,
        **options: Any,
    ) -> Measured:
        told: Watched = {}
        a_pass = Watch(tuple(names.split()), statistics or (Seen(),), told)
        recipe = Recipe("watching", "", (*options.pop("before", ()), a_pass))
        return Measured(told, compile(model, recipe, data, **options))

    return run
