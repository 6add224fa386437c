"""The command line: `sardonyx` and, for the main job alone, `compile`."""

import sys


def main() -> None:
    """Entry point of ``sardonyx``."""
    _run("app")


def compile_main() -> None:
    """Entry point of ``compile``: the same as ``sardonyx compile``."""
    _run("compile_app")


def _run(name: str) -> None:
    try:
        from sardonyx.compiler.cli import app  # noqa: PLC0415 (Ctrl-C while it imports)

        getattr(app, name)()
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
