"""Running the command line: in this process where that will do, else in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sardonyx.compiler.cli.app import app

PROGRAM = "from sardonyx.compiler.cli import main; main()"


@dataclass(frozen=True)
class Ran:
    """What a command left: exit code, standard output and error."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def cli() -> Callable[..., Ran]:
    """Run ``sardonyx ARGUMENT...`` in this process; an exception that gets out fails the test."""

    def run(*arguments: object) -> Ran:
        result = CliRunner().invoke(app, list(map(str, arguments)))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def program() -> Callable[..., subprocess.Popen[str]]:
    """Start ``sardonyx ARGUMENT...`` in a process of its own, its output in pipes."""

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
        pipe = subprocess.PIPE
        options = {"stdout": pipe, "stderr": pipe, "text": True} | options
        return subprocess.Popen(command, **options)

    return start


def _contents(folder: Path) -> dict[str, bytes | None]:
    paths = sorted(folder.rglob("*"))
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in paths}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with an older result in it."""
    made = tmp_path / "work"
    made.mkdir()
    (made / "out.onnx").write_text("an older result")
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def refused(cli: Callable[..., Ran], folder: Path) -> Callable[..., str]:
    """Run a command that must fail: one sentence, exit code 1, no file changed or left behind."""

    def run(*arguments: object, code: int = 1) -> str:
        before = _contents(folder.parent)
        ran = cli(*arguments)
        assert (ran.code, ran.out) == (code, "")
        assert ran.err.startswith("Error: ")
        assert ran.err.endswith("\n")
        assert ran.err.count("\n") == 1
        assert "Traceback" not in ran.err
        assert _contents(folder.parent) == before
        assert not list(folder.rglob(".*"))
        return ran.err.removeprefix("Error: ").rstrip("\n")

    assert os.getcwd() == str(folder)
    return run
