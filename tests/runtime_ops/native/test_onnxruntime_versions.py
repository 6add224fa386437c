"""The same library file on every onnxruntime from 1.17 on, each in an environment of its own."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from sardonyx import runtime_ops

CHILD = Path(__file__).parent / "child.py"
VERSIONS = ["1.17.*", "1.20.*", "1.23.*", "1.26.*", "newest"]


@pytest.fixture(scope="module")
def library():
    places = [Path(folder) / "native" / "sardonyx_native.so" for folder in runtime_ops.__path__]
    return next(path for path in places if path.is_file())


def environment(folder, *packages):
    """Python of a new environment with these packages."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", *packages]
    subprocess.run(command, check=True)
    return python


@pytest.mark.heavy
@pytest.mark.parametrize("version", VERSIONS)
def test_one_file_for_all(version, library, cases, tmp_path):
    """By the native ops, and by the bodies in stock onnxruntime."""
    name = "onnxruntime" if version == "newest" else f"onnxruntime=={version}"
    old = ["numpy<2"] if version == "1.17.*" else []
    python = environment(tmp_path / "venv", name, *old)
    for ops, expected in ((library, 49), ("none", 35)):
        ran = subprocess.run(
            [python, CHILD, ops, cases], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        found, count = ran.stdout.split()
        assert version == "newest" or found.startswith(version.removesuffix("*"))
        assert int(count) == expected


@pytest.mark.heavy
def test_before_1_17_it_declines(library, cases, tmp_path):
    python = environment(tmp_path / "venv", "onnxruntime==1.16.*", "numpy<2")
    ran = subprocess.run(
        [python, CHILD, library, cases], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "Sardonyx's native ops need onnxruntime 1.17 or newer, this is 1.16" in ran.stderr


@pytest.mark.parametrize("cpu", ["scalar", "avx2", "avx512"])
def test_every_instruction_set(cpu, library, cases, monkeypatch):
    """What the processor does not have is left out: the result is the same."""
    monkeypatch.setenv("SARDONYX_CPU", cpu)
    command = [sys.executable, CHILD, library, cases]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
