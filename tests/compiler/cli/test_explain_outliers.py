"""sardonyx explain --outliers: its screen, its pictures, what it refuses."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from sardonyx.compiler.cli import screen
from sardonyx.compiler.cli.outliers_table import print_outliers
from sardonyx.compiler.outliers import Outliers, TensorOutliers
from sardonyx.models import TINY_BERT
from sardonyx.passes.activation_sites import Site
from sardonyx.passes.ffn_blocks import BLOCK_KINDS
from sardonyx.passes.quantize.observers.attention_ends import AttentionEnds
from sardonyx.passes.quantize.observers.channel_range import ChannelRange
from sardonyx.passes.quantize.observers.outlying_channels import OutlyingChannels

PICTURES = [f"outliers-{kind}.png" for kind in BLOCK_KINDS]


@pytest.fixture
def ready(folder, bert, monkeypatch):
    """A model, two sentences and a screen of 80 columns."""
    monkeypatch.setattr(screen.out, "width", 80)
    onnx.save(bert, folder / "bert.onnx")
    ids = np.random.default_rng(0).integers(1, TINY_BERT.vocab_size, (2, 7))
    masks = {"attention_mask": np.ones_like(ids), "token_type_ids": ids * 0}
    np.savez(folder / "ids.npz", input_ids=ids, **masks)
    return "bert.onnx", "--outliers", "--calibration", "ids.npz"


def made_up():
    """What may be found in a model of two layers, the second of which no sample reached."""
    tensors = []
    for kind in BLOCK_KINDS:
        beyond = np.array([0, 6, 0, 2, 1, 1])
        ends = np.arange(6, dtype=np.float32)
        seen = OutlyingChannels(6.0, beyond, 14.4), ChannelRange(-ends / 3, 10 * ends)
        tensors.append(TensorOutliers(0, kind, f"{kind}0", *seen))
        tensors.append(TensorOutliers(1, kind, f"{kind}1", OutlyingChannels(), ChannelRange()))
    shares = {"first": np.array([2**39, 2**37]), "last": np.array([2**35, 2**30])}
    roles = [("norm", "x"), ("activation", "g"), ("ffn_out", "h"), ("sum", "y"), ("query", "")]
    sites = tuple(Site(None, role, 0, kind) for role, kind in roles)
    return Outliers(tuple(tensors), {0: AttentionEnds(**shares, sequences=1)}, sites, 3)


def test_outliers(golden, ready):
    with screen.out.capture() as shown:
        print_outliers(Path("[m].onnx"), made_up(), screen.out)
    golden(shown.get())


def test_a_model_without_softmax_says_so(ready):
    found = made_up()
    with screen.out.capture() as shown:
        none = Outliers(found.tensors, {}, found.sites, 3)
        print_outliers(Path("m.onnx"), none, screen.out)
    assert "No attention was measured" in shown.get()


def test_a_real_run(cli, ready):
    ran = cli("explain", *ready)
    assert (ran.code, ran.err) == (0, "")
    assert "measured on 2 samples" in ran.out.replace("\n", " ")
    assert "quantizes 29 activations" in ran.out.replace("\n", " ")
    assert "x, h and y are 6 of them, 20.7%." in ran.out.replace("\n", " ")


def test_pictures(cli, ready, folder):
    for _ in range(2):  # the second time over the first's
        ran = cli("explain", *ready, "--plot", "pictures")
        assert (ran.code, ran.err) == (0, "")
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == sorted(PICTURES)
    for name in PICTURES:
        data = (folder / "pictures" / name).read_bytes()
        assert data.startswith(b"\x89PNG\r\n")
        assert f"Wrote pictures/{name}" in ran.out


REFUSED = {
    "no calibration": (("--outliers",), "--outliers measures activations, which needs --cal"),
    "no --outliers": (("--calibration", "ids.npz"), "--calibration is for --outliers, which is"),
    "no --outliers to plot": (("--plot", "there"), "--plot is for --outliers, which is missing"),
    "a name": (("name", "--outliers"), "NAME does not go with --outliers"),
    "a report": (("--outliers", "--report", "r.json"), "--report does not go with --outliers"),
    "pictures in a file": (
        ("--outliers", "--calibration", "ids.npz", "--plot", "ids.npz"),
        "'ids.npz' is a file: --plot names a folder for the pictures",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(refused, ready, name):
    arguments, reason = REFUSED[name]
    assert refused("explain", ready[0], *arguments).startswith(reason)


def test_matplotlib_is_missing(refused, ready, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert refused("explain", *ready, "--plot", "pictures") == (
        "matplotlib, which draws the pictures, is missing: pip install 'sardonyx[plots]'"
    )
