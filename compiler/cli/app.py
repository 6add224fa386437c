"""The commands, put together."""

import typer

from sardonyx.compiler.cli import compile_command, recipes_command, run_command

app = typer.Typer(
    help="Rewrite exported Transformer ONNX graphs into smaller ones that stock onnxruntime runs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)
app.command("compile")(compile_command.compile_model)
app.command("run")(run_command.run_model)
app.add_typer(recipes_command.recipes, name="recipes")

compile_app = typer.Typer(add_completion=False, rich_markup_mode="rich")
compile_app.command("compile")(compile_command.compile_model)
