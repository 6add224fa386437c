"""sardonyx recipes: the presets, and what one consists of."""

import dataclasses
from typing import Annotated

import typer
from rich.table import Table

from sardonyx.compiler.cli.screen import errors_as_sentences, out
from sardonyx.compiler.recipe import load_recipe, preset_names

recipes = typer.Typer(help="List the recipes, or show one.", add_completion=False)


@recipes.callback(invoke_without_command=True)
def list_recipes(context: typer.Context) -> None:
    """List the recipes that come with Sardonyx."""
    if context.invoked_subcommand is not None:
        return
    table = Table("recipe", "what it does")
    for name in preset_names():
        table.add_row(name, load_recipe(name).description)
    out.print(table)


@recipes.command("show")
def show(name: Annotated[str, typer.Argument(help="A preset, or a path.")]) -> None:
    """Show a recipe's passes and all their arguments."""
    with errors_as_sentences("interrupted"):
        recipe = load_recipe(name)
        out.print(f"[bold]{recipe.name}[/]: {recipe.description}")
        table = Table("pass", "argument", "value", "to change it")
        for a_pass in recipe.passes:
            fields = dataclasses.fields(a_pass)
            for field in fields:
                value = getattr(a_pass, field.name)
                shown = "the rule's default" if value is None else str(value)
                table.add_row(a_pass.name, field.name, shown, f"--set {a_pass.name}.{field.name}=")
            if not fields:
                table.add_row(a_pass.name, "", "", "")
        out.print(table)
