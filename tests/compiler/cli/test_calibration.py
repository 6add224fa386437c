"""Calibration from the command line: its data, what is wrong with it, and Ctrl-C."""

import json
import signal
import time

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

RECIPE = """
description = "measures"
[[passes]]
pass = "watch.py"
"""

WATCH = """
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from sardonyx.passes.base import Pass
from sardonyx.passes.quantize.observers.moving_range import MovingRange

@dataclass(frozen=True, eq=False)
class Slow(MovingRange):
    def add(self, values):
        if Path("slow").exists():
            Path("inside").touch()
            time.sleep(0.05)
        return super().add(values)

@dataclass(frozen=True)
class Watch(Pass):
    '''x -> x, measured.'''
    name: ClassVar[str] = "watch"

    def watches(self, graph):
        return {node.inputs[0].name: (Slow(0.9),) for node in graph.nodes if node.op == "MatMul"}

    def run(self, graph, journal):
        ((statistic,),) = journal.watched.values()
        np.savez("told.npz", **statistic.arrays())
        return 0
"""

COMPILE = ("compile", "m.onnx", "--recipe", "mine.toml", "-o", "out.onnx")
TEXT = ("--calibration", "s.txt", "--tokenizer", "tokenizer.json")
KEPT = "out.onnx.calibration"


@pytest.fixture
def ready(folder, text_model, normal):
    """A model of 8 tokens, a recipe that measures, 60 sentences and their tokenizer."""
    model = text_model(
        """g (int64[B,S] input_ids, int64[B,S] attention_mask) => (float[B,S,3] Y) {
             X = Gather (words, input_ids)
             Y = MatMul (X, W)
           }""",
        words=normal(8, 4),
        W=normal(4, 3),
    )
    onnx.save(model, folder / "m.onnx")
    (folder / "mine.toml").write_text(RECIPE)
    (folder / "watch.py").write_text(WATCH)
    words = [f"w{number}" for number in range(8)]
    made = Tokenizer(models.WordLevel(dict(zip(words, range(8), strict=True)), unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))
    lines = [" ".join(words[: 1 + number % 7]) for number in range(60)]
    (folder / "s.txt").write_text("\n".join(lines))


def told(folder):
    with np.load(folder / "told.npz") as arrays:
        return {name: array.tobytes() for name, array in arrays.items()}


def test_sentences(cli, ready, folder):
    ran = cli(*COMPILE, *TEXT, "--report", "r.json")
    assert ran.code == 0
    assert "Measured activations on 60 samples of s.txt, in " in ran.out
    done = json.loads((folder / "r.json").read_text())["calibration"]
    assert done.pop("seconds") > 0
    assert done == {"source": "s.txt", "samples": 60, "random": False, "resumed": 0}
    assert not (folder / KEPT).exists()


def test_random(cli, ready):
    ran = cli(*COMPILE, "--random-calibration", "4")
    assert ran.code == 0
    said = " ".join(ran.out.split())
    assert "Measured activations on 4 random samples, in " in said
    assert "Their ranges are not those of real data!" in said


def test_a_report_without_calibration(cli, ready, folder):
    assert cli("compile", "m.onnx", "--recipe", "float", "--report", "r.json").code == 0
    assert json.loads((folder / "r.json").read_text())["calibration"] is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "pass watch measures activations, which needs --calibration inputs.npz (an array"),
        (["--calibration", "no.npz"], "cannot read 'no.npz': No such file or directory"),
        (["--calibration", "m.onnx"], "'m.onnx' is not an .npz file of plain arrays"),
        (["--calibration", "s.txt"], "sentences, as in 's.txt', need the model's tokenizer: "),
        ([*TEXT[:3], "mine.toml"], "'mine.toml' is not a tokenizer.json: "),
        (["--tokenizer", "t.json"], "--tokenizer is for the sentences of --calibration, which is "),
        ([*TEXT, "--random-calibration", "3"], "--calibration and --random-calibration exclude "),
        (["--calibration", "few"], "folder 'few' holds no .npz file"),
        (["--calibration", "empty.txt", *TEXT[2:]], "the calibration data 'empty.txt' holds no "),
        (["--calibration", "wrong.npz"], "'wrong.npz' has no array 'attention_mask': the model "),
        (["--calibration", "type.npz"], "'type.npz': 'input_ids' is float64, the model wants "),
        (["--calibration", "shape.npz"], "'shape.npz': 'input_ids' has shape [3], the model wants"),
        (["--calibration", "ids.npz"], "sample 1 of 'ids.npz': 'input_ids' holds 8, and the model"),
        ([*TEXT[:3], "other.json"], "'s.txt', line 1: 'input_ids' holds 20, and the model looks "),
    ],
)
def test_bad_input(refused, ready, folder, arguments, text):
    (folder / "few").mkdir()
    (folder / "empty.txt").touch()
    ids = np.array([[1, 2, 3], [4, 5, 8]])
    np.savez("wrong.npz", input_ids=ids, mask=ids)
    np.savez("type.npz", input_ids=ids / 2, attention_mask=ids)
    np.savez("shape.npz", input_ids=ids[0], attention_mask=ids[0])
    np.savez("ids.npz", input_ids=ids, attention_mask=np.ones_like(ids))
    other = (folder / "tokenizer.json").read_text().replace('"w0":0', '"w0":20')
    (folder / "other.json").write_text(other.replace('"w0": 0', '"w0": 20'))
    assert refused(*COMPILE, *arguments).startswith(text)


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_resumed(program, cli, ready, folder, name):
    assert cli(*COMPILE, *TEXT).code == 0
    whole, compiled = told(folder), (folder / "out.onnx").read_bytes()
    (folder / "told.npz").unlink()
    (folder / "slow").touch()
    before = {path.name for path in folder.iterdir()}
    started = program(*COMPILE, *TEXT)
    while not (folder / "inside").exists():
        assert started.poll() is None, started.communicate()
        time.sleep(0.01)
    time.sleep(0.3)
    started.send_signal(name)
    output, errors = started.communicate(timeout=60)
    assert (started.returncode, output) == (1, "")
    assert errors == (
        "Error: interrupted: nothing was written, but what was measured is kept in "
        f"'{KEPT}', and the same command goes on from there\n"
    )
    left = {path.name for path in folder.iterdir()} - {"__pycache__"}
    assert left == before - {"__pycache__"} | {KEPT, "inside"}
    (folder / "slow").unlink()
    ran = cli(*COMPILE, *TEXT, "--report", "r.json")
    resumed = json.loads((folder / "r.json").read_text())["calibration"]["resumed"]
    assert 0 < resumed < 60
    assert f"({resumed} went on from an interrupted compile)." in " ".join(ran.out.split())
    assert told(folder) == whole
    assert (folder / "out.onnx").read_bytes() == compiled
    assert not (folder / KEPT).exists()
