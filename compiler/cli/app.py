"""The commands, put together."""

from importlib import metadata
from typing import Annotated

import typer

from sardonyx.compiler.cli import (
    compile_command,
    diff_command,
    explain_command,
    export_command,
    recipes_command,
    run_command,
    simulate_command,
    view_command,
)
from sardonyx.compiler.cli.screen import out

app = typer.Typer(
    help="Rewrite exported Transformer ONNX graphs into smaller ones that stock onnxruntime runs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"sardonyx {metadata.version('sardonyx')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """What comes before a command."""


app.command("compile")(compile_command.compile_model)
app.command("export")(export_command.export)
app.command("run")(run_command.run_model)
app.command("simulate")(simulate_command.simulate_model)
app.command("explain")(explain_command.explain_model)
app.command("diff")(diff_command.diff_models)
app.command("view")(view_command.view_model)
app.add_typer(recipes_command.recipes, name="recipes")

compile_app = typer.Typer(add_completion=False, rich_markup_mode="rich")
compile_app.command("compile")(compile_command.compile_model)
