"""sardonyx recipes: the presets, and what one consists of."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated

import typer
from rich.table import Table

from sardonyx.compiler.cli.screen import errors_as_sentences, out
from sardonyx.compiler.recipe import load_recipe, preset_names
from sardonyx.passes.base import Pass

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
        table = Table("pass and its arguments", "value", "to change it")
        for a_pass in recipe.passes:
            table.add_row(f"[bold]{a_pass.name}[/]")
            for argument, value, change in _arguments(a_pass):
                table.add_row(f"  {argument}", value, change)
        out.print(table)


def _arguments(a_pass: Pass) -> Iterator[tuple[str, str, str]]:
    """Name, value and what changes it; of a table, for each of its keys."""
    for field in dataclasses.fields(a_pass):
        value = getattr(a_pass, field.name)
        place = f"--set {a_pass.name}.{field.name}"
        if not isinstance(value, Mapping):
            yield field.name, "the rule's default" if value is None else str(value), f"{place}="
        elif not value:
            yield field.name, "an empty table", f"{place}.KEY="
        else:
            yield from ((f"{field.name}.{k}", str(v), f"{place}.{k}=") for k, v in value.items())
