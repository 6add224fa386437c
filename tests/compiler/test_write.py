"""Writing: all or nothing, and never over the input."""

import errno
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from sardonyx.compiler import InputError, compile, stored, write
from sardonyx.compiler.stored import span_of
from sardonyx.compiler.write import check_output, replacing, write_model


@pytest.fixture
def compiled(bert_file):
    return compile(bert_file, "gobo", verify="off")


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_large_weights_go_to_a_data_file(compiled, tmp_path, monkeypatch, run_ort):
    feeds = {v.name: np.ones((1, 3), np.int64) for v in compiled.model.graph.input}
    want = run_ort(compiled.model, feeds)
    whole = onnx.ModelProto.FromString(compiled.model.SerializeToString())
    monkeypatch.setattr(stored, "LARGEST_INLINE", 1000)
    compiled.save(tmp_path / "out.onnx")
    assert listing(tmp_path) == ["out.onnx", "out.onnx.data", "source"]
    onnx.checker.check_model(tmp_path / "out.onnx")
    assert onnx.load(tmp_path / "out.onnx").graph.node == whole.graph.node
    assert all(map(np.array_equal, run_ort(tmp_path / "out.onnx", feeds), want))
    again = onnx.load(tmp_path / "out.onnx")
    assert again.functions == whole.functions
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in whole.graph.initializer}
    for tensor in again.graph.initializer:
        assert np.array_equal(onnx.numpy_helper.to_array(tensor), arrays[tensor.name])


def test_weights_that_no_pass_changed_go_from_file_to_file(
    bert, bert_file, tmp_path, monkeypatch, run_ort
):
    (tmp_path / "recipe.toml").write_text('[[passes]]\npass = "remove-unused"')
    monkeypatch.setattr(stored, "LARGEST_INLINE", 1000)
    compiled = compile(bert_file, tmp_path / "recipe.toml")
    assert compiled.model.ByteSize() < bert_file.stat().st_size / 4
    compiled.save(tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").stat().st_size > bert_file.stat().st_size / 2
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in bert.graph.initializer}
    for tensor in onnx.load(tmp_path / "out.onnx").graph.initializer:
        if tensor.name in arrays:
            assert np.array_equal(onnx.numpy_helper.to_array(tensor), arrays[tensor.name])
    feeds = {v.name: np.ones((1, 3), np.int64) for v in bert.graph.input}
    assert all(map(np.array_equal, run_ort(tmp_path / "out.onnx", feeds), run_ort(bert, feeds)))


@pytest.mark.parametrize("left", [0, 100_000, -1])
def test_a_source_that_was_cut_meanwhile(bert_file, tmp_path, monkeypatch, left):
    (tmp_path / "recipe.toml").write_text('[[passes]]\npass = "remove-unused"')
    monkeypatch.setattr(stored, "LARGEST_INLINE", 1000)
    compiled = compile(bert_file, tmp_path / "recipe.toml", verify="off")
    spans = [span_of(t) for t in compiled.model.graph.initializer]
    last = max(span.offset + span.length for span in spans if span)
    os.truncate(bert_file, left % last)
    with pytest.raises(InputError, match=r"bert\.onnx' became shorter while it was in use"):
        compiled.save(tmp_path / "out.onnx")
    assert listing(tmp_path) == ["recipe.toml", "source"]


def test_saving_leaves_the_model_as_it_is(compiled, tmp_path, monkeypatch):
    before = compiled.model.SerializeToString(deterministic=True)
    monkeypatch.setattr(stored, "LARGEST_INLINE", 1000)
    for name in ("one.onnx", "two.onnx"):
        compiled.save(tmp_path / name)
    assert compiled.model.SerializeToString(deterministic=True) == before
    assert (tmp_path / "one.onnx.data").read_bytes() == (tmp_path / "two.onnx.data").read_bytes()


@pytest.mark.parametrize("spilled", [False, True])
@pytest.mark.parametrize("call", ["write_bytes", "replace"])
def test_a_full_disk_leaves_nothing(compiled, tmp_path, monkeypatch, spilled, call):
    if spilled:
        monkeypatch.setattr(stored, "LARGEST_INLINE", 1000)
    (tmp_path / "out.onnx").write_text("older")

    def full(self, *arguments):
        if self.name.startswith(".out.onnx."):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, call, full)
    message = f"cannot write '{tmp_path / 'out.onnx'}.*': No space left on device"
    with pytest.raises(InputError, match=message):
        compiled.save(tmp_path / "out.onnx")
    assert listing(tmp_path) == ["out.onnx", "source"]
    assert (tmp_path / "out.onnx").read_text() == "older"


def test_a_full_disk_while_weights_are_written(compiled, tmp_path, monkeypatch):
    def full(model, file, location):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(stored, "LARGEST_INLINE", 1000)
    monkeypatch.setattr(write, "_spill", full)
    with pytest.raises(InputError, match=r"cannot write '.*out.onnx.data': No space left"):
        compiled.save(tmp_path / "out.onnx")
    assert listing(tmp_path) == ["source"]


def test_an_interrupt_leaves_nothing(tmp_path):
    (tmp_path / "old").write_text("older")

    def interrupted():
        with replacing(tmp_path / "old") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (listing(tmp_path), (tmp_path / "old").read_text()) == (["old"], "older")


def test_a_new_file_takes_the_place_of_the_old(tmp_path):
    (tmp_path / "old").write_text("older")
    with replacing(tmp_path / "old") as temporary:
        temporary.write_text("newer")
        assert (tmp_path / "old").read_text() == "older"
    assert (listing(tmp_path), (tmp_path / "old").read_text()) == (["old"], "newer")


def test_never_over_the_input(compiled, bert_file, tmp_path):
    link = tmp_path / "link.onnx"
    link.symlink_to(bert_file)
    before = bert_file.read_bytes()
    for output in (bert_file, link):
        with pytest.raises(InputError, match="is a file of the input: give another output with -o"):
            compiled.save(output)
    assert bert_file.read_bytes() == before


@pytest.mark.parametrize("output", ["w.bin", "x.onnx"])
def test_never_over_the_data_of_the_input(bert, tmp_path, monkeypatch, output):
    data = "w.bin" if output == "w.bin" else "x.onnx.data"
    copy = onnx.ModelProto.FromString(bert.SerializeToString())
    path = tmp_path / "m.onnx"
    onnx.save(copy, path, save_as_external_data=True, location=data, size_threshold=0)
    before = (tmp_path / data).read_bytes()
    monkeypatch.setattr(stored, "LARGEST_INLINE", 1000)
    with pytest.raises(InputError, match=f"{data}' is a file of the input"):
        compile(path, "gobo", verify="off").save(tmp_path / output)
    assert (tmp_path / data).read_bytes() == before
    assert listing(tmp_path) == sorted(["m.onnx", data])


def test_check_output(bert_file, tmp_path, monkeypatch):
    check_output(tmp_path / "new.onnx", bert_file)
    check_output(bert_file, tmp_path / "missing.onnx")
    for output, message in {
        tmp_path: "is a folder: give a file name",
        bert_file: "is an input: give another name",
        tmp_path / "no" / "new.onnx": f"output folder '{tmp_path / 'no'}' does not exist",
        bert_file / "new.onnx": f"output folder '{bert_file}' does not exist",
    }.items():
        with pytest.raises(InputError, match=message):
            check_output(output, bert_file)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="cannot be written: it or its folder is read-only"):
        check_output(tmp_path / "new.onnx", bert_file)


def test_check_output_of_an_old_file_that_is_read_only(bert_file, tmp_path, monkeypatch):
    (tmp_path / "old.onnx").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).is_dir())
    with pytest.raises(InputError, match="read-only"):
        check_output(tmp_path / "old.onnx", bert_file)


def test_write_model_takes_any_model(bert, tmp_path):
    write_model(bert, tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx") == bert
