"""An interrupted calibration goes on where it was, and gives what it would have given."""

import logging
import os

import numpy as np
import pytest

from sardonyx.compiler import InputError, Recipe, compile
from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.observers.row_sample import RowSample

MODEL = "g (float[N,4] X) => (float[N,3] Y) { A = MatMul (X, W)\n Y = Relu (A) }"
SAMPLES = 9


@pytest.fixture
def small(text_model, normal):
    return text_model(MODEL, W=normal(4, 3))


@pytest.fixture
def data():
    values = np.random.default_rng(1).standard_normal((SAMPLES, 4)).astype(np.float32)
    return [{"X": values}]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.onnx.calibration"


def interrupt_at(sample):
    """Progress that is interrupted once so many samples are done."""

    def progress(what, done, total):
        assert (what, total) == ("Calibrating", SAMPLES)
        if done == sample:
            raise KeyboardInterrupt

    return progress


@pytest.fixture
def interrupted(measure, small, data, path):
    """Measure until so many samples are done."""

    def run(sample, *statistics, names="A Y", **options):
        options |= {"checkpoint": path, "progress": interrupt_at(sample)}
        with pytest.raises(KeyboardInterrupt) as error:
            measure(small, names, data, *statistics, **options)
        return str(error.value)

    return run


def state(measured):
    return {
        (name, number, key): array.tobytes()
        for name, statistics in measured.told.items()
        for number, each in enumerate(statistics)
        for key, array in each.arrays().items()
    }


@pytest.mark.parametrize("sample", [1, 4, SAMPLES])
def test_interrupted_and_resumed(measure, interrupted, small, data, path, sample):
    statistics = (Histogram(), RowSample(4))
    text = interrupted(sample, *statistics)
    assert text == (
        "interrupted: nothing was written, but what was measured is kept in "
        f"'{path}', and the same command goes on from there"
    )
    steps = []
    resumed = measure(
        small, "A Y", data, *statistics, checkpoint=path, progress=lambda *step: steps.append(step)
    )
    assert [done for _, done, _ in steps] == list(range(sample, SAMPLES + 1))
    assert resumed.compiled.report.calibration.resumed == sample
    assert state(resumed) == state(measure(small, "A Y", data, *statistics))
    assert not path.exists()


def test_interrupted_twice(measure, interrupted, small, data, path):
    interrupted(2)
    interrupted(5)
    resumed = measure(small, "A Y", data, checkpoint=path)
    assert resumed.compiled.report.calibration.resumed == 5
    assert state(resumed) == state(measure(small, "A Y", data))


def test_before_the_first_sample(interrupted, path):
    assert interrupted(0) == ""
    assert not path.exists()


def test_what_an_earlier_pass_measured_is_kept(watch, small, data, path):
    one, two = {}, {}
    recipe = Recipe("two", "", (watch(("A",), told=one), watch(("Y",), told=two)))
    counted = iter(range(2 * SAMPLES + 2))

    def progress(what, done, total):
        if next(counted) == SAMPLES + 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="goes on from there"):
        compile(small, recipe, data, checkpoint=path, progress=progress)
    done = compile(small, recipe, data, checkpoint=path)
    assert done.report.calibration.resumed == SAMPLES + 3
    assert one["A"][0].shapes.size == two["Y"][0].shapes.size == SAMPLES
    assert not path.exists()


def test_it_is_written_now_and_then(measure, small, data, path, monkeypatch):
    monkeypatch.setattr("sardonyx.compiler.checkpoint._EVERY_SECONDS", 0.0)
    there = []
    measure(small, "A", data, checkpoint=path, progress=lambda *_: there.append(path.exists()))
    assert there == [False] + [True] * SAMPLES
    assert not path.exists()


def ignored(measure, caplog, small, data, path, *statistics, names="A Y"):
    """The one warning of a compile that makes no use of what is there."""
    with caplog.at_level(logging.WARNING):
        done = measure(small, names, data, *statistics, checkpoint=path)
    assert done.compiled.report.calibration.resumed == 0
    assert state(done) == state(measure(small, names, data, *statistics))
    assert not path.exists()
    (record,) = caplog.records
    return record.getMessage()


@pytest.mark.parametrize("content", [b"", b"words", b"PK\x03\x04"])
def test_a_file_that_is_none(measure, caplog, small, data, path, content):
    path.write_bytes(content)
    text = ignored(measure, caplog, small, data, path)
    assert text == f"'{path}' is damaged: calibration starts anew"


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_file_cut_short(measure, caplog, interrupted, small, data, path, share):
    interrupted(4)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    text = ignored(measure, caplog, small, data, path)
    assert text == f"'{path}' is damaged: calibration starts anew"


def test_a_file_that_lacks_a_part(measure, caplog, interrupted, small, data, path):
    interrupted(4)
    with np.load(path) as arrays:
        kept = dict(list(arrays.items())[:-1])
    with path.open("wb") as file:
        np.savez(file, **kept)
    text = ignored(measure, caplog, small, data, path)
    assert text == f"'{path}' is damaged: calibration starts anew"


@pytest.mark.parametrize("other", ["model", "data", "tensors", "statistic"])
def test_of_something_else(measure, caplog, interrupted, text_model, small, data, path, other):
    statistics = (RowSample(4),)
    interrupted(4, *statistics)
    names = "A" if other == "tensors" else "A Y"
    if other == "model":
        small = text_model(MODEL, W=np.ones((4, 3), np.float32))
    elif other == "data":
        data[0]["X"][-1, -1] += 1
    elif other == "statistic":
        statistics = (RowSample(5),)
    text = ignored(measure, caplog, small, data, path, *statistics, names=names)
    assert text == (f"'{path}' is of another model, recipe or data: calibration starts anew")


def test_an_error_leaves_nothing_that_was_not_there(measure, interrupted, small, data, path):
    wrong = [data[0], {"X": np.ones((1, 4))}]
    with pytest.raises(InputError):
        measure(small, "A Y", wrong, checkpoint=path)
    assert os.listdir(path.parent) == []
    interrupted(4)
    with pytest.raises(InputError):
        measure(small, "A Y", wrong, checkpoint=path)
    assert measure(small, "A Y", data, checkpoint=path).compiled.report.calibration.resumed == 4


def test_an_error_takes_away_what_was_of_no_use(measure, interrupted, small, data, path, caplog):
    """As of other data, or damaged; also what was written anew before the error."""
    interrupted(4)
    wrong = [{"X": np.full((2, 4), 7, np.float32)}, {"X": np.ones((1, 4))}]
    with pytest.raises(InputError):
        measure(small, "A Y", wrong, checkpoint=path)
    assert path.exists()  # the data was refused before it was known to be other data
    other = [{"X": np.full((2, 4), np.nan, np.float32)}]
    with pytest.raises(InputError, match="NaN"):
        measure(small, "A Y", other, checkpoint=path)
    assert not path.exists()
    path.write_bytes(b"words")
    with pytest.raises(InputError, match="NaN"):
        measure(small, "A Y", other, checkpoint=path)
    assert not path.exists()


def test_a_compile_that_measures_nothing_takes_it_away(interrupted, small, data, path):
    interrupted(4)
    compile(small, Recipe("nothing", "", ()), checkpoint=path)
    assert not path.exists()
    path.write_bytes(b"a file of somebody's")
    compile(small, Recipe("nothing", "", ()), checkpoint=path)
    assert path.read_bytes() == b"a file of somebody's"
