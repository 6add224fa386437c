"""Compiles, runs, explains and compares files in a process of its own, with little memory."""

from __future__ import annotations

import json
import resource
import sys
import traceback
from pathlib import Path

from typer.testing import CliRunner

from sardonyx.compiler.cli.app import app

MEMORY = 4 << 30
"""Bytes of address space: more than a small model needs, far less than a mad one asks for."""


def main() -> None:
    """Arguments: a file of inputs, then models. Compiles each; runs it and, if any, the result.

    Writes two JSON lines for each model: its path, then the answers of all commands.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    feeds, *models = sys.argv[1:]
    for model in models:
        output = f"{model}.out"
        say(model)
        answers = {
            "compiled": invoke("compile", model, "--recipe", "gobo", "-o", output),
            "ran": invoke("run", model, "--input", feeds),
            "explained": invoke("explain", model),
            "compared": invoke("diff", model, model),
        }
        if Path(output).exists():
            answers["result ran"] = invoke("run", output, "--input", feeds)
            Path(output).unlink()
        say(answers)


def invoke(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard error, and the traceback of what got out."""
    result = CliRunner().invoke(app, arguments)
    raised = result.exception and not isinstance(result.exception, SystemExit)
    text = "".join(traceback.format_exception(result.exception)) if raised else ""
    return result.exit_code, result.stderr, text


def say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


main()
