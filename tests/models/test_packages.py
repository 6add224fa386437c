from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import sardonyx.models
from sardonyx.models import PACKAGES, PackageMissing, minilm_l3_onnx
from sardonyx.models.chained_file import ChainedFile
from sardonyx.models.optional import optional
from sardonyx.models.packages import (
    MINILM_L3,
    MPNET_PARTS,
    VADER_SDIST_VARIABLE,
    cached_vader_sdist,
    locate,
    vader_sdist,
)

FOLDER = Path(sardonyx.models.__file__).parent


def test_missing_packages_are_named_in_one_command():
    absent = [replace(MINILM_L3, name=f"no-such-data-{i}") for i in (1, 2)]
    command = "run `pip install --no-deps no-such-data-1==0.2.1 no-such-data-2==0.2.1`."
    with pytest.raises(PackageMissing, match=re.escape(command)):
        locate(*absent)


def test_another_version_counts_as_missing():
    with pytest.raises(PackageMissing, match=r"pip install --no-deps pytest==0\.0\.0"):
        locate(replace(MINILM_L3, name="pytest", version="0.0.0"))


def test_file_that_the_package_lacks():
    minilm_l3_onnx()
    with pytest.raises(PackageMissing, match=r"lacks absent\.bin: run `pip install"):
        locate(replace(MINILM_L3, file="absent.bin"))


def test_requirement_files_pin_what_the_table_pins():
    lines = [
        line
        for name in ("real-models.txt", "benchmark-data.txt", "exported-models.txt")
        for line in (FOLDER / name).read_text().splitlines()
        if not line.startswith("#")
    ]
    assert lines == [package.requirement for package in PACKAGES[:-1]]


def test_parts_installed_somewhere_on_the_path_are_found(tmp_path, monkeypatch):
    for part in MPNET_PARTS:
        info = tmp_path / f"{part.name.replace('-', '_')}-{part.version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {part.name}\nVersion: {part.version}\n")
        (info / "RECORD").write_text(f"data/{part.file},,\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert locate(*MPNET_PARTS) == [tmp_path / "data" / part.file for part in MPNET_PARTS]


def test_sdist_is_downloaded_once_into_the_cache(tmp_path, monkeypatch):
    commands = []

    def download(command, check):
        commands.append(command)
        cached_vader_sdist().touch()

    monkeypatch.delenv(VADER_SDIST_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", download)
    assert vader_sdist() == vader_sdist() == tmp_path / "sardonyx" / "vaderSentiment-3.3.2.tar.gz"
    assert [command[-1] for command in commands] == ["vaderSentiment==3.3.2"]


def test_sdist_named_by_the_environment_must_exist(monkeypatch):
    monkeypatch.setenv(VADER_SDIST_VARIABLE, "absent.tar.gz")
    with pytest.raises(PackageMissing, match=r"pip download .* vaderSentiment==3\.3\.2"):
        vader_sdist()


def test_missing_library_says_which_extra():
    with pytest.raises(ImportError, match=r"pip install 'sardonyx\[models\]'"):
        optional("no_such_library")


def test_import_needs_only_numpy_and_onnx():
    code = (
        "import sys, sardonyx.models;"
        "heavy = {'torch', 'safetensors', 'tokenizers', 'onnxruntime', 'transformers'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_chained_file_reads_and_seeks_across_pieces(tmp_path):
    whole = bytes(range(100))
    paths = [tmp_path / str(index) for index in range(4)]
    for path, (start, end) in zip(paths, [(0, 33), (33, 34), (34, 34), (34, 100)], strict=True):
        path.write_bytes(whole[start:end])
    with ChainedFile(paths) as file:
        assert file.read() == whole
        assert file.seek(-67, 2) == 33
        assert file.read(1) == whole[33:34]
        assert file.seek(30) == 30
        assert file.read(10) == whole[30:33]
        assert file.seek(1, 1) == file.tell() == 34
