"""The package installs with its native library, and without it where nothing can build it."""

import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++", "cmake", "ninja")

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the project's files."""
    folder = tmp_path_factory.mktemp("source")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def installed(source, tmp_path):
    """Install into an empty environment; its libraries and the wheel's tag."""

    def install(*options, path=None):
        home = tmp_path / "venv"
        venv.create(home, with_pip=True)
        subprocess.run(
            [home / "bin" / "python", "-m", "pip", "install", "--no-deps", *options, source],
            check=True,
            capture_output=True,
            env=os.environ | ({"PATH": str(path)} if path else {}),
        )
        tag = next(home.rglob("sardonyx-*.dist-info/WHEEL")).read_text()
        return list(home.rglob("*.so")), tag

    return install


@pytest.fixture
def path_without_compiler(tmp_path):
    """A PATH with all programs but those that build."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for place in reversed(os.get_exec_path()):
        for program in Path(place).glob("*") if Path(place).is_dir() else ():
            name = program.name.split("-")[0]
            if name not in COMPILERS:
                (folder / program.name).unlink(missing_ok=True)
                (folder / program.name).symlink_to(program)
    return folder


@pytest.mark.parametrize("options", [(), ("--editable",)])
def test_with_a_compiler(installed, options):
    libraries, tag = installed(*options)
    (library,) = libraries
    assert library.parts[-4:] == ("sardonyx", "runtime_ops", "native", "sardonyx_native.so")
    assert "Tag: py3-none-" in tag
    assert "Tag: py3-none-any" not in tag


@pytest.mark.parametrize("options", [(), ("--editable",)])
def test_without_a_compiler(installed, path_without_compiler, options):
    libraries, tag = installed(*options, path=path_without_compiler)
    assert not libraries
    assert "Tag: py3-none-any" in tag


def test_with_a_compiler_that_fails(installed, monkeypatch):
    monkeypatch.setenv("CXX", "false")
    libraries, tag = installed()
    assert not libraries
    assert "Tag: py3-none-any" in tag
