"""sardonyx diff: how two models differ."""

from pathlib import Path
from typing import Annotated

import typer

from sardonyx.compiler.cli.diff_table import print_diff
from sardonyx.compiler.cli.screen import errors_as_sentences, out
from sardonyx.compiler.diff import diff


def diff_models(
    a: Annotated[Path, typer.Argument(help="An .onnx file.", show_default=False, readable=False)],
    b: Annotated[Path, typer.Argument(help="Another, as its compiled form.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="Print every difference, as JSON.")] = False,
) -> None:
    """Show how A and B differ: ops, number formats, bytes, constants, wiring."""
    with errors_as_sentences("interrupted"):
        found = diff(a, b)
        if json:
            typer.echo(found.to_json(), nl=False)
        else:
            print_diff(found, out)
